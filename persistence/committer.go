package persistence

import (
	"errors"
	"runtime"
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
	// commitGather bounds how long a round gathers batches. It ends as soon as all goroutines have had their turn and none has brought one: groups that were
	// told of their commits together go on together, and a sync costs the same for one or fifty of them. A lone writer waits for microseconds.
	commitGather = 2 * time.Millisecond
	// commitTurns is how often a round lets other goroutines run in vain before it ends.
	commitTurns = 3
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
	metrics *metrics
	queue   chan *batch
	quit    chan struct{}
	ended   chan struct{}
}

func startCommitter(db *database, m *metrics) *committer {
	c := &committer{
		db: db, metrics: m,
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

// gather takes what else waits or is about to come, up to commitBytes.
func (c *committer) gather(first *batch) []*batch {
	merged, size := []*batch{first}, first.bytes
	began := time.Now()
	for vain := 0; size < commitBytes && vain < commitTurns; {
		select {
		case b := <-c.queue:
			merged, size, vain = append(merged, b), size+b.bytes, 0
			continue
		default:
		}
		if time.Since(began) > commitGather {
			break
		}
		runtime.Gosched()
		vain++
	}
	return merged
}
