package persistence

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crier-im/crier"
)

const (
	// flushDelay is how long what commands write stays in memory before it goes to disk: what has changed in that time
	// is one synced transaction, and what a crash takes of it is read from the log again (docs/adr/0009).
	flushDelay = time.Second
	// overlayBytes bounds what a group holds back; over it, commands wait for the disk. With the largest command it
	// must fit into one transaction, which Badger bounds to 15 % of memTable.
	overlayBytes = 1 << 20
	// overlayEarly is how much a group holds back when the flush begins without the delay, so that commands need not wait for it.
	overlayEarly = overlayBytes / 12
)

// overlay is what a group's commands have written since its last flush, by key; a nil value deletes.
type overlay struct {
	writes map[string][]byte
	bytes  int
}

func (o *overlay) set(key, value []byte) {
	if o.writes == nil {
		o.writes = make(map[string][]byte)
	}
	old, had := o.writes[string(key)]
	if had {
		o.bytes -= len(old)
	} else {
		o.bytes += len(key) + 64 // what the map and Badger need beside key and value
	}
	o.writes[string(key)] = value
	o.bytes += len(value)
}

// flusher writes the overlays of all groups to the state database, as many groups as have changed at a time, each
// whole and with its applied index in the same transaction. Its goroutine ends with stop.
type flusher struct {
	db      *database
	delay   time.Duration
	fatal   func(error)
	metrics *metrics

	mu      sync.Mutex
	waiting []*base // groups that have changed, each once

	wake  chan struct{} // something waits
	hurry chan struct{} // a group can't wait for the delay
	quit  chan struct{}
	ended chan struct{}
}

func startFlusher(db *database, fatal func(error), m *metrics) *flusher {
	f := &flusher{
		db: db, delay: flushDelay, fatal: fatal, metrics: m,
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	go f.run()
	return f
}

// signal wakes a goroutine that may have been woken already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add tells that a group has changed.
func (f *flusher) add(b *base) {
	f.mu.Lock()
	f.waiting = append(f.waiting, b)
	f.mu.Unlock()
	signal(f.wake)
}

func (f *flusher) run() {
	defer close(f.ended)
	for {
		select {
		case <-f.wake:
		case <-f.quit:
			f.flush()
			return
		}
		delay := time.NewTimer(f.delay)
		select {
		case <-delay.C:
		case <-f.hurry:
		case <-f.quit:
		}
		delay.Stop()
		f.flush()
	}
}

// stop writes what waits, and ends the goroutine. No group may change after it.
func (f *flusher) stop() {
	close(f.quit)
	<-f.ended
}

// flush writes every group that waits, several in a transaction.
func (f *flusher) flush() {
	select {
	case <-f.hurry: // whoever set it is served now
	default:
	}
	f.mu.Lock()
	groups := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	var taken []*base
	var batches []*batch
	size := 0
	for i, b := range groups {
		if w := b.take(); w != nil {
			taken, batches, size = append(taken, b), append(batches, w), size+w.bytes
		}
		if size < commitBytes && i < len(groups)-1 {
			continue
		}
		if !f.write(taken, batches) {
			return
		}
		taken, batches, size = nil, nil, 0
	}
}

// write commits what was taken of some groups, and reports whether it is durable. A group whose writes fail can't
// go on: its memory is ahead of its disk for ever.
func (f *flusher) write(taken []*base, batches []*batch) bool {
	if len(taken) == 0 {
		return true
	}
	started := time.Now()
	if err := f.db.commit(batches); err != nil {
		for _, b := range taken {
			b.fail()
		}
		f.fatal(fmt.Errorf("write the state of %d partitions: %w", len(taken), err))
		return false
	}
	f.metrics.flush.Observe(time.Since(started).Seconds())
	for i, b := range taken {
		f.metrics.flushBytes.Add(float64(batches[i].bytes))
		b.taken()
	}
	return true
}

// take moves the overlay to where the flusher reads it, and returns it as a batch with the applied index; nil
// where nothing has changed.
func (b *base) take() *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.changed {
		return nil
	}
	b.changed = false
	b.flushing, b.dirty = b.dirty, overlay{}
	b.storing = cloneMeta(b.meta)
	b.flushed.Broadcast() // there is room again
	w := &batch{entries: make([]entry, 0, len(b.flushing.writes)+1)}
	for k, v := range b.flushing.writes {
		w.add(entry{[]byte(k), v})
	}
	w.set(b.keys.kind(kindMeta), marshal(b.storing))
	return w
}

// taken ends a flush: what take returned is durable.
func (b *base) taken() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stored, b.storing, b.flushing = b.storing, nil, overlay{}
	b.flushed.Broadcast()
}

// fail ends the group: nothing more is taken.
func (b *base) fail() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = true
	b.flushed.Broadcast()
}

// touch notes that the state has changed. The caller holds mu.
func (b *base) touch() {
	if !b.changed {
		b.changed = true
		b.store.states.add(b)
	}
	if b.dirty.bytes > overlayEarly {
		signal(b.store.states.hurry)
	}
}

// errReplaced is why what was waited for does not become durable.
var errReplaced = errors.New("the state was replaced or deleted meanwhile")

// waitForRoom blocks while the group holds back too much. The caller holds mu.
func (b *base) waitForRoom() error {
	for b.dirty.bytes > overlayBytes && !b.failed {
		signal(b.store.states.hurry)
		b.flushed.Wait()
	}
	if b.failed {
		return crier.Errorf(crier.CodeInternal, "the state can't be written")
	}
	return nil
}

// waitWritten blocks until what has changed is durable, also where the index is the one that the disk has.
func (b *base) waitWritten(index uint64) error {
	b.mu.Lock()
	b.waitFlushed()
	b.mu.Unlock()
	return b.waitStored(index)
}

// waitFlushed blocks until nothing waits for the flusher or is on its way to the disk: what replaces or deletes the state holds mu for long, and the flusher, which
// writes for all groups, must not wait for it. The caller holds mu.
func (b *base) waitFlushed() {
	for (b.changed || b.storing != nil) && !b.failed {
		signal(b.store.states.hurry)
		b.flushed.Wait()
	}
}

// waitStored blocks until everything up to index is durable. It is an error where the state is replaced by an older one meanwhile, or deleted.
func (b *base) waitStored(index uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.stored.GetIndex() < index && !b.failed {
		if b.meta.GetIndex() < index {
			return errReplaced
		}
		signal(b.store.states.hurry)
		b.flushed.Wait()
	}
	if b.failed {
		return errClosed
	}
	return nil
}
