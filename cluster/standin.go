package cluster

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// standInFirst bounds the pause before the first in line stands for election: those of many groups are spread over it.
	standInFirst = 50 * time.Millisecond
	// standInNext is how long each next one waits for the one before, which may have died too, or lack entries of the log.
	standInNext = 500 * time.Millisecond
)

// campaigner is a raft.Transport that can have its raft stand for election at once.
type campaigner interface{ Campaign() }

// standIn has this node stand for election in the groups that a node led whose process has ended: its address refuses connections, so nobody
// needs to wait until raft loses patience. In each group the voters do so one after the other, so that their votes are not split.
func (n *Node) standIn(dead string) {
	for _, g := range n.open() {
		place := g.place(dead, n.cfg.NodeID)
		if place < 0 {
			continue
		}
		time.AfterFunc(time.Duration(place)*standInNext+rand.N(standInFirst), func() {
			if t, ok := g.transport.(campaigner); ok && g.place(dead, n.cfg.NodeID) >= 0 {
				t.Campaign()
			}
		})
	}
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
