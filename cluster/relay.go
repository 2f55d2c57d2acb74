package cluster

import (
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// relayName is the actor of every node that takes what is meant for several of its partitions.
const relayName = "relay"

// bundle is what a node gets for its partitions in one message: one message each.
type bundle struct {
	partitions []crier.PartitionID
	messages   []any
	timeout    time.Duration
}

// bundled answers a bundle, in its order: nobody where the partition is not led here, elsewhere where another
// bundled has the answer or will have it, nil where it did not come in time.
type bundled struct{ answers []any }

type (
	// nobody stands for an answer that no actor has given: the message was not taken.
	nobody struct{}
	// elsewhere stands for an answer that another message brings.
	elsewhere struct{}
)

// answersWait is how long answers wait for others of the same bundle. A partition that loses its leader may never answer; what
// the others have answered must not wait for it.
const answersWait = 50 * time.Millisecond

// A relay that has nothing to answer says after answersWait, and then every signEvery, that it has the bundle. Who has heard nothing for silentAfter takes the bundle, or
// its answer, for lost: protoactor drops what it is about to send when a connection ends.
const (
	signEvery   = 500 * time.Millisecond
	silentAfter = time.Second
)

// relay hands the messages of a bundle to the actors of the partitions that this node leads, and sends
// their answers back in one.
type relay struct{ node *Node }

// Receive takes one message.
func (r *relay) Receive(ctx actor.Context) {
	var b *bundle
	sender, remote := ctx.Sender(), false
	switch m := ctx.Message().(type) {
	case *bundle:
		b = m
	case *clusterv1.Bundle:
		remote = true
		var err error
		if b, err = r.node.unpack(m); err != nil {
			r.node.log.Warn("a bundle of another node can't be read: is this node older?", "err", err)
			return
		}
	default:
		return // of protoactor's own
	}
	c := newCollector(ctx.ActorSystem(), len(b.partitions), b.timeout, func(answers []any) {
		if remote {
			r.node.system.Root.Send(sender, r.node.pack(answers))
			return
		}
		r.node.system.Root.Send(sender, &bundled{answers})
	})
	for i, p := range b.partitions {
		if pid := r.node.localPID(p); pid != nil {
			ctx.RequestWithCustomSender(pid, b.messages[i], c.pid(i))
		} else {
			c.set(i, nobody{})
		}
	}
}

// collector gathers the answers to several requests: it is the sender of each, under its number. It does for a
// hundred requests what would take a hundred futures, each with its timer and its place in the registry.
type collector struct {
	system *actor.ActorSystem
	self   *actor.PID
	timer  *time.Timer
	send   func([]any)

	mu      sync.Mutex
	answers []any // elsewhere: has been sent
	missing int
	news    bool          // something has come that was not sent
	quiet   time.Duration // since something was sent
	left    time.Duration // until it gives up on what is missing
}

// newCollector makes a collector of n answers. send is called one at a time: with all answers where they come
// together, and else with what there is, every answersWait, or with nothing, as a sign; for the last time after the timeout.
func newCollector(system *actor.ActorSystem, n int, timeout time.Duration, send func([]any)) *collector {
	c := &collector{system: system, send: send, answers: make([]any, n), missing: n, quiet: signEvery, left: timeout}
	c.self, _ = system.ProcessRegistry.Add(c, system.ProcessRegistry.NextId())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(answersWait, c.tick)
	return c
}

// pid is the sender of the request with the number.
func (c *collector) pid(i int) *actor.PID {
	return &actor.PID{Address: c.self.Address, Id: c.self.Id, RequestId: uint32(i)}
}

// set takes one answer. Only the first counts.
func (c *collector) set(i int, answer any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing == 0 || i >= len(c.answers) || c.answers[i] != nil {
		return
	}
	c.answers[i], c.news = answer, true
	if c.missing--; c.missing == 0 {
		c.finish()
	}
}

// tick sends what has come, and gives up after the timeout.
func (c *collector) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing == 0 {
		return
	}
	if c.left -= answersWait; c.left <= 0 {
		c.missing = 0
		c.finish()
		return
	}
	if c.quiet += answersWait; c.news || c.quiet >= signEvery {
		c.news, c.quiet = false, 0
		now := slices.Clone(c.answers)
		for i, a := range now {
			if a == nil {
				now[i] = elsewhere{}
			} else {
				c.answers[i] = elsewhere{}
			}
		}
		c.send(now)
	}
	c.timer.Reset(answersWait)
}

// finish sends the rest. The caller holds mu.
func (c *collector) finish() {
	c.timer.Stop()
	c.system.ProcessRegistry.Remove(c.self)
	c.send(c.answers)
}

// SendUserMessage is protoactor's: an answer has come.
func (c *collector) SendUserMessage(pid *actor.PID, message any) {
	_, answer, _ := actor.UnwrapEnvelope(message)
	if _, dead := answer.(*actor.DeadLetterResponse); dead {
		answer = nobody{}
	}
	c.set(int(pid.GetRequestId()), answer)
}

// SendSystemMessage is protoactor's; nobody watches a collector.
func (c *collector) SendSystemMessage(*actor.PID, any) {}

// Stop is protoactor's.
func (c *collector) Stop(*actor.PID) {}
