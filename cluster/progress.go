package cluster

import (
	"time"

	"github.com/crier-im/crier"
)

// stuckAfter is how long a replica that is being built may come no further before it holds up no others: its log or its snapshot does not get there, or its disk takes nothing.
// A snapshot on its way is no progress before it is applied, so this is a multiple of what a large one takes.
const stuckAfter = 10 * time.Minute

// progresses are how far the replicas without a vote have come.
type progresses map[building]progress

// building is a replica without a vote.
type building struct {
	group crier.PartitionID
	node  string
}

// progress is how far a replica has ever come, and how long it has been alive and behind since it came further. One that is begun anew, since its node ends again and again, has not.
type progress struct {
	applied uint64
	without time.Duration
	seen    time.Time // when the time that has passed was counted last
}

// next returns the progresses as of another view, and marks in it who is stuck. Time counts while the node is alive and the group has a leader that the replica is behind.
func (s progresses) next(v *view, now time.Time) progresses {
	next := make(progresses)
	for b, p := range s { // of a group without a leader it can't be seen who is being built
		if g := v.groups[b.group]; g != nil && g.leader == "" {
			p.seen = now
			next[b] = p
		}
	}
	for id, g := range v.groups {
		if id == crier.SystemPartition {
			continue
		}
		for _, n := range g.others {
			b := building{id, n}
			p, at, applied := s[b], v.nodes[n], g.open[n]
			switch {
			case applied > p.applied || applied >= g.mark:
				p.applied, p.without = max(p.applied, applied), 0
			case at != nil && at.alive && !p.seen.IsZero():
				p.without += now.Sub(p.seen)
			}
			p.seen = now
			if p.without >= stuckAfter && at != nil && at.alive {
				g.stuck = append(g.stuck, n)
				at.stuck = true
			}
			next[b] = p
		}
	}
	return next
}
