package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// view is the cluster at one moment, as the reconciler has asked for it.
type view struct {
	began  time.Time            // when the nodes were asked
	nodes  map[string]*nodeView // all that have not left for ever, and those of them that still hold something
	groups map[crier.PartitionID]*groupView
}

// nodeView is a node of a view.
type nodeView struct {
	state crier.NodeState
	alive bool // gossip believes so, and it has answered
	full  bool // its disk is: what it leads takes no writes
	lost  bool // not alive for longer than the grace: what it held is rebuilt elsewhere
	stuck bool // it has a replica that is stuck, and takes no others
}

// groupView is a group of a view.
type groupView struct {
	leader        string // "" while there is none
	configuration uint64 // its index, 0 while a change of it is not committed
	last          uint64 // of the leader's log
	mark          uint64 // what last was when the cluster was asked before
	voters        []string
	others        []string          // who gets the log without a vote
	open          map[string]uint64 // where the group is open: the last index that is applied there
	stuck         []string          // of others: who has come no further for stuckAfter
}

func (g *groupView) holders() []string { return slices.Concat(g.voters, g.others) }

// step is one thing to do next.
type step struct {
	kind  clusterv1.StepKind
	group crier.PartitionID
	node  string // whose replica it is about
}

func (s step) String() string {
	words := map[clusterv1.StepKind]string{
		clusterv1.StepKind_STEP_KIND_OPEN: "open it on", clusterv1.StepKind_STEP_KIND_ADD: "add", clusterv1.StepKind_STEP_KIND_PROMOTE: "give a vote to",
		clusterv1.StepKind_STEP_KIND_REMOVE: "remove", clusterv1.StepKind_STEP_KIND_HAND_OVER: "hand over to",
		clusterv1.StepKind_STEP_KIND_DEMOTE: "take the vote of", clusterv1.StepKind_STEP_KIND_DROP: "delete what is left on",
	}
	return fmt.Sprintf("%s %s", words[s.kind], s.node)
}

// plan is what a view lacks of what is wanted.
type plan struct {
	steps   []step
	moving  int    // groups with a replica that is being built on a living node
	soon    bool   // a replica is about to be ready for its next step
	waiting string // for what, in words; empty: everything is as it is wanted
}

// planner decides on the next steps. It only looks at its arguments: a reconciler that takes over goes on from what there is.
type planner struct {
	view     *view
	replicas int  // R
	atOnce   int  // groups in which a replica may be built at a time, and leaders handed over
	balance  bool // even leaders out, too

	plan  plan
	busy  map[crier.PartitionID]bool // has a step
	leads map[string]int             // partitions, by node
}

// next returns the next step of each group that needs one.
func (v *view) next(replicas, atOnce int, balance bool) plan {
	p := &planner{view: v, replicas: replicas, atOnce: atOnce, balance: balance, busy: make(map[crier.PartitionID]bool), leads: make(map[string]int)}
	for id, g := range v.groups {
		if id != crier.SystemPartition {
			p.leads[g.leader]++
		}
	}
	wanted := spread(v.heldBy(), v.keepers(), v.takes, replicas)
	for _, g := range v.groups {
		for _, n := range g.others {
			if at := v.nodes[n]; at != nil && at.alive && g != v.groups[crier.SystemPartition] && !p.caughtUp(g, n) && !slices.Contains(g.stuck, n) {
				p.plan.moving++
				break
			}
		}
	}
	if g := v.groups[crier.SystemPartition]; g != nil {
		p.group(crier.SystemPartition, g, v.systemHolders(), v.systemVoters(g))
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		p.group(id, v.groups[id], wanted[id], wanted[id])
	}
	p.leaders(wanted)
	p.awaitNodes()
	return p.plan
}

// awaitNodes waits for those that may come back, and those that are about to leave.
func (p *planner) awaitNodes() {
	for _, id := range slices.Sorted(maps.Keys(p.view.nodes)) {
		switch n := p.view.nodes[id]; {
		case n.state == crier.NodeDraining:
			p.wait("node %s is draining", id)
		case !n.alive && !n.lost:
			p.wait("node %s is away, and may come back", id)
		}
	}
}

// heldBy returns who holds each partition.
func (v *view) heldBy() map[crier.PartitionID][]string {
	held := make(map[crier.PartitionID][]string)
	for id, g := range v.groups {
		if id != crier.SystemPartition {
			held[id] = g.holders()
		}
	}
	return held
}

// keepers returns the nodes that keep what they hold.
func (v *view) keepers() (nodes []string) {
	for id, n := range v.nodes {
		if n.state == crier.NodeMember && !n.lost {
			nodes = append(nodes, id)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// serves reports whether a node is there, and is to stay.
func (v *view) serves(id string) bool {
	n := v.nodes[id]
	return n != nil && n.state == crier.NodeMember && n.alive
}

// takes reports whether a node is there to take a replica more.
func (v *view) takes(id string) bool { return v.serves(id) && !v.nodes[id].stuck }

// systemHolders returns who is to hold the system group: every node, one that is drained to its end.
func (v *view) systemHolders() []string {
	holders := v.keepers()
	for id, n := range v.nodes {
		if n.state != crier.NodeDraining {
			continue
		}
		for p, g := range v.groups {
			if p != crier.SystemPartition && slices.Contains(g.holders(), id) {
				holders = append(holders, id)
				break
			}
		}
	}
	return holders
}

// systemVoters returns who is to vote in the system group: those who do, and others up to five.
func (v *view) systemVoters(g *groupView) []string {
	var voters []string
	candidates := v.keepers()
	slices.SortFunc(candidates, func(a, b string) int { return compareDraws(b, a, crier.SystemPartition) })
	for _, votes := range []bool{true, false} { // those who vote first
		for _, n := range candidates {
			if slices.Contains(g.voters, n) == votes && (votes || v.takes(n)) && len(voters) < systemVoters {
				voters = append(voters, n)
			}
		}
	}
	return voters
}

// caughtUp reports whether a node has applied what the leader had when the cluster was asked before. That it stands in its log says nothing: it may be
// what a leader of before has left there.
func (p *planner) caughtUp(g *groupView, n string) bool {
	applied, open := g.open[n]
	return open && p.view.nodes[n] != nil && p.view.nodes[n].alive && applied >= g.mark
}

func (p *planner) wait(format string, args ...any) {
	if p.plan.waiting == "" {
		p.plan.waiting = fmt.Sprintf(format, args...)
	}
}

func (p *planner) add(s step) {
	p.plan.steps = append(p.plan.steps, s)
	p.busy[s.group] = true
	p.wait("partition %s: %s", s.group, s)
}

// group finds the next step of a group that holders are to hold, and of them voters to vote.
func (p *planner) group(id crier.PartitionID, g *groupView, holders, voters []string) {
	if g.leader == "" || g.configuration == 0 {
		p.busy[id] = true
		p.wait("partition %s has no leader, or is changing", id)
		return
	}
	if p.openMissing(id, g, holders) || p.leaveLeader(id, g, voters) || p.build(id, g, holders, voters) || p.shed(id, g, holders, voters) {
		return
	}
	p.dropLeft(id, g)
}

// openMissing opens a group where its configuration says that it is, and it is not: the node began anew before the group had anything. Where it is not to be any more, that is not
// needed, and must not hold up its removal: it may fail each time.
func (p *planner) openMissing(id crier.PartitionID, g *groupView, holders []string) bool {
	for _, n := range g.holders() {
		if !slices.Contains(holders, n) {
			continue
		}
		if _, open := g.open[n]; !open && p.view.nodes[n] != nil && p.view.nodes[n].alive {
			p.add(step{clusterv1.StepKind_STEP_KIND_OPEN, id, n})
			return true
		}
	}
	return false
}

// leaveLeader hands over where the leader is not to vote any longer, to who leads least: at once where its node is about to leave, and else when the replica in its place
// is ready, since until then somebody else's may have become the one to go. It also hands over at once where the disk of the leader's node is full and that of another is not.
func (p *planner) leaveLeader(id crier.PartitionID, g *groupView, voters []string) bool {
	at := p.view.nodes[g.leader]
	full := at != nil && at.full
	if slices.Contains(voters, g.leader) && !full {
		return false
	}
	ready := p.ready(g, voters)
	missing := len(voters) - len(ready)
	if full {
		room := slices.DeleteFunc(slices.Clone(ready), func(n string) bool { return p.view.nodes[n].full })
		switch {
		case len(room) > 0:
			ready, missing = room, 0
		case slices.Contains(voters, g.leader):
			return false // it stays: the others are full, too
		}
	}
	if len(ready) == 0 || missing > 0 && at != nil && at.state == crier.NodeMember {
		return false
	}
	next := slices.MinFunc(ready, func(a, b string) int { return cmp.Compare(p.leads[a], p.leads[b]) })
	if id != crier.SystemPartition {
		p.leads[g.leader]--
		p.leads[next]++
	}
	p.add(step{clusterv1.StepKind_STEP_KIND_HAND_OVER, id, next})
	return true
}

// ready returns those of the voters to be that vote already, and have what the leader has.
func (p *planner) ready(g *groupView, voters []string) (ready []string) {
	for _, n := range voters {
		if slices.Contains(g.voters, n) && p.caughtUp(g, n) {
			ready = append(ready, n)
		}
	}
	return ready
}

// build adds a replica, or gives one that has caught up its vote.
func (p *planner) build(id crier.PartitionID, g *groupView, holders, voters []string) bool {
	for _, n := range voters {
		if slices.Contains(g.others, n) && p.caughtUp(g, n) {
			p.add(step{clusterv1.StepKind_STEP_KIND_PROMOTE, id, n})
			return true
		}
	}
	for _, n := range holders {
		if slices.Contains(g.holders(), n) || !p.view.takes(n) {
			continue
		}
		if id != crier.SystemPartition {
			if p.plan.moving >= p.atOnce {
				p.wait("partition %s: add %s, when its turn comes", id, n)
				return false
			}
			p.plan.moving++
		}
		p.add(step{clusterv1.StepKind_STEP_KIND_ADD, id, n})
		return true
	}
	for _, n := range voters {
		switch {
		case !slices.Contains(g.others, n) || !p.view.serves(n):
		case slices.Contains(g.stuck, n):
			p.wait("partition %s: the replica on %s has come no further for %v", id, n, stuckAfter)
		default:
			p.wait("partition %s: %s is catching up", id, n)
			p.plan.soon = true
		}
	}
	return false
}

// shed takes a replica from a node that is not to have it, once those that are to have one do. A lost node's goes only where enough others
// vote: where there are not, it may still come back with what it has. In the system group, where one that was away is back, and another votes in its place, only its vote goes.
func (p *planner) shed(id crier.PartitionID, g *groupView, holders, voters []string) bool {
	for _, n := range g.others {
		if !slices.Contains(holders, n) {
			p.add(step{clusterv1.StepKind_STEP_KIND_REMOVE, id, n})
			return true
		}
	}
	ready := len(p.ready(g, voters))
	for _, n := range g.voters {
		if slices.Contains(voters, n) {
			continue
		}
		at, kind := p.view.nodes[n], clusterv1.StepKind_STEP_KIND_REMOVE
		if id == crier.SystemPartition && slices.Contains(holders, n) {
			if kind = clusterv1.StepKind_STEP_KIND_DEMOTE; !p.view.serves(n) {
				continue // it is about to leave, or to come back
			}
		}
		merelyLost := at != nil && at.state == crier.NodeMember && at.lost
		switch {
		case ready < len(voters) || ready == 0:
			p.wait("partition %s: those that are to hold it are not ready for %s to go", id, n)
		case merelyLost && ready < p.replicas:
			// Nothing is gained: see above.
		default:
			p.add(step{kind, id, n})
			return true
		}
	}
	return false
}

// dropLeft deletes what nodes have of a group that they are out of. The system group's last state stays with a node that has left.
func (p *planner) dropLeft(id crier.PartitionID, g *groupView) {
	if id == crier.SystemPartition {
		return
	}
	for _, n := range slices.Sorted(maps.Keys(g.open)) {
		if !slices.Contains(g.holders(), n) {
			p.add(step{clusterv1.StepKind_STEP_KIND_DROP, id, n})
			return
		}
	}
}

// leaders evens out who leads, in the groups that have nothing else to do, when no replica is being built: who leads a group that is about to move is to be decided anyway.
func (p *planner) leaders(wanted map[crier.PartitionID][]string) {
	leads, can := make(map[crier.PartitionID]string), make(map[crier.PartitionID][]string)
	for id := range wanted {
		g := p.view.groups[id]
		if g.leader == "" {
			continue
		}
		leads[id] = g.leader
		for _, n := range g.voters {
			if p.caughtUp(g, n) && p.view.serves(n) && !p.view.nodes[n].full {
				can[id] = append(can[id], n)
			}
		}
		slices.Sort(can[id])
	}
	evened := evenLeaders(leads, can)
	room := p.atOnce
	for _, id := range slices.Sorted(maps.Keys(evened)) {
		if evened[id] == "" || evened[id] == leads[id] {
			continue
		}
		p.wait("partition %s: hand over to %s", id, evened[id])
		if p.balance && p.plan.moving == 0 && !p.busy[id] && room > 0 {
			room--
			p.add(step{clusterv1.StepKind_STEP_KIND_HAND_OVER, id, evened[id]})
		}
	}
}
