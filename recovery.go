package crier

// Recovery is what is to be done about partitions that have lost most of their replicas.
type Recovery struct {
	// Partitions are those that can elect no leader: a majority of their replicas does not answer.
	Partitions []PartitionRecovery `json:"partitions"`
	// Electing has those that have no leader although a majority answers. They elect one by themselves, mostly.
	Electing []string `json:"electing,omitempty"`
	// Lost are the nodes that keep a replica of one of Partitions and do not answer. Recovering gives them up: their ids do not come back.
	Lost []string `json:"lost,omitempty"`
}

// PartitionRecovery is a partition of a Recovery.
type PartitionRecovery struct {
	Partition string   `json:"partition"`      // its number, or "system"
	Node      string   `json:"node,omitempty"` // whose replica becomes the truth: it has the longest log; empty: nothing is left of the partition
	Last      uint64   `json:"last"`           // the last entry of its log
	Others    []string `json:"others"`         // nodes whose replicas are deleted, and built anew
	Lost      []string `json:"lost"`           // nodes of the partition that do not answer
}
