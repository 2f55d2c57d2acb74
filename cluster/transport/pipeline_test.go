package transport_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// openPipeline opens nodes a and b, and a pipeline from one to the other, whose raft is f.
func openPipeline(t *testing.T, n *network, f *follower) raft.AppendPipeline {
	t.Helper()
	a, b := n.open(t, "a", nil).Group(0), n.open(t, "b", nil).Group(0)
	serve(t, b, f.answer)
	p, err := a.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestPipelineSurvivesReset(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	p := openPipeline(t, n, &follower{last: 99})
	const many = 300
	received := make(chan uint64, many)
	go func() {
		for range many {
			f := <-p.Consumer()
			if f.Error() != nil || !f.Response().Success {
				t.Errorf("%+v, %v", f.Response(), f.Error())
			}
			received <- f.Request().Entries[0].Index
		}
		close(received)
	}()
	for i := range uint64(many) {
		size, entries := 100, uint64(1)
		if i%100 == 7 {
			size, entries = 400_000, 1
		}
		if _, err := p.AppendEntries(appendRequest(100+i, entries, size), new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 {
			n.faults.Reset("a", "b")
		}
	}
	want := uint64(100)
	for index := range received {
		if index != want {
			t.Fatalf("answer to %d, want %d", index, want)
		}
		want++
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, time.Second, "the pipeline refuses", func() bool {
		_, err := p.AppendEntries(appendRequest(999, 1, 1), new(raft.AppendEntriesResponse))
		return errors.Is(err, raft.ErrPipelineShutdown)
	})
}

// What a follower has confirmed is not told again, until there is news or the link has been another.
func TestPipelineTellsNothingTwice(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	f := &follower{last: 99}
	p := openPipeline(t, n, f)
	seen := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.seen
	}
	tell := func(what string, arrives bool, request *raft.AppendEntriesRequest) {
		t.Helper()
		before := seen()
		if _, err := p.AppendEntries(request, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		if !arrives {
			select {
			case <-p.Consumer():
				t.Errorf("%s: an answer that the follower has not given", what)
			case <-time.After(50 * time.Millisecond):
			}
		} else if future := <-p.Consumer(); future.Error() != nil || !future.Response().Success {
			t.Errorf("%s: %+v, %v", what, future.Response(), future.Error())
		}
		if got := seen() - before; (got > 0) != arrives {
			t.Errorf("%s: the follower saw %d appends", what, got)
		}
	}
	empty := func(term, last, commit uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: term, PrevLogEntry: last, PrevLogTerm: 1, LeaderCommitIndex: commit}
	}
	first := appendRequest(100, 1, 10)
	first.Term, first.LeaderCommitIndex = 1, 99
	tell("an entry", true, first)
	tell("nothing new", false, empty(1, 100, 99))
	tell("a commit", true, empty(1, 100, 100))
	tell("the same", false, empty(1, 100, 100))
	tell("another term", true, empty(2, 100, 100))
	tell("another end", true, empty(2, 99, 100))
	tell("the same end", false, empty(2, 99, 100))
	n.faults.Reset("a", "b")
	eventually(t, 10*time.Second, "the reset is noticed", func() bool { return strings.Contains(n.logs.String(), "no link to a node") })
	tell("another link", true, empty(2, 99, 100))
	tell("the same link", false, empty(2, 99, 100))
}

// A pipeline whose follower does not take an append delivers that answer, also from the middle of a cut one.
func TestPipelineTurnedDown(t *testing.T) {
	t.Parallel()
	p := openPipeline(t, newNetwork(), &follower{last: 5})
	for _, request := range []*raft.AppendEntriesRequest{appendRequest(100, 40, 100_000), appendRequest(6, 40, 100_000)} {
		if _, err := p.AppendEntries(request, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []bool{false, true} {
		select {
		case f := <-p.Consumer():
			if f.Response().Success != want {
				t.Errorf("%+v", f.Response())
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no answer")
		}
	}
}
