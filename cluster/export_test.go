package cluster

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// DropAt orders the node with the id to delete its replica of a partition, as a coordinator would that believes in the leader.
func (n *Node) DropAt(ctx context.Context, id string, p crier.PartitionID, leader string) error {
	return n.stepAt(ctx, id, &clusterv1.Step{Kind: clusterv1.StepKind_STEP_KIND_DROP, Partition: uint32(p), Node: id, Leader: leader})
}

// OpenHere orders this node to open a partition, with what it has of it.
func (n *Node) OpenHere(ctx context.Context, p crier.PartitionID) error {
	return n.stepAt(ctx, n.cfg.NodeID, &clusterv1.Step{Kind: clusterv1.StepKind_STEP_KIND_OPEN, Partition: uint32(p), Node: n.cfg.NodeID})
}

// RemoveAt orders the leader of a partition to take a node out of the configuration with the index.
func (n *Node) RemoveAt(ctx context.Context, leader string, p crier.PartitionID, id string, index uint64) error {
	return n.stepAt(ctx, leader, &clusterv1.Step{Kind: clusterv1.StepKind_STEP_KIND_REMOVE, Partition: uint32(p), Node: id, ConfigurationIndex: index})
}

// SurveyAt asks the node at the address of this one's actors for its replicas, as a coordinator does that believes that the node with the id is there.
func (n *Node) SurveyAt(id string) error {
	_, err := n.system.Root.RequestFuture(actor.NewPID(n.system.Address(), controlName(id)), new(clusterv1.Survey), controlTimeout).Result()
	return err
}

// StepAt orders a node to take a step.
func (n *Node) StepAt(ctx context.Context, id string, s *clusterv1.Step) error {
	return n.stepAt(ctx, id, s)
}

// EndPark ends the time that a group is parked.
func (n *Node) EndPark(p crier.PartitionID, leader string) { n.endPark(p, leader) }

// Last returns the last entry of the group's log, and its term.
func (g *Group) Last() (index, term uint64) { return g.last() }

// Hold keeps a group of this node from being opened and closed, as a step that takes long does, until release.
func (n *Node) Hold(p crier.PartitionID) (release func(), held bool) {
	return func() { n.release(p) }, n.hold(p)
}

// HandOverTo has this node, which leads the group, make another its leader.
func (g *Group) HandOverTo(id string) error {
	return g.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
}
