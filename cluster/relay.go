package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// bundled answers a bundle, in its order: nobody where the partition is not led here, nil
// where it did not answer in time.
type bundled struct{ answers []any }

// nobody stands for an answer that no actor has given: the message was not taken.
type nobody struct{}

// RequestEach sends each partition its message, by one message a node, and calls take once for each, one at a
// time, with the answer or the error. Partitions without a leader are tried again until ctx ends, as Request does. It returns
// when all are through.
func (n *Node) RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(p crier.PartitionID, answer any, err error)) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		rest := n.requestOnce(ctx, messages, take)
		if len(rest) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			for p := range rest {
				take(p, nil, unknown(fmt.Errorf("no leader: %w", ctx.Err())))
			}
			return
		case <-time.After(pause/2 + rand.N(pause)):
			messages = rest
		}
	}
}

// requestOnce sends to every partition that has a leader, and returns what reached nobody.
func (n *Node) requestOnce(ctx context.Context, messages map[crier.PartitionID]any, take func(crier.PartitionID, any, error)) map[crier.PartitionID]any {
	rest := make(map[crier.PartitionID]any)
	bundles := make(map[string]*bundle) // by the address of the node's actors
	for p, m := range messages {
		pid := n.partitionPID(p)
		if pid == nil {
			rest[p] = m
			continue
		}
		b := bundles[pid.Address]
		if b == nil {
			b = &bundle{timeout: timeLeft(ctx)}
			bundles[pid.Address] = b
		}
		b.partitions, b.messages = append(b.partitions, p), append(b.messages, m)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for address, b := range bundles {
		wg.Go(func() {
			answers, err := n.askRelay(ctx, address, b)
			mu.Lock()
			defer mu.Unlock()
			for i, p := range b.partitions {
				switch {
				case err != nil:
					take(p, nil, err)
				case answers[i] == nobody{}:
					rest[p] = b.messages[i]
				default:
					failed := failureOf(answers[i])
					take(p, answers[i], failed)
				}
			}
		})
	}
	wg.Wait()
	return rest
}

// askRelay sends a bundle to a node. A node that has gone has taken nothing.
func (n *Node) askRelay(ctx context.Context, address string, b *bundle) ([]any, error) {
	message, err := n.outward(address, b)
	if err != nil {
		return nil, err
	}
	answer, err := n.ask(ctx, actor.NewPID(address, relayName), message)
	if errors.Is(err, actor.ErrDeadLetter) {
		answers := make([]any, len(b.partitions))
		for i := range answers {
			answers[i] = nobody{}
		}
		return answers, nil
	}
	if err != nil {
		return nil, unknown(err)
	}
	a, err := n.inward(answer)
	if err == nil && len(a.answers) != len(b.partitions) {
		err = fmt.Errorf("the relay answered %d of %d messages", len(a.answers), len(b.partitions))
	}
	if err != nil {
		return nil, unknown(err)
	}
	return a.answers, nil
}

// failureOf returns the error that an answer stands for.
func failureOf(answer any) error {
	switch a := answer.(type) {
	case failure:
		return a.Failure()
	case nil:
		return unknown(context.DeadlineExceeded)
	}
	return nil
}

// timeLeft is how long a message may take.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return askTimeout
}

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
	system  *actor.ActorSystem
	self    *actor.PID
	expires *time.Timer
	done    func([]any)

	mu      sync.Mutex
	answers []any
	missing int
}

// newCollector makes a collector of n answers. done is called once: when all are there, or after the timeout.
func newCollector(system *actor.ActorSystem, n int, timeout time.Duration, done func([]any)) *collector {
	c := &collector{system: system, done: done, answers: make([]any, n), missing: n}
	c.self, _ = system.ProcessRegistry.Add(c, system.ProcessRegistry.NextId())
	c.expires = time.AfterFunc(timeout, c.end)
	return c
}

// pid is the sender of the request with the number.
func (c *collector) pid(i int) *actor.PID {
	return &actor.PID{Address: c.self.Address, Id: c.self.Id, RequestId: uint32(i)}
}

// set takes one answer. Only the first counts.
func (c *collector) set(i int, answer any) {
	c.mu.Lock()
	taken := c.missing > 0 && i < len(c.answers) && c.answers[i] == nil
	if taken {
		c.answers[i] = answer
		c.missing--
	}
	last := taken && c.missing == 0
	c.mu.Unlock()
	if last {
		c.expires.Stop()
		c.finish()
	}
}

// end gives up on what is missing.
func (c *collector) end() {
	c.mu.Lock()
	open := c.missing > 0
	c.missing = 0
	c.mu.Unlock()
	if open {
		c.finish()
	}
}

func (c *collector) finish() {
	c.system.ProcessRegistry.Remove(c.self)
	c.done(c.answers)
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
