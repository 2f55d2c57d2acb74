package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// Status tells what the cluster looks like to the leader of its system group. crier.CodeTimeout while there is none.
func (n *Node) Status(ctx context.Context) (*crier.ClusterStatus, error) {
	a, err := n.operate(ctx, &clusterv1.Operate{Kind: clusterv1.OperateKind_OPERATE_KIND_STATUS})
	if err != nil {
		return nil, err
	}
	status := new(crier.ClusterStatus)
	if err := json.Unmarshal(a.GetStatus(), status); err != nil {
		return nil, err
	}
	return status, nil
}

// Drain moves everything off a node, which ends then. node is its id, or what no other id begins with. It returns when that has
// begun. crier.CodeBadParameter if there is no such node, it is not alive, or it is the last.
func (n *Node) Drain(ctx context.Context, node string) error {
	_, err := n.operate(ctx, &clusterv1.Operate{Kind: clusterv1.OperateKind_OPERATE_KIND_DRAIN, Node: node})
	return err
}

// CancelDrain lets a node stay whose drain has not come to its end: it gets its share again. node is as Drain's. crier.CodeBadParameter if there is no such
// node, or it has left.
func (n *Node) CancelDrain(ctx context.Context, node string) error {
	_, err := n.operate(ctx, &clusterv1.Operate{Kind: clusterv1.OperateKind_OPERATE_KIND_CANCEL_DRAIN, Node: node})
	return err
}

// Remove gives up a node that is dead; what it held is rebuilt on others. node is as Drain's. crier.CodeBadParameter if there is no such node, or
// it is alive.
func (n *Node) Remove(ctx context.Context, node string) error {
	_, err := n.operate(ctx, &clusterv1.Operate{Kind: clusterv1.OperateKind_OPERATE_KIND_REMOVE, Node: node})
	return err
}

// Rebalance evens out who leads what at once, without waiting until the cluster has been quiet.
func (n *Node) Rebalance(ctx context.Context) error {
	_, err := n.operate(ctx, &clusterv1.Operate{Kind: clusterv1.OperateKind_OPERATE_KIND_REBALANCE})
	return err
}

// operate asks the leader of the system group, and the next one, until ctx ends.
func (n *Node) operate(ctx context.Context, msg *clusterv1.Operate) (*clusterv1.Operated, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	last := error(errNotCoordinator)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if leader := n.leaderOf(crier.SystemPartition); leader != "" {
			answer, err := n.askControl(ctx, leader, msg)
			a, ok := answer.(*clusterv1.Operated)
			switch {
			case err != nil:
				last = err
			case !ok:
				return nil, unknown(fmt.Errorf("node %s answered with a %T", leader, answer))
			case a.GetCode() == int32(crier.CodeTimeout):
				last = errors.New(a.GetInfo())
			case a.GetCode() != 0:
				return nil, crier.Errorf(crier.Code(a.GetCode()), "%s", a.GetInfo())
			default:
				return a, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, unknown(last)
		case <-time.After(pause):
		}
	}
}

// operated does what an operator asks, on the leader of the system group.
func (n *Node) operated(ctx context.Context, m *clusterv1.Operate) *clusterv1.Operated {
	answer := new(clusterv1.Operated)
	n.mu.RLock()
	r := n.reconciler
	n.mu.RUnlock()
	err := error(ErrNotLeader)
	if r != nil {
		switch m.GetKind() {
		case clusterv1.OperateKind_OPERATE_KIND_STATUS:
			answer.Status, err = json.Marshal(r.current())
		case clusterv1.OperateKind_OPERATE_KIND_DRAIN:
			err = r.drain(ctx, m.GetNode())
		case clusterv1.OperateKind_OPERATE_KIND_CANCEL_DRAIN:
			err = r.cancelDrain(ctx, m.GetNode())
		case clusterv1.OperateKind_OPERATE_KIND_REMOVE:
			err = r.remove(ctx, m.GetNode())
		case clusterv1.OperateKind_OPERATE_KIND_REBALANCE:
			r.rebalance()
			err = nil
		case clusterv1.OperateKind_OPERATE_KIND_COMMAND:
			_, err = r.group.Apply(ctx, m.GetCommand())
		default:
			err = crier.Errorf(crier.CodeBadParameter, "this node does not know what is asked: is it older?")
		}
	}
	if err != nil {
		e := crier.AsError(err)
		answer.Code, answer.Info = int32(e.Code), e.Info
	}
	return answer
}

// find returns the node with the id, or the only one whose id begins so.
func (r *reconciler) find(id string) (crier.Node, error) {
	var found []crier.Node
	for _, n := range r.node.storage.Nodes() {
		if n.ID == id {
			return n, nil
		}
		if id != "" && strings.HasPrefix(n.ID, id) && !n.State.Gone() {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return crier.Node{}, crier.Errorf(crier.CodeBadParameter, "%d nodes have an id that begins with %s", len(found), crier.Quote(id))
	}
	return found[0], nil
}

// drain begins to move everything off a node.
func (r *reconciler) drain(ctx context.Context, id string) error {
	n, err := r.find(id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	v := r.view
	r.mu.Unlock()
	switch {
	case v == nil:
		return ErrNotLeader // it has not looked yet
	case n.State == crier.NodeDraining:
		return nil
	case v.nodes[n.ID] == nil:
		return crier.Errorf(crier.CodeBadParameter, "node %s has left", n.ID)
	case !v.nodes[n.ID].alive:
		return crier.Errorf(crier.CodeBadParameter, "node %s is not alive: remove it", n.ID)
	case !slices.ContainsFunc(v.keepers(), func(other string) bool { return other != n.ID && v.serves(other) }):
		return crier.Errorf(crier.CodeBadParameter, "node %s is the last one", n.ID)
	}
	defer r.poke()
	return r.put(ctx, n.ID, crier.NodeDraining)
}

// cancelDrain lets a node stay.
func (r *reconciler) cancelDrain(ctx context.Context, id string) error {
	n, err := r.find(id)
	switch {
	case err != nil:
		return err
	case n.State == crier.NodeMember: // it was done before
		return nil
	case n.State != crier.NodeDraining:
		return crier.Errorf(crier.CodeBadParameter, "node %s has left", n.ID)
	}
	defer r.poke()
	return r.put(ctx, n.ID, crier.NodeMember)
}

// remove gives up a node that is not alive.
func (r *reconciler) remove(ctx context.Context, id string) error {
	n, err := r.find(id)
	if err != nil {
		return err
	}
	if _, alive := r.node.gossip.member(n.ID); alive {
		return crier.Errorf(crier.CodeBadParameter, "node %s is alive: drain it, or stop it first (a dead one is noticed within 10 s)", n.ID)
	}
	if n.State == crier.NodeDrained {
		return crier.Errorf(crier.CodeBadParameter, "node %s has left", n.ID)
	}
	defer r.poke()
	return r.put(ctx, n.ID, crier.NodeRemoved)
}

// rebalance evens leaders out without waiting.
func (r *reconciler) rebalance() {
	r.mu.Lock()
	r.forced = true
	r.mu.Unlock()
	r.poke()
}
