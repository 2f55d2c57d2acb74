package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/crier-im/crier"
)

// errLinkLost is what came of an attempt whose answer can't come any more.
var errLinkLost = unknown(errors.New("the connection to the node was lost"))

// attempt is what a request sends to one node at one time. It is the process that the node answers to.
type attempt struct {
	inbox      *inbox
	address    string // of the node's actors
	self       *actor.PID
	partitions []crier.PartitionID
	messages   []any
	heard      time.Time // when something came last, or it began
}

// silent reports whether nothing has come for so long that the bundle, or what came of it, must have been lost.
func (a *attempt) silent(now time.Time) bool { return now.Sub(a.heard) >= silentAfter }

// arrival is something that came for an attempt: a message of the node, or an error.
type arrival struct {
	attempt *attempt
	content any
}

// inbox holds what has come for a request until it looks.
type inbox struct {
	came     chan struct{} // capacity 1: there is something
	mu       sync.Mutex
	arrivals []arrival
}

func (b *inbox) put(x arrival) {
	b.mu.Lock()
	b.arrivals = append(b.arrivals, x)
	b.mu.Unlock()
	select {
	case b.came <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []arrival {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.arrivals
	b.arrivals = nil
	return all
}

// start sends an attempt to the relay of its node.
func (n *Node) start(a *attempt, timeout time.Duration) error {
	message, err := n.outward(a.address, &bundle{a.partitions, a.messages, timeout})
	if err != nil {
		return err
	}
	a.self, _ = n.system.ProcessRegistry.Add(a, n.system.ProcessRegistry.NextId())
	n.links.add(a)
	n.system.Root.RequestWithCustomSender(actor.NewPID(a.address, relayName), message, a.self)
	return nil
}

// forget ends an attempt: what comes for it later is a dead letter.
func (n *Node) forget(a *attempt) {
	if a.self != nil {
		n.system.ProcessRegistry.Remove(a.self)
		n.links.remove(a)
	}
}

// answersOf returns what came for an attempt, one for each of its messages. An error is of all of them.
func (n *Node) answersOf(x arrival) ([]any, error) {
	answers := make([]any, len(x.attempt.partitions))
	switch c := x.content.(type) {
	case error:
		return answers, c
	case *actor.DeadLetterResponse: // a node that has gone has taken nothing
		for i := range answers {
			answers[i] = nobody{}
		}
		return answers, nil
	}
	b, err := n.inward(x.content)
	if err == nil && len(b.answers) != len(answers) {
		err = fmt.Errorf("the relay answered %d of %d messages", len(b.answers), len(answers))
	}
	if err != nil {
		return answers, unknown(err)
	}
	return b.answers, nil
}

// SendUserMessage is protoactor's: the node has answered.
func (a *attempt) SendUserMessage(_ *actor.PID, message any) {
	_, content, _ := actor.UnwrapEnvelope(message)
	a.inbox.put(arrival{a, content})
}

// SendSystemMessage is protoactor's; nobody watches an attempt.
func (a *attempt) SendSystemMessage(*actor.PID, any) {}

// Stop is protoactor's.
func (a *attempt) Stop(*actor.PID) {}

// links knows which attempts wait for an answer of which node, and tells them when the connection to it is lost. A connection that comes
// back has lost what was on it. Safe for concurrent use.
type links struct {
	mu      sync.Mutex
	waiting map[string]map[*attempt]struct{} // by the address of the node's actors
}

func newLinks() *links { return &links{waiting: make(map[string]map[*attempt]struct{})} }

func (l *links) add(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[a.address] == nil {
		l.waiting[a.address] = make(map[*attempt]struct{})
	}
	l.waiting[a.address][a] = struct{}{}
}

func (l *links) remove(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting[a.address], a)
}

// onEvent takes an event of the actor system.
func (l *links) onEvent(event any) {
	lost, ok := event.(*remote.EndpointTerminatedEvent)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for a := range l.waiting[lost.Address] {
		a.inbox.put(arrival{a, errLinkLost})
	}
}

// jitter returns about d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
