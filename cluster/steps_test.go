package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// model is a cluster as the planner sees it: what steps do to it, without raft. A replica that was added has caught up two passes later.
type model struct {
	t        *testing.T
	view     *view
	replicas int
	atOnce   int
	building map[crier.PartitionID]map[string]int // passes that a replica needs yet
	handed   int                                  // leaderships
	broken   string                               // a node that opens nothing
}

func newModel(t *testing.T, nodes []string, groups, replicas, atOnce int) *model {
	m := &model{t: t, replicas: replicas, atOnce: atOnce, building: make(map[crier.PartitionID]map[string]int)}
	m.view = &view{nodes: make(map[string]*nodeView), groups: make(map[crier.PartitionID]*groupView)}
	for _, n := range nodes {
		m.view.nodes[n] = &nodeView{state: crier.NodeMember, alive: true}
	}
	all := []crier.PartitionID{crier.SystemPartition}
	for p := range groups {
		all = append(all, crier.PartitionID(p))
	}
	for p, c := range firstConfigurations(nodes, all, replicas) {
		g := &groupView{configuration: 1, last: 100, mark: 100, open: make(map[string]uint64)}
		for _, s := range c.Servers {
			if s.Suffrage == 0 {
				g.voters = append(g.voters, string(s.ID))
			} else {
				g.others = append(g.others, string(s.ID))
			}
			g.open[string(s.ID)] = 100
		}
		g.leader = g.voters[0]
		m.view.groups[p], m.building[p] = g, make(map[string]int)
	}
	return m
}

// elect gives each group a leader that is alive, where a majority of its voters is.
func (m *model) elect() {
	for _, g := range m.view.groups {
		alive := slices.DeleteFunc(slices.Clone(g.voters), func(n string) bool { return !m.view.nodes[n].alive })
		if slices.Contains(alive, g.leader) && 2*len(alive) > len(g.voters) {
			continue
		}
		if g.leader = ""; 2*len(alive) > len(g.voters) {
			g.leader = alive[0]
		}
	}
}

// shown is the view without what can't be seen: what nodes have that are not alive.
func (m *model) shown() *view {
	v := &view{nodes: m.view.nodes, groups: make(map[crier.PartitionID]*groupView)}
	for p, g := range m.view.groups {
		c := *g
		c.open = maps.Clone(g.open)
		maps.DeleteFunc(c.open, func(n string, _ uint64) bool { return !m.view.nodes[n].alive || m.view.nodes[n].state.Gone() })
		v.groups[p] = &c
	}
	for n, at := range m.view.nodes {
		if at.state.Gone() {
			v.nodes = maps.Clone(v.nodes)
			delete(v.nodes, n)
		}
	}
	return v
}

// pass takes what the planner wants, as the reconciler does, or only some of it. It reports whether there was nothing to do.
func (m *model) pass(take func() bool) bool {
	m.elect()
	for p, g := range m.view.groups {
		for n, left := range m.building[p] {
			if left--; left > 0 || !m.view.nodes[n].alive {
				m.building[p][n] = max(1, left)
				continue
			}
			delete(m.building[p], n)
			if _, open := g.open[n]; open {
				g.open[n] = g.last
			}
		}
	}
	before := m.built()
	plan := m.shown().next(m.replicas, m.atOnce, true)
	for _, s := range plan.steps {
		if take() {
			m.take(s)
		}
	}
	if after := m.built(); after > max(before, m.atOnce) { // before: those that nodes have come back with
		m.t.Fatalf("%d partitions are built at a time, at most %d may be", after, m.atOnce)
	}
	for id, n := range m.view.nodes {
		if n.state == crier.NodeDraining && m.shown().isFree(id) {
			n.state = crier.NodeDrained
		}
	}
	return plan.waiting == ""
}

// built counts the partitions with a replica that is being built on a living node, and not stuck.
func (m *model) built() (n int) {
	for p, g := range m.view.groups {
		if p != crier.SystemPartition && slices.ContainsFunc(g.others, func(n string) bool {
			return m.view.nodes[n].alive && g.open[n] < g.mark && !slices.Contains(g.stuck, n)
		}) {
			n++
		}
	}
	return n
}

// take does a step, and checks that it is safe.
func (m *model) take(s step) {
	g := m.view.groups[s.group]
	without := func(nodes []string) []string {
		return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == s.node })
	}
	switch s.kind {
	case clusterv1.StepKind_STEP_KIND_OPEN:
		if s.node == m.broken {
			return
		}
		if _, open := g.open[s.node]; !open {
			g.open[s.node], m.building[s.group][s.node] = 0, 2
		}
	case clusterv1.StepKind_STEP_KIND_ADD:
		if slices.Contains(g.holders(), s.node) || !m.view.nodes[s.node].alive {
			m.t.Fatalf("partition %s: %s", s.group, s)
		}
		if _, open := g.open[s.node]; !open {
			g.open[s.node], m.building[s.group][s.node] = 0, 2
		}
		g.others = append(g.others, s.node)
	case clusterv1.StepKind_STEP_KIND_PROMOTE:
		if !slices.Contains(g.others, s.node) || g.open[s.node] < g.mark {
			m.t.Fatalf("partition %s: %s, which has %d of %d", s.group, s, g.open[s.node], g.mark)
		}
		g.others, g.voters = without(g.others), append(g.voters, s.node)
	case clusterv1.StepKind_STEP_KIND_REMOVE:
		m.remove(s, g, without)
	case clusterv1.StepKind_STEP_KIND_DEMOTE:
		if s.group != crier.SystemPartition || len(g.voters) <= systemVoters || !slices.Contains(g.voters, s.node) {
			m.t.Fatalf("partition %s: %s, of %d voters", s.group, s, len(g.voters))
		}
		m.remove(s, g, without)
		g.others = append(g.others, s.node)
	case clusterv1.StepKind_STEP_KIND_HAND_OVER:
		if !slices.Contains(g.voters, s.node) || g.open[s.node] < g.mark || !m.view.nodes[s.node].alive {
			m.t.Fatalf("partition %s: %s", s.group, s)
		}
		g.leader = s.node
		m.handed++
	case clusterv1.StepKind_STEP_KIND_DROP:
		if slices.Contains(g.holders(), s.node) {
			m.t.Fatalf("partition %s: %s, which belongs to it", s.group, s)
		}
		delete(g.open, s.node)
	}
	g.configuration++
}

// remove takes a node out. As many as R of those who stay must have what the leader has, or all nodes that there are.
func (m *model) remove(s step, g *groupView, without func([]string) []string) {
	if s.node == g.leader {
		m.t.Fatalf("partition %s: %s, which leads", s.group, s)
	}
	votes := slices.Contains(g.voters, s.node)
	g.voters, g.others = without(g.voters), without(g.others)
	if !votes {
		return
	}
	whole := 0
	for _, n := range g.voters {
		if at := m.view.nodes[n]; at.alive && g.open[n] >= g.mark {
			whole++
		}
	}
	can := 0
	for n := range m.view.nodes {
		if m.shown().takes(n) {
			can++
		}
	}
	if whole < min(m.replicas, can) {
		m.t.Fatalf("partition %s: %s leaves %d replicas of %d", s.group, s, whole, min(m.replicas, can))
	}
}

func (m *model) settle(what string) {
	m.t.Helper()
	for range 3000 {
		if m.pass(func() bool { return true }) {
			m.check(what)
			return
		}
	}
	m.t.Fatalf("%s: never settled: %s", what, m.shown().next(m.replicas, m.atOnce, true).waiting)
}

// check looks whether what the planner holds for settled is.
func (m *model) check(what string) {
	m.t.Helper()
	v := m.shown()
	keepers := slices.DeleteFunc(v.keepers(), func(n string) bool { return !v.takes(n) })
	held := make(map[crier.PartitionID][]string)
	leads := make(map[string]int)
	for p, g := range v.groups {
		if p == crier.SystemPartition {
			if len(g.voters) != min(systemVoters, len(keepers)) {
				m.t.Fatalf("%s: %d vote in the system group of %d nodes", what, len(g.voters), len(keepers))
			}
			continue
		}
		alive := slices.DeleteFunc(slices.Clone(g.voters), func(n string) bool { return !slices.Contains(keepers, n) })
		held[p] = alive
		leads[g.leader]++
		for n := range g.open {
			if !slices.Contains(g.voters, n) {
				m.t.Fatalf("%s: %s has something left of partition %s", what, n, p)
			}
		}
	}
	wantEven(m.t, what, held, keepers, min(m.replicas, len(keepers)))
	wantNear(m.t, what+": leaders", leads, keepers, float64(len(held))/float64(len(keepers)))
}

// A cluster goes through whatever happens to nodes in the middle of moves, and some steps are lost. Every step on the way is safe, and in the end
// it is as it is wanted.
func TestStepsAreSafeAndSettle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			m := newModel(t, nodes(3), 1+random.IntN(40), 3, 1+random.IntN(4))
			m.settle("the first nodes")
			for round := range 12 {
				m.disturb(random, round)
				for range random.IntN(12) { // goes on in the middle of what the last one began
					m.pass(func() bool { return random.IntN(3) > 0 })
				}
				if random.IntN(3) == 0 {
					m.heal()
					m.settle(fmt.Sprint("round ", round))
				}
			}
			m.heal()
			m.settle("the end")
		})
	}
}

// disturb does something to a node: one joins, is drained, dies, is lost or given up, or comes back; now and then a disk is full, or not any more.
func (m *model) disturb(random *rand.Rand, round int) {
	var alive, dead []string
	for id, n := range m.view.nodes {
		if n.state == crier.NodeMember && n.alive {
			alive = append(alive, id)
		} else if n.state == crier.NodeMember {
			dead = append(dead, id)
		}
	}
	slices.Sort(alive)
	slices.Sort(dead)
	if round%3 == 1 { // beside the rest
		n := m.view.nodes[alive[round%len(alive)]]
		n.full = !n.full
	}
	switch what := random.IntN(5); {
	case what == 0 || len(alive) < 4:
		m.view.nodes[fmt.Sprint("joined in round ", round)] = &nodeView{state: crier.NodeMember, alive: true}
	case what == 1 && len(dead) == 0:
		m.view.nodes[alive[random.IntN(len(alive))]].alive = false
	case what == 2:
		m.view.nodes[alive[random.IntN(len(alive))]].state = crier.NodeDraining
	case what == 3 && len(dead) > 0:
		m.view.nodes[dead[0]].lost = true
	case what == 4 && len(dead) > 0:
		m.view.nodes[dead[0]].state = crier.NodeRemoved
	}
}

// heal brings the dead back, or gives them up, and makes room.
func (m *model) heal() {
	for _, n := range m.view.nodes {
		n.full = false
		if !n.alive && n.state != crier.NodeRemoved {
			n.alive, n.lost = true, false
		}
	}
}

// A dead node of three keeps its place: there is nobody to replace it, and it may come back with what it has.
func TestALostNodeWithoutAReplacementKeepsItsPlace(t *testing.T) {
	t.Parallel()
	m := newModel(t, nodes(3), 16, 3, 4)
	m.settle("three")
	lost := m.view.nodes[nodes(3)[1]]
	lost.alive, lost.lost = false, true
	for range 50 {
		m.pass(func() bool { return true })
	}
	for p, g := range m.view.groups {
		if len(g.voters) != 3 {
			t.Errorf("partition %s has %v", p, g.voters)
		}
	}
	m.view.nodes["a new one"] = &nodeView{state: crier.NodeMember, alive: true}
	m.settle("replaced")
	for p, g := range m.view.groups {
		if slices.Contains(g.voters, nodes(3)[1]) {
			t.Errorf("partition %s has the lost node yet: %v", p, g.voters)
		}
	}
}

// When a node joins, leaders are handed over for those that leave a group and those that it is to lead, and not more.
// A node with a full disk leads nothing where another can; once there is room it has its share again.
func TestAFullNodeLeadsNothing(t *testing.T) {
	t.Parallel()
	names := nodes(4)
	m := newModel(t, names[:3], 24, 3, 1)
	m.settle("three nodes")
	full := names[0]
	m.view.nodes[full].full = true
	led := 0
	for _, g := range m.view.groups {
		if g.leader == full {
			led++
		}
	}
	if steps := m.shown().next(3, 1, false).steps; len(steps) != led || led == 0 { // at once, all of them
		t.Errorf("it leads %d groups, and the next steps are %v", led, steps)
	}
	quiet := func(what string) (leads int) {
		t.Helper()
		for passes := 0; !m.pass(func() bool { return true }); passes++ {
			if passes == 3000 {
				t.Fatalf("%s: never settled: %s", what, m.shown().next(3, 1, true).waiting)
			}
		}
		for p, g := range m.view.groups {
			if g.leader == full && p != crier.SystemPartition {
				leads++
			}
		}
		return leads
	}
	if leads := quiet("one is full"); leads != 0 {
		t.Errorf("it leads %d", leads)
	}
	m.view.nodes[names[3]] = &nodeView{state: crier.NodeMember, alive: true}
	if leads := quiet("a node more"); leads != 0 {
		t.Errorf("beside a fourth node it leads %d", leads)
	}
	for _, n := range names {
		m.view.nodes[n].full = true
	}
	before := m.handed
	if quiet("all are full"); m.handed != before {
		t.Errorf("%d leaderships change hands, and nobody has room", m.handed-before)
	}
	m.view.nodes[names[1]].state = crier.NodeDraining // it hands over what it leads, to others that are full
	quiet("all are full, and one is drained")
	if m.view.nodes[names[1]].state != crier.NodeDrained {
		t.Error("the drain has not ended")
	}
	for _, n := range names {
		m.view.nodes[n].full = false
	}
	m.settle("there is room again")
}

func TestAJoinHandsOverLittle(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 4, 7} {
		const groups = 64
		m := newModel(t, nodes(n), groups, 3, 2)
		m.settle("before")
		m.handed = 0
		m.view.nodes["one more"] = &nodeView{state: crier.NodeMember, alive: true}
		m.settle("after")
		if most := groups / (n + 1) * 3 / 2; m.handed > most {
			t.Errorf("the node after %d: %d leaders of %d were handed over, at most %d had to be", n, m.handed, groups, most)
		} else {
			t.Logf("the node after %d: %d leaders of %d were handed over", n, m.handed, groups)
		}
	}
}

// A node that can't open what it should have, as with a damaged disk, is drained all the same.
func TestANodeThatOpensNothingIsDrained(t *testing.T) {
	t.Parallel()
	m := newModel(t, nodes(4), 16, 3, 2)
	m.settle("before")
	m.broken = nodes(4)[1]
	closed := 0
	for p, g := range m.view.groups {
		if _, open := g.open[m.broken]; open && g.leader != m.broken && p != crier.SystemPartition {
			delete(g.open, m.broken)
			closed++
		}
	}
	if closed == 0 {
		t.Fatal("it has nothing but what it leads")
	}
	m.view.nodes[m.broken].state = crier.NodeDraining
	m.settle("drained")
	if at := m.view.nodes[m.broken]; at.state != crier.NodeDrained {
		t.Errorf("it is %s", at.state)
	}
}
