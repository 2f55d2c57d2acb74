package client

import (
	"testing"
	"time"
)

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	t.Parallel()
	b := backoff{least: 100 * time.Millisecond, most: time.Second}
	check := func(bounds ...time.Duration) {
		t.Helper()
		for i, bound := range bounds {
			if got := b.next(); got < bound/2 || got > bound {
				t.Errorf("wait %d: %v is not in %v..%v", i, got, bound/2, bound)
			}
		}
	}
	ms := time.Millisecond
	check(100*ms, 200*ms, 400*ms, 800*ms, 1000*ms, 1000*ms)
	b.reset()
	check(100 * ms)
}

func TestBackoffIsRandom(t *testing.T) {
	t.Parallel()
	different := make(map[time.Duration]bool)
	for range 20 {
		b := backoff{least: time.Second, most: time.Second}
		different[b.next()] = true
	}
	if len(different) < 10 {
		t.Errorf("%d different waits of 20", len(different))
	}
}
