package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// controlTimeout bounds one question to a node, or one step.
const controlTimeout = 10 * time.Second

// controlName is the actor of a node that tells of its replicas, and takes the steps of moves. It has the node's id in it: a node whose disk was replaced has
// the addresses of the one before, and must not answer for it.
func controlName(node string) string { return "control-" + node }

var (
	errStarting       = errors.New("the node is starting")
	errNotThere       = errors.New("the node is not there")
	errUnsure         = errors.New("it may be done all the same")
	errNotCoordinator = errors.New("this node does not lead the system group")
	// ErrRemoved is why a node ends that an operator has removed from the cluster.
	ErrRemoved = errors.New("this node was removed from the cluster, and its id does not come back: start it on an empty data directory to join as a new one")
)

// control is the actor. What takes time runs beside it.
type control struct {
	node    *Node
	running sync.WaitGroup
	ctx     context.Context // of what runs
	cancel  context.CancelFunc
}

func newControl(n *Node) *control {
	c := &control{node: n}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Receive takes one message.
func (c *control) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Stopping:
		c.cancel()
		c.running.Wait()
	case *clusterv1.Survey:
		c.node.wakeIdle()
		ctx.Respond(c.node.survey())
	case *clusterv1.Step:
		c.step(ctx, func(call context.Context) error { return c.node.takeStep(call, m) })
	case *clusterv1.Describe:
		c.beside(ctx, func(call context.Context) any {
			d, err := c.node.describe(call)
			if err != nil { // not in a Described: a node of an older version would take that for one that has nothing
				return &clusterv1.Stepped{Error: err.Error()}
			}
			return d
		})
	case *clusterv1.TakeCut:
		c.step(ctx, func(context.Context) error { return c.node.takeCut(m) })
	case *clusterv1.ReleaseCut:
		c.step(ctx, func(call context.Context) error { return c.node.releaseCut(call, m.GetId()) })
	case *clusterv1.EndCut:
		c.step(ctx, func(context.Context) error { c.node.endCut(m.GetId()); return nil })
	case *clusterv1.ReadCut:
		c.beside(ctx, func(context.Context) any { return c.node.readCut(m) })
	case *clusterv1.Install:
		c.beside(ctx, func(context.Context) any {
			done, err := c.node.install(m)
			answer := &clusterv1.Installed{Done: done}
			if err != nil {
				answer.Error = err.Error()
			}
			return answer
		})
	case *clusterv1.Leave:
		c.node.leave(crier.NodeState(m.GetState()))
		ctx.Respond(new(clusterv1.Stepped))
	case *clusterv1.Operate:
		c.beside(ctx, func(call context.Context) any { return c.node.operated(call, m) })
	}
}

// beside runs a call beside the actor, and answers with its result.
func (c *control) beside(ctx actor.Context, call func(context.Context) any) {
	sender, root := ctx.Sender(), ctx.ActorSystem().Root
	c.running.Go(func() {
		bounded, cancel := context.WithTimeout(c.ctx, controlTimeout)
		defer cancel()
		root.Send(sender, call(bounded))
	})
}

// step runs what can only succeed or fail beside the actor, and answers which.
func (c *control) step(ctx actor.Context, call func(context.Context) error) {
	c.beside(ctx, func(bounded context.Context) any {
		answer := new(clusterv1.Stepped)
		if err := call(bounded); err != nil {
			answer.Error, answer.Unsure = err.Error(), errors.Is(err, errUnsure)
		}
		return answer
	})
}

// survey tells of this node's replicas.
func (n *Node) survey() *clusterv1.Surveyed {
	s := &clusterv1.Surveyed{Version: n.cfg.Version, Full: n.storage.Writable() != nil}
	for _, g := range n.open() {
		s.Replicas = append(s.Replicas, g.report())
	}
	return s
}

// takeStep takes a step of a move that this node can take.
func (n *Node) takeStep(ctx context.Context, s *clusterv1.Step) error {
	p := crier.PartitionID(s.GetPartition())
	if p != crier.SystemPartition && int(p) >= n.cfg.Partitions {
		return fmt.Errorf("there is no partition %s", p)
	}
	select {
	case <-n.belongs:
	default:
		return errStarting
	}
	switch s.GetKind() {
	case clusterv1.StepKind_STEP_KIND_OPEN:
		return n.openGroup(p, raft.Configuration{})
	case clusterv1.StepKind_STEP_KIND_DROP:
		if n.takeParked(p) {
			return n.dropParked(ctx, p, s.GetLeader())
		}
		return n.dropGroup(ctx, p, s.GetLeader())
	case clusterv1.StepKind_STEP_KIND_PARK:
		return n.park(ctx, p, s)
	case clusterv1.StepKind_STEP_KIND_UNPARK:
		return n.unpark(p)
	case clusterv1.StepKind_STEP_KIND_RECOVER:
		return n.recoverGroup(ctx, p, s)
	}
	g := n.Group(p)
	if g == nil {
		return fmt.Errorf("partition %s is not open here", p)
	}
	if s.GetKind() == clusterv1.StepKind_STEP_KIND_CONFIRM_OUT {
		return g.confirmOut(s.GetNode())
	}
	return g.change(s)
}

// stepAt asks a node for what it can only do or not, such as a step of a move. Without an answer, the error is errUnsure, too.
func (n *Node) stepAt(ctx context.Context, node string, msg any) error {
	answer, err := n.askControl(ctx, node, msg)
	a, ok := answer.(*clusterv1.Stepped)
	switch {
	case errors.Is(err, errNotThere):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errUnsure, err)
	case a.GetUnsure():
		return fmt.Errorf("%w: %s", errUnsure, a.GetError())
	case !ok || a.GetError() != "":
		return errors.New(a.GetError())
	}
	return nil
}

// askControl asks the control actor of a node.
func (n *Node) askControl(ctx context.Context, node string, msg any) (any, error) {
	m, ok := n.gossip.member(node)
	if !ok {
		return nil, fmt.Errorf("node %s: %w", node, errNotThere)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(controlTimeout)
	}
	timeout := time.Until(deadline)
	if err := ctx.Err(); err != nil || timeout <= 0 {
		return nil, errors.Join(err, context.DeadlineExceeded)
	}
	future := n.system.Root.RequestFuture(actor.NewPID(m.ActorAddress, controlName(node)), msg, timeout)
	type result struct {
		answer any
		err    error
	}
	came := make(chan result, 1)
	n.asking.Go(func() { // ends with the answer or the timeout; a future can't be given up
		answer, err := future.Result()
		came <- result{answer, err}
	})
	select {
	case r := <-came:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leave ends this node's part in the cluster.
func (n *Node) leave(state crier.NodeState) {
	n.leaving.Do(func() {
		if state == crier.NodeDrained {
			n.log.Info("this node is drained and leaves the cluster; its data directory is of no more use")
		} else {
			n.leftErr = ErrRemoved
		}
		close(n.left)
	})
}

// Left is closed when the node has left the cluster for ever, and is to be stopped; LeftErr tells why.
func (n *Node) Left() <-chan struct{} { return n.left }

// LeftErr returns nil for a node that was drained, and ErrRemoved for one that was given up. It is for after Left.
func (n *Node) LeftErr() error { return n.leftErr }

// leaderOf returns the node that leads a group, "" while none is known.
func (n *Node) leaderOf(p crier.PartitionID) string {
	if n.localPID(p) != nil {
		return n.cfg.NodeID
	}
	return n.table.leader(p).node
}
