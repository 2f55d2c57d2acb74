package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff waits longer each time, and never as long as others who began with
// it: each wait is between half and all of a bound that doubles from least to most.
type backoff struct {
	least, most time.Duration
	bound       time.Duration
}

// next returns how long to wait now.
func (b *backoff) next() time.Duration {
	b.bound = min(max(2*b.bound, b.least), b.most)
	return b.bound/2 + rand.N(b.bound/2+1)
}

// reset begins with least again.
func (b *backoff) reset() { b.bound = 0 }

// sleep waits, and returns the context's error if that ends first.
func (b *backoff) sleep(ctx context.Context) error {
	t := time.NewTimer(b.next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
