package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// firstPause and lastPause bound the wait before a leader is looked up again.
	firstPause = 5 * time.Millisecond
	lastPause  = 200 * time.Millisecond
	// askTimeout bounds the wait for an answer where the context has no deadline.
	askTimeout = 5 * time.Second
)

// failure is an answer that stands for an error.
type failure interface{ Failure() error }

// Request sends msg to the virtual actor and waits for its answer; an answer with
// a method Failure comes back as its error. While there is no leader, or the message reached nobody,
// it looks again, until ctx ends. A message that may have been taken is not sent twice: then the outcome is
// unknown, which is crier.CodeTimeout. Actors must not call it from Receive, since it blocks.
func (n *Node) Request(ctx context.Context, kind, identity string, msg any) (any, error) {
	p, ok := crier.PartitionOfIdentity(kind, identity, n.cfg.Partitions)
	if !ok {
		return nil, crier.Errorf(crier.CodeInternal, "there is no actor of kind %q named %s", kind, crier.Quote(identity))
	}
	var result any
	var failed error
	n.RequestEach(ctx, map[crier.PartitionID]any{p: msg}, func(_ crier.PartitionID, answer any, err error) { result, failed = answer, err })
	if failed != nil {
		return nil, failed
	}
	return result, nil
}

// ask waits for one answer until the deadline of ctx.
func (n *Node) ask(ctx context.Context, pid *actor.PID, msg any) (any, error) {
	timeout := timeLeft(ctx)
	if err := ctx.Err(); err != nil || timeout <= 0 {
		return nil, errors.Join(err, context.DeadlineExceeded)
	}
	future := n.system.Root.RequestFuture(pid, msg, timeout)
	answered := make(chan answer, 1)
	n.asking.Go(func() { // ends with the answer or the timeout; a future can't be given up
		v, err := future.Result()
		answered <- answer{v, err}
	})
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer is how a future ended.
type answer struct {
	value any
	err   error
}

// Partitions returns P.
func (n *Node) Partitions() int { return n.cfg.Partitions }
