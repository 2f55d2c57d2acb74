package actors_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crier-im/crier"
)

// What a partition says is verified, and a leader that can't be sure of it is asked again: by then another may lead.
func TestReadsAreVerified(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	change(t, n, imports(1)...)
	task := push(t, n, 0)
	waitDone(t, n, task, 1) // before it begins, there is no funnel
	replica := n.Replicas[0]
	for name, read := range map[string]func() error{
		"accounts": func() error { _, err := n.Service.Accounts(t.Context(), appID, []crier.UserID{"user0"}); return err },
		"presence": func() error { _, err := n.Service.Presence(t.Context(), appID, []crier.UserID{"user0"}); return err },
		"reports":  func() error { _, err := n.Service.Reports(t.Context(), appID, []crier.TaskID{task}); return err },
		"funnel":   func() error { _, err := n.Service.Funnel(t.Context(), appID, task); return err },
		"explain":  func() error { _, err := n.Service.Explain(t.Context(), appID, task, "user0"); return err },
	} {
		var failures atomic.Int32
		replica.SetAlone(false)
		replica.Intercept(func(_ context.Context, command string) error {
			if command == "Verify" && failures.Add(1) == 1 {
				return crier.Errorf(crier.CodeTimeout, "another may lead")
			}
			return nil
		}, nil)
		if err := read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if failures.Load() < 2 {
			t.Errorf("%s: %d verifications", name, failures.Load())
		}
		replica.SetAlone(true)
		failures.Store(0)
		if err := read(); err != nil || failures.Load() > 0 {
			t.Errorf("%s: the only voter has verified: %v", name, err)
		}
	}
}

// A verification is of all reads that were there when it began.
func TestReadsAreVerifiedTogether(t *testing.T) {
	t.Parallel()
	const readers = 50
	n := newNode(t, 1)
	change(t, n, imports(1)...)
	replica := n.Replicas[0]
	replica.SetAlone(false)
	held := newGate("Verify")
	replica.Intercept(held.hold, nil)
	var reading sync.WaitGroup
	read := func() {
		if accounts, err := n.Service.Accounts(t.Context(), appID, []crier.UserID{"user0"}); err != nil || accounts[0] == nil {
			t.Errorf("%v, %v", accounts, err)
		}
	}
	reading.Go(read)
	held.waitReached(t) // it began before the others came, and is not for them
	for range readers {
		reading.Go(read)
	}
	eventually(t, "all are waiting", func() bool { return n.Waiting() == readers+1 })
	close(held.open)
	reading.Wait()
	if n := replica.Commands("Verify"); n < 2 || n > readers/2 {
		t.Errorf("%d verifications for %d reads", n, readers+1)
	}
}

// Whoever has changed an app finds it changed on the node that was asked, and a node that starts waits for what was changed while it was away: both
// wait for their replica of the system group.
func TestTheSystemGroupIsWaitedFor(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for name, call := range map[string]func() error{
		"change": func() error { return n.Service.SetAttrNames(t.Context(), appID, map[int]string{0: "sex"}) },
		"start":  func() error { return n.Service.WaitForSystem(t.Context()) },
	} {
		n.System.SetIndexes(7, 5, 6, 7) // the leader's, and then this node's
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left := n.System.Indexes(); left != 0 {
			t.Errorf("%s: it did not wait, %d are left", name, left)
		}
	}
}
