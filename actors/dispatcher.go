package actors

import (
	"runtime"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// workersEach is how many workers a dispatcher has for each processor at most: its actors may read from a disk, but wait for nobody; only at its end a user actor does, for its commands.
const workersEach = 8

// dispatcher runs the mailboxes of many actors that have little to do each, on a few goroutines. protoactor by itself starts one for each mailbox that has something, so that a push
// to many connections starts two for each of them, whose stacks grow every time. Safe for concurrent use.
type dispatcher struct {
	mu      sync.Mutex
	waiting fifo[*mailbox]
	workers int
	most    int
}

// Those of user actors and of sessions have one each, so that a message to many goes on to the first session before the last user has it.
var users, sessions = newDispatcher(), newDispatcher()

func newDispatcher() *dispatcher { return &dispatcher{most: workersEach * runtime.GOMAXPROCS(0)} }

// mailbox is an actor.MailboxProducer: it returns one that the dispatcher runs.
func (d *dispatcher) mailbox() actor.Mailbox { return &mailbox{dispatcher: d} }

// schedule runs a mailbox when those that came before it have had their turn.
func (d *dispatcher) schedule(m *mailbox) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting.push(m)
	if d.workers < d.most {
		d.workers++
		go d.work()
	}
}

// work runs what waits until nothing does.
func (d *dispatcher) work() {
	for m := d.take(); m != nil; m = d.take() {
		m.run()
	}
}

// take returns what has waited longest, nil where nothing does: the worker ends.
func (d *dispatcher) take() *mailbox {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting.len() == 0 {
		d.workers--
		return nil
	}
	return d.waiting.pop()
}
