package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors/actorstest"
)

// What a receiver had acknowledged after its partition had moved was ignored, since the
// new user actor had not sent it: it came again at the next login.
func TestAcknowledgementsCountAfterTheLeaderHasMoved(t *testing.T) {
	t.Parallel()
	for name, cumulative := range map[string]bool{"single": false, "cumulative": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, 1)
			d := dial(t, n, "a", crier.Android)
			for range 3 {
				waitDone(t, n, push(t, n, time.Hour), 1)
			}
			eventually(t, "three", func() bool { return len(d.Seqs()) == 3 })
			move(t, n, 0)
			eventually(t, "attached again", func() bool { return presence(t, n, "a").State == crier.Online })
			d.Acknowledge([]uint64{2}, cumulative)
			want := []uint64{1, 3}
			if cumulative {
				want = []uint64{3}
			}
			eventually(t, fmt.Sprint(want, " waits"), func() bool { return slices.Equal(waiting(t, n, "a"), want) })
			if got := d.Seqs(); len(got) != 3 {
				t.Errorf("sent twice on one connection: %v", got)
			}
		})
	}
}

// What a receiver acknowledged while its session had no user actor was dropped.
func TestAcknowledgementsWaitForTheNextLeader(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "one", func() bool { return len(d.Seqs()) == 1 })
	if err := n.Stop(0); err != nil {
		t.Fatal(err)
	}
	d.Acknowledge([]uint64{1}, false)
	n.Start(0)
	eventually(t, "it is taken", func() bool { return len(waiting(t, n, "a")) == 0 })
}

// What a receiver had acknowledged was lost with the leader that had not written it to the log yet: the message stayed in the mailbox, and vendors were told of what
// had been read.
func TestAcknowledgementsOutliveTheLeader(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	for range 3 {
		waitDone(t, n, push(t, n, time.Hour), 1)
	}
	eventually(t, "three", func() bool { return len(d.Seqs()) == 3 })
	g := newGate("Acknowledge")
	n.Replicas[0].Intercept(g.hold, nil)
	d.Acknowledge([]uint64{1, 3}, false)
	g.waitReached(t)
	if err := n.Stop(0); err != nil {
		t.Fatal(err)
	}
	n.Replicas[0].Intercept(nil, nil)
	n.Start(0)
	eventually(t, "only what is not acknowledged waits", func() bool { return slices.Equal(waiting(t, n, "a"), []uint64{2}) })
	d.Acknowledge([]uint64{2}, false)
	eventually(t, "nothing waits", func() bool { return len(waiting(t, n, "a")) == 0 })
	if got := d.Seqs(); len(got) != 3 {
		t.Errorf("sent twice on one connection: %v", got)
	}
}

var errLog = errors.New("the log can't be written")

// backlog has devices acknowledge many pushes while the log can't be written: the acknowledgements have gathered in the partition, and are tried again each second.
func backlog(t *testing.T, users, pushes int) (*actorstest.Node, []device) {
	t.Helper()
	n := newNode(t, 1, func(a *crier.App) { a.Limits.InFlightMessages, a.Limits.PushBodyBytes = 0, 0 })
	change(t, n, imports(users)...)
	devices := make([]device, users)
	for i := range devices {
		devices[i] = dial(t, n, crier.UserID(fmt.Sprintf("user%d", i)), crier.Android)
	}
	for range pushes {
		push(t, n, time.Hour)
	}
	for _, d := range devices {
		eventually(t, "every push", func() bool { return len(d.Seqs()) == pushes })
	}
	var failures atomic.Int32
	n.Replicas[0].Intercept(func(_ context.Context, command string) error {
		if command != "Acknowledge" {
			return nil
		}
		failures.Add(1)
		return errLog
	}, nil)
	for _, d := range devices {
		d.Acknowledge([]uint64{uint64(pushes)}, true)
	}
	// The second attempt comes a second after the first: by then all have gathered.
	eventually(t, "two failed attempts", func() bool { return failures.Load() > 1 })
	return n, devices
}

// allAcknowledged waits until nothing waits in the mailboxes.
func allAcknowledged(t *testing.T, n *actorstest.Node, users int) {
	t.Helper()
	for i := range users {
		user := crier.UserID(fmt.Sprintf("user%d", i))
		eventually(t, string(user)+" has acknowledged", func() bool { return len(waiting(t, n, user)) == 0 })
	}
}

// After a fault of the log, what had gathered went out 1024 a second, slower than
// acknowledgements come.
func TestABacklogOfAcknowledgementsDrains(t *testing.T) {
	t.Parallel()
	const users, pushes = 120, 250 // 30,000: thirty commands
	n, _ := backlog(t, users, pushes)
	n.Replicas[0].Intercept(nil, nil)
	since := time.Now()
	allAcknowledged(t, n, users)
	if took := time.Since(since); took > 5*time.Second {
		t.Errorf("%v", took)
	}
}

// Acknowledgements that wait for the log again came over others that were under way, which were lost.
func TestAcknowledgementsThatFailSideBySide(t *testing.T) {
	t.Parallel()
	const users, pushes = 12, 200 // 2400: three commands
	n, devices := backlog(t, users, pushes)
	calls := make(chan chan error, 100)
	n.Replicas[0].Intercept(func(ctx context.Context, command string) error {
		if command != "Acknowledge" {
			return nil
		}
		answer := make(chan error)
		calls <- answer
		select {
		case err := <-answer:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil)
	first, second, third := <-calls, <-calls, <-calls
	const more = 20
	for range more {
		push(t, n, time.Hour)
	}
	for _, d := range devices {
		eventually(t, "more pushes", func() bool { return len(d.Seqs()) == pushes+more })
	}
	for _, d := range devices {
		d.Acknowledge([]uint64{pushes + more}, true)
	}
	first <- errLog // while those gather
	again := <-calls
	second <- errLog
	n.Replicas[0].Intercept(nil, nil)
	third <- nil
	again <- nil
	for left := true; left; { // that came before the log was well again
		select {
		case answer := <-calls:
			answer <- nil
		default:
			left = false
		}
	}
	allAcknowledged(t, n, users)
}
