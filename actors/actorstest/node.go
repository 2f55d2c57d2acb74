// Package actorstest has what the tests of the actors and of their callers need in the
// place of disks, logs and gossip: partitions in memory, a directory within one process,
// and a connection that notes what it is given.
package actorstest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
)

// lookAgain is the pause before a partition that is not led is looked up again.
const lookAgain = 2 * time.Millisecond

// Node is every actor of a node, over partitions in memory. It implements
// actors.Router. Safe for concurrent use.
type Node struct {
	Service  *actors.Service
	System   *System
	Vendors  *Vendors
	Replicas []*Replica // by partition; they stay when the actor of their partition is stopped
	Registry *prometheus.Registry

	Grace, Idle time.Duration // of partitions that Start starts

	actors  *actor.ActorSystem
	metrics *actors.Metrics
	fanout  *actors.Fanout // with nobody to send to
	asking  sync.WaitGroup
	waiting atomic.Int32
	mu      sync.Mutex
	pids    map[crier.PartitionID]*actor.PID // of the partitions that are led
	terms   map[crier.PartitionID]uint64
	news    chan struct{}
	stop    context.CancelFunc
}

// NewNode starts a node with n partitions, all of them led, and the apps. Close ends it.
func NewNode(n int, apps ...*crier.App) *Node {
	quiet := slog.New(slog.DiscardHandler)
	node := &Node{
		System: NewSystem(apps...), Vendors: new(Vendors), Registry: prometheus.NewRegistry(), pids: make(map[crier.PartitionID]*actor.PID),
		terms: make(map[crier.PartitionID]uint64), news: make(chan struct{}),
		actors: actor.NewActorSystemWithConfig(actor.Configure(
			actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))),
	}
	node.metrics = actors.NewMetrics(node.Registry)
	node.fanout = actors.NewFanout(node.metrics, quiet)
	for range n {
		node.Replicas = append(node.Replicas, NewReplica())
	}
	for p := range n {
		node.Start(crier.PartitionID(p))
	}
	node.pids[crier.SystemPartition] = node.actors.Root.Spawn(actors.SystemProps(node.System, node.metrics))
	node.Service = actors.NewService("node", node, node.System, node.Vendors, node.actors, actors.DefaultCallTimeout, node.metrics, quiet)
	following, stop := context.WithCancel(context.Background())
	node.stop = stop
	node.asking.Go(func() { node.Service.FollowLeaders(following) })
	node.asking.Go(func() { node.Service.FollowApps(following) })
	return node
}

// Start starts the actor of a partition, as a node does that has come to lead it. One that runs still goes on, as on a node that does not know that it
// leads no more.
func (n *Node) Start(p crier.PartitionID) {
	n.mu.Lock()
	n.terms[p]++
	term := n.terms[p]
	n.mu.Unlock()
	pid := n.actors.Root.Spawn(actors.PartitionProps(actors.Deps{
		Partition: p, Term: term, Replica: n.Replicas[p], System: n.System, Directory: n, Vendors: n.Vendors, Grace: n.Grace, Idle: cmp.Or(n.Idle, actors.DefaultIdle),
		Fanout: n.fanout, Metrics: n.metrics, Logger: slog.New(slog.DiscardHandler),
	}))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pids[p] = pid
	close(n.news)
	n.news = make(chan struct{})
}

// Term is actors.Router's.
func (n *Node) Term(p crier.PartitionID) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.terms[p]
}

// News is actors.Router's.
func (n *Node) News() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.news
}

// Stop ends the actor of a partition and waits for that, as a node does that has lost
// leadership. Requests wait from then on until Start.
func (n *Node) Stop(p crier.PartitionID) error {
	n.mu.Lock()
	pid := n.pids[p]
	delete(n.pids, p)
	n.mu.Unlock()
	if pid == nil {
		return nil
	}
	return n.actors.Root.StopFuture(pid).Wait()
}

// Close stops every partition and waits for the requests under way.
func (n *Node) Close() error {
	errs := make([]error, 0, len(n.Replicas)+1)
	for p := range n.Replicas {
		errs = append(errs, n.Stop(crier.PartitionID(p)))
	}
	errs = append(errs, n.Stop(crier.SystemPartition))
	n.stop()
	n.asking.Wait()
	n.actors.Shutdown()
	return errors.Join(errs...)
}

// Partitions is actors.Directory's.
func (n *Node) Partitions() int { return len(n.Replicas) }

// PID returns the actor of an identity's partition, nil while that is not led.
func (n *Node) PID(kind, identity string) *actor.PID {
	p, ok := crier.PartitionOfIdentity(kind, identity, len(n.Replicas))
	if !ok {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pids[p]
}

// Waiting returns how many requests have been sent and have no answer yet.
func (n *Node) Waiting() int { return int(n.waiting.Load()) }

// Root returns the context with which a test sends by itself.
func (n *Node) Root() *actor.RootContext { return n.actors.Root }

// Request is actors.Directory's.
func (n *Node) Request(ctx context.Context, kind, identity string, msg any) (any, error) {
	var last error
	for {
		if pid := n.PID(kind, identity); pid != nil {
			answer, err := n.ask(ctx, pid, msg)
			if !errors.Is(err, actor.ErrDeadLetter) && !errors.Is(err, crier.CodeTimeout) {
				return answer, err
			}
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(last, crier.CodeTimeout) {
				return nil, last
			}
			return nil, crier.Errorf(crier.CodeTimeout, "no leader: %s", ctx.Err())
		case <-time.After(lookAgain):
		}
	}
}

// RequestEach is actors.Directory's.
func (n *Node) RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(crier.PartitionID, any, error)) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for p, m := range messages {
		wg.Go(func() {
			answer, err := n.Request(ctx, crier.KindPartition, p.String(), m)
			mu.Lock()
			defer mu.Unlock()
			take(p, answer, err)
		})
	}
	wg.Wait()
}

// asker takes the answer to one request. The first counts: protoactor's future takes a second one, such as that of an actor which panics after it has answered,
// while the first is read.
type asker chan any

// SendUserMessage is actor.Process's.
func (a asker) SendUserMessage(_ *actor.PID, message any) {
	select {
	case a <- actor.UnwrapEnvelopeMessage(message):
	default:
	}
}

// SendSystemMessage is actor.Process's.
func (a asker) SendSystemMessage(*actor.PID, any) {}

// Stop is actor.Process's.
func (a asker) Stop(*actor.PID) {}

// ask sends msg and waits for one answer, or for the end of ctx.
func (n *Node) ask(ctx context.Context, pid *actor.PID, msg any) (any, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	answers, registry := make(asker, 1), n.actors.ProcessRegistry
	self, _ := registry.Add(answers, registry.NextId())
	defer registry.Remove(self)
	n.waiting.Add(1)
	defer n.waiting.Add(-1)
	n.actors.Root.RequestWithCustomSender(pid, msg, self)
	select {
	case answer := <-answers:
		switch a := answer.(type) {
		case *actor.DeadLetterResponse:
			return nil, actor.ErrDeadLetter
		case interface{ Failure() error }:
			return nil, a.Failure()
		}
		return answer, nil
	case <-ctx.Done():
		return nil, crier.Errorf(crier.CodeTimeout, "%s", ctx.Err())
	}
}
