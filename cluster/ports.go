// Package cluster joins nodes: membership by gossip, one raft group a partition,
// who leads what, and the lookup that finds a virtual actor on the leader of its
// partition. A single node is a cluster of one.
package cluster

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// Storage gives each raft group its log, its votes, its snapshots and its state
// machine. The values are asked for once a group, at Open.
type Storage interface {
	// Members returns the nodes that formed the cluster, none for a node that belongs to none yet.
	Members() []string
	// SetMembers keeps them, before any group begins. It blocks until they are durable.
	SetMembers(members []string) error
	LogStore(p crier.PartitionID) raft.LogStore
	StableStore(p crier.PartitionID) raft.StableStore
	SnapshotStore(p crier.PartitionID) raft.SnapshotStore
	FSM(p crier.PartitionID) raft.FSM
}

// Host makes the actor of a partition that this node has come to lead. The
// actor is stopped when leadership ends. g proposes to the partition's log.
type Host interface {
	PartitionProps(p crier.PartitionID, g *Group) *actor.Props
}

// Codec turns the messages of actors into bytes and back, for other nodes. Safe for
// concurrent use.
type Codec interface {
	Encode(msg any) ([]byte, error)
	Decode(b []byte) (any, error)
}
