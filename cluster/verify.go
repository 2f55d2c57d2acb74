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
	// Confirmed returns how many of the peers have answered a heartbeat with success that was sent at since or later.
	Confirmed(since time.Time, peers []raft.ServerAddress) int
	// Hurry has heartbeats sent at once, until done is called.
	Hurry() (done func())
}

// Verify blocks until a majority of the voters has confirmed, by a heartbeat sent after the call began, that this node leads the group: then
// what the state machine says is not older than the call. The error carries crier.CodeTimeout: another may lead, or ctx has ended.
func (g *Group) Verify(ctx context.Context) error {
	since := time.Now()
	if t, ok := g.transport.(confirmer); ok {
		defer t.Hurry()()
	}
	for {
		if !g.IsLeader() {
			return ErrNotLeader
		}
		if g.confirmed(since) {
			return nil
		}
		// raft sends heartbeats at once to answer this. Its own answer is not enough: it counts what a follower has said before it was
		// asked, which a leader that hangs for a while can find in its socket when it goes on.
		if err := wait(ctx, g.raft.VerifyLeader()); err != nil {
			return translate(err)
		}
		if g.confirmed(since) {
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

// confirmed reports whether a majority has confirmed since then that this node leads.
func (g *Group) confirmed(since time.Time) bool {
	others, needed := g.voters()
	if needed == 0 {
		return true
	}
	t, ok := g.transport.(confirmer)
	return ok && t.Confirmed(since, others) >= needed
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
