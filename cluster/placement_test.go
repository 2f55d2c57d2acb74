package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/crier-im/crier"
)

func nodes(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("2f1c6a1e-0000-4000-8000-%012d", i))
	}
	return all
}

func TestPlacementIsEvenAndMovesLittle(t *testing.T) {
	t.Parallel()
	const groups, replicas = 1024, 3
	members := nodes(10)
	count := make(map[string]int)
	moved := 0
	for p := range crier.PartitionID(groups) {
		before := placement(members, p, replicas)
		if len(before) != replicas || len(slices.Compact(slices.Sorted(slices.Values(before)))) != replicas {
			t.Fatalf("group %s has %v", p, before)
		}
		for _, n := range before {
			count[n]++
		}
		for _, n := range placement(append(nodes(10), "one more"), p, replicas) {
			if !slices.Contains(before, n) {
				moved++
			}
		}
	}
	for n, k := range count {
		if want := groups * replicas / 10; k < want*8/10 || k > want*12/10 {
			t.Errorf("node %s holds %d replicas, the mean is %d", n, k, want)
		}
	}
	if most := groups*replicas/11 + groups*replicas/50; moved > most {
		t.Errorf("a new node moves %d replicas, at most %d should", moved, most)
	}
	if got := placement(nodes(2), 3, replicas); len(got) != 2 {
		t.Errorf("two nodes hold %v", got)
	}
	if got := placement(nodes(9), crier.SystemPartition, replicas); len(got) != systemVoters {
		t.Errorf("the system group has %d voters", len(got))
	}
}
