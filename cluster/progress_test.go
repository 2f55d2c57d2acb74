package cluster

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// A replica is stuck when it has come no further for long: the time counts while its node is alive and its group is led, also where it begins anew again and again.
func TestStuckReplicas(t *testing.T) {
	t.Parallel()
	const p = crier.PartitionID(3)
	start := time.Now()
	type look struct {
		minute  int
		applied uint64
		what    string // "away": the node; "leaderless", "out" of it, "more" to apply: the group
		stuck   bool
	}
	for name, looks := range map[string][]look{
		"nothing comes":        {{0, 0, "", false}, {9, 0, "", false}, {10, 0, "", true}, {20, 0, "", true}},
		"it comes on slowly":   {{0, 0, "", false}, {9, 1, "", false}, {18, 2, "", false}, {27, 3, "", false}},
		"it comes on at last":  {{0, 0, "", false}, {10, 0, "", true}, {11, 7, "", false}, {20, 7, "", false}, {21, 7, "", true}},
		"it has all there is":  {{0, 100, "", false}, {30, 100, "", false}},
		"there is more now":    {{0, 100, "", false}, {30, 100, "", false}, {31, 100, "more", false}, {39, 100, "more", false}, {40, 100, "more", true}},
		"it begins anew":       {{0, 5, "", false}, {4, 0, "", false}, {6, 5, "", false}, {8, 0, "", false}, {10, 4, "", true}},
		"its node ends often":  {{0, 5, "", false}, {4, 0, "away", false}, {5, 0, "", false}, {8, 0, "away", false}, {10, 5, "", false}, {14, 5, "", false}, {17, 5, "", true}, {18, 0, "away", false}, {19, 0, "", true}},
		"nobody led its group": {{0, 0, "", false}, {4, 0, "", false}, {30, 0, "leaderless", false}, {31, 0, "", false}, {37, 0, "", true}},
		"it was taken out":     {{0, 0, "", false}, {9, 0, "out", false}, {10, 0, "", false}, {19, 0, "", false}, {20, 0, "", true}},
		"its node is away":     {{0, 0, "away", false}, {20, 0, "away", false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s progresses
			for _, l := range looks {
				mark := uint64(100)
				if l.what == "more" {
					mark = 200
				}
				g := &groupView{leader: "a", mark: mark, voters: []string{"a"}, others: []string{"b"}, open: map[string]uint64{"a": 100, "b": l.applied}}
				v := &view{nodes: map[string]*nodeView{"a": {alive: true}, "b": {alive: l.what != "away"}}, groups: map[crier.PartitionID]*groupView{p: g}}
				switch l.what {
				case "leaderless":
					g.leader, g.others = "", nil
				case "out":
					g.others = nil
				}
				s = s.next(v, start.Add(time.Duration(l.minute)*time.Minute))
				if slices.Contains(g.stuck, "b") != l.stuck || v.nodes["b"].stuck != l.stuck {
					t.Errorf("minute %d: stuck: %v, %t", l.minute, g.stuck, v.nodes["b"].stuck)
				}
			}
		})
	}
}

// A replica that is stuck holds up no others, but its node is given none; and it is told what the cluster waits for.
func TestAStuckReplicaHoldsUpNobody(t *testing.T) {
	t.Parallel()
	names := nodes(5)
	m := newModel(t, names[:4], 24, 3, 1)
	m.settle("four nodes")
	bad := names[3]
	var stuck crier.PartitionID
	for _, p := range slices.Sorted(maps.Keys(m.view.groups)) { // one replica of its is being built anew, of a partition that stays where it is
		if g := m.view.groups[p]; slices.Contains(g.voters, bad) && g.leader != bad {
			g.voters = slices.DeleteFunc(g.voters, func(n string) bool { return n == bad })
			g.others, g.open[bad], g.stuck = []string{bad}, 0, []string{bad}
			m.building[p][bad], stuck = 1<<30, p
			break
		}
	}
	m.view.nodes[names[4]] = &nodeView{state: crier.NodeMember, alive: true}
	m.view.nodes[bad].stuck = true
	all := func() bool { return true }
	for range 1000 {
		for _, s := range m.shown().next(m.replicas, m.atOnce, true).steps {
			if s.kind == clusterv1.StepKind_STEP_KIND_ADD && s.node == bad && s.group != crier.SystemPartition {
				t.Fatalf("partition %s: %s", s.group, s)
			}
		}
		m.pass(all)
	}
	held := 0
	for p, g := range m.view.groups {
		if p == crier.SystemPartition {
			continue
		}
		if slices.Contains(g.voters, names[4]) {
			held++
		}
		if p != stuck && len(g.others) > 0 {
			t.Errorf("partition %s is being built yet: %v", p, g.others)
		}
	}
	if held < 24*3/5 {
		t.Errorf("the fifth node has %d replicas", held)
	}
	if waiting := m.shown().next(m.replicas, m.atOnce, true).waiting; !strings.Contains(waiting, bad) || !strings.Contains(waiting, "no further") {
		t.Errorf("the cluster waits for this: %q", waiting)
	}
	g := m.view.groups[stuck]
	g.stuck, m.view.nodes[bad].stuck, m.building[stuck][bad] = nil, false, 1
	m.settle("it came on")
}
