package cluster

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

const (
	// standInFirst bounds the pause before the first in line stands for election: those of many groups are spread over it.
	standInFirst = 50 * time.Millisecond
	// standInNext is how long each next one waits for the one before, which may have died too, or lack entries of the log.
	standInNext = 500 * time.Millisecond
	// lookNext is standInNext where the leader may still be there: who looks first clears the way for the next one's election, since a voter refuses while it knows
	// of a leader.
	lookNext = 150 * time.Millisecond
	// reloadStep is by how much a group's patience is shortened for a moment, to have raft look.
	reloadStep = time.Nanosecond
)

// campaigner is a raft.Transport that can have its raft stand for election at once.
type campaigner interface{ Campaign() }

// standIn has this node stand for election in the groups that a node led whose process has ended: its address refuses connections, so nobody
// needs to wait until raft loses patience. In each group the voters do so one after the other, so that their votes are not split.
func (n *Node) standIn(dead string) {
	n.line(dead, standInNext, func(g *Group) {
		if t, ok := g.transport.(campaigner); ok {
			t.Campaign()
		}
	})
}

// lookForLeaders has raft look at once whether the groups that a node led, of which nothing has come for long, still have a leader: it may be dead, cut off,
// or slow. Raft by itself looks at a time that it draws, so that one group of many waits three times as long as its patience, and then for votes that were split.
func (n *Node) lookForLeaders(silent string) {
	n.line(silent, lookNext, (*Group).lookForLeader)
}

// line has each group that a node led call f, when it is this node's turn in the line of its voters.
func (n *Node) line(gone string, pause time.Duration, f func(*Group)) {
	for _, g := range n.open() {
		place := g.place(gone, n.cfg.NodeID)
		if place < 0 {
			continue
		}
		time.AfterFunc(time.Duration(place)*pause+rand.N(standInFirst), func() {
			if g.place(gone, n.cfg.NodeID) >= 0 {
				f(g)
			}
		})
	}
}

// lookForLeader has raft look at once whether it has heard from the leader within its patience, and else stand for election: it does so when its patience is shortened.
func (g *Group) lookForLeader() {
	rc := g.raft.ReloadableConfig()
	for _, patience := range []time.Duration{rc.ElectionTimeout - reloadStep, rc.ElectionTimeout} {
		rc.HeartbeatTimeout = patience
		if err := g.raft.ReloadConfig(rc); err != nil {
			panic("cluster: " + err.Error()) // both were valid before
		}
	}
}

// votes reports whether this node may vote in a group: its replica knows of a configuration. Raft has one that does not vote for anybody; but what was here before it, and
// was deleted, may have acknowledged entries that the candidate lacks, or have voted for another in the same term.
func (n *Node) votes(p crier.PartitionID) bool {
	g := n.Group(p)
	return g != nil && len(g.raft.GetConfiguration().Configuration().Servers) > 0
}

// place returns the place of a node in the line of those that stand in for a leader which is dead, -1 where it has none: the group has
// another leader, or the node no vote.
func (g *Group) place(dead, node string) int {
	if _, leader := g.raft.LeaderWithID(); g.raft.State() != raft.Follower || leader != "" && leader != raft.ServerID(dead) {
		return -1
	}
	var line []string
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != raft.ServerID(dead) {
			line = append(line, string(s.ID))
		}
	}
	slices.SortFunc(line, func(a, b string) int { return compareDraws(b, a, g.id) })
	return slices.Index(line, node)
}
