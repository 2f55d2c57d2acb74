package cluster

import (
	"fmt"
	"slices"

	"github.com/crier-im/crier"
)

// Simulation is where the replicas of a cluster would be, and what would move.
type Simulation struct {
	Holders map[crier.PartitionID][]string // the nodes of each partition
	Leaders map[crier.PartitionID]string
	Joined  Moves // where one node more joins
	Left    Moves // where a node is lost
}

// Moves is what one change of the nodes costs.
type Moves struct {
	Replicas int // built on another node
	Leaders  int // of nodes that are there before and after, and hand over all the same
}

// Simulate places replicas of partitions on nodes by the rules that the coordinator has, without any node. All numbers are at least 1.
func Simulate(nodes, partitions, replicas int) *Simulation {
	all := make([]string, nodes+1)
	for i := range all {
		all[i] = fmt.Sprintf("node-%04d", i)
	}
	everybody := func(string) bool { return true }
	nowhere := make(map[crier.PartitionID][]string)
	for p := range partitions {
		nowhere[crier.PartitionID(p)] = nil
	}
	s := &Simulation{Holders: spread(nowhere, all[:nodes], everybody, replicas)}
	s.Leaders = evenLeaders(nil, s.Holders)
	change := func(after []string) Moves {
		holders := spread(s.Holders, after, everybody, replicas)
		leaders := evenLeaders(s.Leaders, holders)
		var m Moves
		for p, now := range holders {
			for _, n := range now {
				if !slices.Contains(s.Holders[p], n) {
					m.Replicas++
				}
			}
			if leaders[p] != s.Leaders[p] && slices.Contains(now, s.Leaders[p]) {
				m.Leaders++
			}
		}
		return m
	}
	s.Joined = change(all)
	if nodes > 1 {
		s.Left = change(slices.Delete(slices.Clone(all[:nodes]), nodes/2, nodes/2+1))
	}
	return s
}
