package transport

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A link to a node that has left for good ends, and a new one is made when the node is wanted again.
func TestUnwantedLinkEnds(t *testing.T) {
	t.Parallel()
	m, err := Open(Config{
		Cluster: "c", NodeID: "a", Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Resolve: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	l, err := m.link("b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.now(nil); !errors.Is(err, errNoAddress) {
		t.Errorf("%v", err)
	}
	l.mu.Lock()
	l.wanted = time.Now().Add(-2 * idleLink)
	l.mu.Unlock()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		m.mu.Lock()
		left := len(m.links)
		m.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatal("the link stays")
		}
	}
	if _, err := l.wait(time.Now().Add(time.Minute), nil); !errors.Is(err, ErrLinkDown) {
		t.Errorf("the ended one: %v", err)
	}
	if again, err := m.link("b"); err != nil || again == l {
		t.Errorf("%v", err)
	}
}

// What could not be sent has no call that somebody might wait for.
func TestFailedStartLeavesNoCall(t *testing.T) {
	t.Parallel()
	c, other := net.Pipe()
	defer other.Close()
	o := newOutbound(newConn(c, time.Second, 0, newMetrics(nil).peer("b")), "a", "b")
	o.fail(ErrClosed)
	call, err := o.start(kindVote, 0, new(raft.RequestVoteRequest), new(raft.RequestVoteResponse), nil)
	if call != nil || !errors.Is(err, ErrLinkDown) || len(o.pending) != 0 {
		t.Errorf("%v, %v, %d wait", call, err, len(o.pending))
	}
	p := newPulse(nil)
	p.send(o, time.Second, func() {})
	<-p.call.done
	if !errors.Is(p.call.err, ErrLinkDown) {
		t.Errorf("a pulse: %v", p.call.err)
	}
}
