package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// verifyPause is how long a verification waits before it looks again: an answer between two nodes takes less.
const verifyPause = time.Millisecond

// confirmer is a raft.Transport that knows who has confirmed the leader, and of which moment.
type confirmer interface {
	// Confirmed returns how many of the peers have answered a heartbeat of the term with success that was sent at since or later.
	Confirmed(since time.Time, term uint64, peers []raft.ServerAddress) int
	// Hurry has heartbeats sent at once, until done is called.
	Hurry() (done func())
}

// Verify blocks until a majority of the voters has confirmed, by a heartbeat sent after the call began, that this node leads the group in the term in which the call began. The error carries
// crier.CodeTimeout: another may lead, or ctx has ended.
func (g *Group) Verify(ctx context.Context) error { return g.verify(ctx, g.Term()) }

// Led is a group as this node leads it in one term, after a barrier.
type Led struct {
	*Group
	term uint64
}

// Led returns the group as it is led here in a term.
func (g *Group) Led(term uint64) Led { return Led{g, term} }

// Verify is Group.Verify for the term: then what the state machine says is not older than the call. In a later term of this node that would not be so: what another leader has
// acknowledged in between is in its log, and may not be in its state before the next barrier.
func (l Led) Verify(ctx context.Context) error { return l.verify(ctx, l.term) }

func (g *Group) verify(ctx context.Context, term uint64) error {
	since := time.Now()
	if t, ok := g.transport.(confirmer); ok {
		defer t.Hurry()()
	}
	for {
		if !g.IsLeader() || g.Term() != term {
			return ErrNotLeader
		}
		if g.confirmed(since, term) {
			return nil
		}
		// raft sends heartbeats at once to answer this. Its own answer is not enough: it counts what a follower has said before it was
		// asked, which a leader that hangs for a while can find in its socket when it goes on.
		if err := wait(ctx, g.raft.VerifyLeader()); err != nil {
			return translate(err)
		}
		if g.confirmed(since, term) {
			return nil
		}
		select {
		case <-ctx.Done():
			return unknown(ctx.Err())
		case <-time.After(verifyPause):
		}
	}
}

// Alone reports whether this node leads the group and is its only voter: nobody else can lead, and Verify asks nobody.
func (g *Group) Alone() bool {
	others, needed := g.voters()
	return len(others) == 0 && needed == 0 && g.IsLeader()
}

// voters returns the other voters of the group, and how many of them make a majority with this node.
func (g *Group) voters() (others []raft.ServerAddress, needed int) {
	all, self := 0, 0
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter:
			continue
		case s.Address == g.transport.LocalAddr():
			self = 1
		default:
			others = append(others, s.Address)
		}
		all++
	}
	return others, all/2 + 1 - self
}

// confirmed reports whether a majority has confirmed since then that this node leads in the term.
func (g *Group) confirmed(since time.Time, term uint64) bool {
	others, needed := g.voters()
	if needed == 0 {
		return true
	}
	t, ok := g.transport.(confirmer)
	return ok && t.Confirmed(since, term, others) >= needed
}

// wait waits for a future of raft, which does not end while raft waits for a disk that hangs.
func wait(ctx context.Context, future raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- future.Error() }() // ends with raft at the latest
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
