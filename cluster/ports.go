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
	// Members returns the nodes that formed the cluster, none for a node that belongs to none yet, and whether this node is one of them
	// and has yet to begin some of its groups.
	Members() (members []string, forming bool)
	// SetMembers keeps both. It blocks until they are durable.
	SetMembers(members []string, forming bool) error
	// Nodes returns the nodes of the cluster by id, those that have left too, as this node's replica of the system group has them.
	Nodes() []crier.Node
	// NodeCommand returns the command of the system group that adds a node, or changes its state. One that can't come from the state
	// that it has is refused with crier.CodeBadParameter.
	NodeCommand(n crier.Node) []byte
	LogStore(p crier.PartitionID) raft.LogStore
	StableStore(p crier.PartitionID) raft.StableStore
	SnapshotStore(p crier.PartitionID) raft.SnapshotStore
	FSM(p crier.PartitionID) raft.FSM
	// Configuration returns the last configuration of a group that its state machine was told of, and its index: it is committed. 0 while
	// there is none. It must not block: the control actor asks.
	Configuration(p crier.PartitionID) (index uint64, c raft.Configuration)
	// Writable returns why commands are refused here, nil where they are not: the disk is almost full. It may be a second old.
	Writable() error
	// Cut stops all state machines, waits until what those of the partitions have applied is durable, and returns what there is. Only these can be read from it. It
	// blocks while another cut stands.
	Cut(partitions []crier.PartitionID) (crier.Cut, error)
	// Restoring returns the restore that has begun and not ended, as this node's replica of the system group has it; 0 where there is none. While there is
	// one, no partition has an actor.
	Restoring() uint64
	// Recover makes what there is of a group that has been shut down the truth: it applies all of its log, whether that was committed or not, sets the configuration,
	// and raises the term to the one given. It blocks until that is durable.
	Recover(p crier.PartitionID, c raft.Configuration, term uint64) error
	// Drop deletes everything of a group that has been shut down, and blocks until that is durable. The group can begin again after it.
	Drop(p crier.PartitionID) error
}

// Host makes the actor of a partition that this node has come to lead. The
// actor is stopped when leadership ends. g proposes to the partition's log, and term is the one that it is led in.
type Host interface {
	PartitionProps(p crier.PartitionID, g *Group, term uint64) *actor.Props
}

// Codec turns the messages of actors into bytes and back, for other nodes. Safe for
// concurrent use.
type Codec interface {
	Encode(msg any) ([]byte, error)
	Decode(b []byte) (any, error)
}
