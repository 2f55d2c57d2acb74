package cluster

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/crier-im/crier"
)

// systemVoters is how many nodes vote in the system group at most.
const systemVoters = 5

// placement returns the nodes that hold a replica of a group, by rendezvous hashing: each node draws a number for each group, and
// the highest win. A node more or less moves only what it wins or had.
func placement(members []string, p crier.PartitionID, replicas int) []string {
	if p == crier.SystemPartition {
		replicas = systemVoters
	}
	nodes := slices.Clone(members)
	slices.SortFunc(nodes, func(a, b string) int {
		return cmp.Or(cmp.Compare(draw(b, p), draw(a, p)), cmp.Compare(a, b))
	})
	return nodes[:min(replicas, len(nodes))]
}

// draw is a node's number for a group.
func draw(node string, p crier.PartitionID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint16([]byte(node), uint16(p))) // never fails
	x := h.Sum64()
	// fnv mixes its last bytes badly; this is the finaliser of splitmix64.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
