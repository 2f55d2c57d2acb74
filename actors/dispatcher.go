package actors

import (
	"runtime"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// workersEach is how many workers a dispatcher has for each processor at most: its actors may read from a disk, but wait for nobody.
const workersEach = 8

// dispatcher runs the mailboxes of many actors that have little to do each, on a few goroutines. protoactor by itself starts one for each mailbox that has something, so that a push
// to many connections starts two for each of them, whose stacks grow every time. Safe for concurrent use.
type dispatcher struct {
	mu      sync.Mutex
	waiting []func() // in order; what is before next has run
	next    int
	workers int
	most    int
}

var _ actor.Dispatcher = (*dispatcher)(nil)

// Those of user actors and of sessions have one each, so that a message to many goes on to the first session before the last user has it.
var users, sessions = newDispatcher(), newDispatcher()

func newDispatcher() *dispatcher { return &dispatcher{most: workersEach * runtime.GOMAXPROCS(0)} }

// Schedule is actor.Dispatcher's.
func (d *dispatcher) Schedule(run func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == cap(d.waiting) && d.next > len(d.waiting)/2 {
		n := copy(d.waiting, d.waiting[d.next:])
		clear(d.waiting[n:])
		d.waiting, d.next = d.waiting[:n], 0
	}
	d.waiting = append(d.waiting, run)
	if d.workers < d.most {
		d.workers++
		go d.work()
	}
}

// Throughput is actor.Dispatcher's: how many messages an actor takes before others get a turn of the processor.
func (d *dispatcher) Throughput() int { return 300 }

// work runs what waits until nothing does.
func (d *dispatcher) work() {
	for run := d.take(); run != nil; run = d.take() {
		run()
	}
}

// take returns what has waited longest, nil where nothing does: the worker ends.
func (d *dispatcher) take() func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == len(d.waiting) {
		d.workers--
		return nil
	}
	run := d.waiting[d.next]
	d.waiting[d.next] = nil
	if d.next++; d.next == len(d.waiting) {
		d.waiting, d.next = d.waiting[:0], 0
	}
	return run
}
