package persistence

import (
	"errors"
	"time"
)

// errClosed is what a committer answers after its end.
var errClosed = errors.New("the store is closed")

const (
	// commitQueue bounds the batches that wait; one more waits in its sender.
	commitQueue = 1024
	// commitBytes bounds a merged transaction, well below what Badger takes (15 % of memTable). Only a
	// single batch may be larger.
	commitBytes = 2 << 20
	// commitGather is how long a round waits for more batches, if the one before it had several: groups that were
	// answered together come back together, and a sync costs the same for one or fifty of them. Measured with 8
	// connections and 64 groups: 26 batches a round instead of 6, and twice the changes a second. A lone writer never waits.
	commitGather = 2 * time.Millisecond
)

// entry is one write: a nil value deletes.
type entry struct{ key, value []byte }

// batch is writes that become durable together.
type batch struct {
	entries []entry
	bytes   int
	done    chan error
}

func (b *batch) set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.add(entry{key, value})
}

func (b *batch) delete(key []byte) { b.add(entry{key, nil}) }

func (b *batch) add(e entry) {
	b.entries = append(b.entries, e)
	b.bytes += len(e.key) + len(e.value) + 32
}

// committer writes the batches of all groups' logs, as many as wait, with one sync:
// Badger syncs once a transaction, whatever its size, and that is the price of a
// write. Its goroutine ends with stop.
type committer struct {
	db      *database
	delay   time.Duration // commitGather; 0 to measure the limit
	metrics *metrics
	last    int // batches of the round before
	queue   chan *batch
	quit    chan struct{}
	ended   chan struct{}
}

func startCommitter(db *database, delay time.Duration, m *metrics) *committer {
	c := &committer{
		db: db, delay: delay, metrics: m,
		queue: make(chan *batch, commitQueue), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	go c.run()
	return c
}

// commit blocks until the batch is durable. An empty batch is at once.
func (c *committer) commit(b *batch) error {
	if len(b.entries) == 0 {
		return nil
	}
	b.done = make(chan error, 1)
	select {
	case c.queue <- b:
	case <-c.quit:
		return errClosed
	}
	select {
	case err := <-b.done:
		return err
	case <-c.ended:
		select {
		case err := <-b.done:
			return err
		default:
			return errClosed
		}
	}
}

// stop ends the goroutine after the batch under way. Batches that wait are
// answered with errClosed.
func (c *committer) stop() {
	close(c.quit)
	<-c.ended
}

func (c *committer) run() {
	defer close(c.ended)
	for {
		select {
		case <-c.quit:
			return
		case first := <-c.queue:
			merged := c.gather(first)
			started := time.Now()
			err := c.db.commit(merged)
			c.metrics.logSync.Observe(time.Since(started).Seconds())
			c.metrics.logBatches.Observe(float64(len(merged)))
			for _, b := range merged {
				b.done <- err
			}
		}
	}
}

// gather takes what else waits, up to commitBytes. It waits for as many batches as the
// round before had, but no longer than the delay.
func (c *committer) gather(first *batch) []*batch {
	merged, size := []*batch{first}, first.bytes
	var late <-chan time.Time
	if c.last > 1 && c.delay > 0 {
		timer := time.NewTimer(c.delay)
		defer timer.Stop()
		late = timer.C
	}
	for size < commitBytes {
		if late == nil || len(merged) >= c.last {
			select {
			case b := <-c.queue:
				merged, size = append(merged, b), size+b.bytes
				continue
			default:
			}
			break
		}
		select {
		case b := <-c.queue:
			merged, size = append(merged, b), size+b.bytes
		case <-late:
			late = nil
		}
	}
	c.last = len(merged)
	return merged
}
