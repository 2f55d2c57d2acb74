package crier

// NodeState is what the cluster has decided about a node.
type NodeState string

// States of a node, in the order in which they can come; one that is draining may become a member again. The last two are final: the node's id does not come back.
const (
	NodeMember   NodeState = "member"
	NodeDraining NodeState = "draining" // its replicas move to the others
	NodeDrained  NodeState = "drained"  // it keeps nothing any more
	NodeRemoved  NodeState = "removed"  // an operator has given it up
)

// Gone reports whether the node has left for ever.
func (s NodeState) Gone() bool { return s == NodeDrained || s == NodeRemoved }

// Node is a node of the cluster as the system group keeps it.
type Node struct {
	ID    string    `json:"id"` // stable, from its data directory
	State NodeState `json:"state"`
}

// ClusterStatus is what the cluster looks like to the leader of its system group.
type ClusterStatus struct {
	Coordinator string            `json:"coordinator"` // the node that moves replicas: it leads the system group
	Settled     bool              `json:"settled"`     // every partition has its replicas where they are wanted, and nothing moves
	Waiting     string            `json:"waiting,omitempty"`
	Restoring   bool              `json:"restoring,omitempty"` // a restore has begun, and not ended: nothing is served until one has
	Moving      int               `json:"moving"`              // partitions with a replica that is being built
	Age         int64             `json:"age_ms"`              // for how long the nodes have not been asked: what has changed since is not in it
	Nodes       []NodeStatus      `json:"nodes"`
	Partitions  []PartitionStatus `json:"partitions"`
}

// NodeStatus is a node of a ClusterStatus.
type NodeStatus struct {
	Node
	Alive    bool   `json:"alive"`
	Away     int64  `json:"away_seconds,omitempty"` // since when it is not alive, as far as the coordinator knows
	Full     bool   `json:"full,omitempty"`         // its disk is almost: it leads nothing where another node can
	Address  string `json:"address,omitempty"`      // of its gossip
	Version  string `json:"version,omitempty"`
	Replicas int    `json:"replicas"`
	Leads    int    `json:"leads"`
}

// PartitionStatus is a partition of a ClusterStatus.
type PartitionStatus struct {
	Partition string          `json:"partition"` // its number, or "system"
	Leader    string          `json:"leader,omitempty"`
	Replicas  []ReplicaStatus `json:"replicas"`
	Steps     []string        `json:"steps,omitempty"` // what is done to it next
}

// ReplicaStatus is a replica of a PartitionStatus.
type ReplicaStatus struct {
	Node  string `json:"node"`
	Votes bool   `json:"votes"`
	Alive bool   `json:"alive"`
	Lag   uint64 `json:"lag"`             // entries of the log that it has yet to apply
	Stuck bool   `json:"stuck,omitempty"` // it is being built, and has come no further for ten minutes
}
