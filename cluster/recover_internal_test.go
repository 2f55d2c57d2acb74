package cluster

import (
	"fmt"
	"testing"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// replica is what a node tells of partition 0, which a, b and c keep.
func replica(leads bool, lastTerm, last uint64) *clusterv1.Described {
	h := &clusterv1.Holding{Leads: leads, Term: lastTerm + 3, LastTerm: lastTerm, Last: last}
	for _, n := range []string{"a", "b", "c"} {
		h.Servers = append(h.Servers, &clusterv1.Server{Node: n, Votes: true})
	}
	return &clusterv1.Described{Holdings: []*clusterv1.Holding{h}}
}

func TestWhatThereIsToRecover(t *testing.T) {
	t.Parallel()
	nothing := new(clusterv1.Described)
	empty := &clusterv1.Described{Holdings: []*clusterv1.Holding{new(clusterv1.Holding)}}
	for name, c := range map[string]struct {
		answers map[string]*clusterv1.Described
		force   bool
		want    string
	}{
		"a leader":                {map[string]*clusterv1.Described{"a": replica(true, 1, 5)}, true, "{[] [] []}"},
		"a majority":              {map[string]*clusterv1.Described{"a": replica(false, 1, 5), "b": replica(false, 1, 5)}, false, "{[] [0] []}"},
		"a majority, forced":      {map[string]*clusterv1.Described{"a": replica(false, 1, 5), "b": replica(false, 1, 6)}, true, "{[{0 b 6 [a] [c]}] [] [c]}"},
		"one of three":            {map[string]*clusterv1.Described{"b": replica(false, 1, 5), "d": nothing}, false, "{[{0 b 5 [] [a c]}] [] [a c]}"},
		"a later term wins":       {map[string]*clusterv1.Described{"a": replica(false, 2, 4), "d": replica(false, 1, 9)}, false, "{[{0 a 4 [d] [b c]}] [] [b c]}"},
		"who has lost its disk":   {map[string]*clusterv1.Described{"a": replica(false, 1, 5), "b": nothing}, false, "{[{0 a 5 [] [c]}] [] [c]}"},
		"who does not vote yet":   {map[string]*clusterv1.Described{"a": replica(false, 1, 5), "b": empty}, false, "{[{0 a 5 [b] [c]}] [] [c]}"},
		"who has nothing yet":     {map[string]*clusterv1.Described{"d": replica(false, 0, 0)}, false, "{[{0  0 [] []}] [] []}"},
		"nothing is left of it":   {map[string]*clusterv1.Described{"d": nothing}, false, "{[{0  0 [] []}] [] []}"},
		"the first of equal ones": {map[string]*clusterv1.Described{"c": replica(false, 1, 5)}, false, "{[{0 c 5 [] [a b]}] [] [a b]}"},
	} {
		plan, terms := planRecovery([]crier.PartitionID{0}, c.answers, c.force)
		if got := fmt.Sprint(*plan); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		for _, one := range plan.Partitions {
			if one.Node != "" && terms[0] < 4 {
				t.Errorf("%s: term %d", name, terms[0])
			}
		}
	}
}
