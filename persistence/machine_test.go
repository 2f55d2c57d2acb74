package persistence

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// fatalReplica is a replica of a store that keeps why it could not go on.
func fatalReplica(t *testing.T) (s *Store, r *Replica, l *testLog, why *error) {
	t.Helper()
	why = new(error)
	cfg := testConfig(t.TempDir())
	cfg.Fatal = func(err error) { *why = err }
	s = openStoreWith(t, cfg)
	l = newTestLog(s.FSM(0))
	return s, s.Replica(0, l), l, why
}

// heavy makes accounts that are as large as the default limits let them be, and returns a change of each.
func heavy(t *testing.T, r *Replica, n int) (changes []crier.Change) {
	t.Helper()
	for i := range n {
		user := crier.UserID(fmt.Sprintf("user%03d", i))
		mustChange(t, r, imports(user)...)
		for d := range 10 {
			token := fmt.Sprintf("%03d%d", i, d) + strings.Repeat("x", crier.MaxTokenBytes-4)
			mustChange(t, r, crier.Change{Op: crier.OpRegisterDevice, User: user, Device: &crier.Device{Vendor: crier.FCM, Token: token}})
		}
		changes = append(changes, crier.Change{Op: crier.OpSetAttrs, User: user, Attrs: crier.Attrs{0: "m"}})
	}
	return changes
}

// What one call, or many calls in one command, write fits into a transaction, whatever the accounts have: else the process would end, on each replica and at each start.
func TestLargeAccountsFitIntoATransaction(t *testing.T) {
	t.Parallel()
	_, r, _, why := fatalReplica(t)
	changes := heavy(t, r, 130)
	if err := r.ChangeAccounts(t.Context(), testApp, changes); !errors.Is(err, crier.CodeBadAccountCount) {
		t.Errorf("a call that changes 5 MB: %v", err)
	}
	a, err := r.Accounts(testApp, []crier.UserID{"user000"})
	if err != nil || a[0].Attrs[0] != "" {
		t.Errorf("a refused call has changed %+v, %v", a[0].Attrs, err)
	}
	var calls []crier.AccountChanges
	for i := range changes {
		calls = append(calls, crier.AccountChanges{App: testApp, ID: crier.CommandID{Origin: 1, Number: uint64(i + 1), Oldest: 1}, Changes: changes[i : i+1]})
	}
	for rounds := 0; len(calls) > 0; rounds++ { // as the directory sends them again
		if rounds == 10 {
			t.Fatalf("%d calls are not done", len(calls))
		}
		var left []crier.AccountChanges
		for i, err := range r.ChangeAccountsBatch(t.Context(), calls) {
			switch {
			case errors.Is(err, crier.CodeTimeout):
				left = append(left, calls[i])
			case err != nil:
				t.Fatal(err)
			}
		}
		calls = left
		if err := r.m.waitWritten(r.m.meta.GetIndex()); err != nil {
			t.Fatal(err)
		}
	}
	if *why != nil {
		t.Errorf("the process has ended: %v", *why)
	}
	if a, err := r.Accounts(testApp, []crier.UserID{"user129"}); err != nil || a[0].Attrs[0] != "m" {
		t.Errorf("%+v, %v", a[0].Attrs, err)
	}
}

// Many calls at once, of 6 MB together, come into the log: each of its transactions takes what a partition has under way.
func TestLargeCommandsFitIntoTheLog(t *testing.T) {
	t.Parallel()
	s, r, l := openReplica(t)
	mustChange(t, r, imports("a", "b")...)
	var calls []crier.AccountChanges
	for i := range 6000 {
		c := crier.Change{Op: crier.OpImport, User: "a", Profile: crier.Profile{Nick: fmt.Sprint(i), FaceURL: strings.Repeat("x", 1000)}}
		calls = append(calls, crier.AccountChanges{App: testApp, Changes: []crier.Change{c}})
	}
	for _, err := range r.ChangeAccountsBatch(t.Context(), append(calls, crier.AccountChanges{App: testApp, Changes: []crier.Change{setCity("b", "last")}})) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if a, err := r.Accounts(testApp, []crier.UserID{"a"}); err != nil || a[0].Profile.Nick != "5999" || city(t, r, "b") != "last" {
		t.Errorf("after all calls in turn: %+v, %v", a[0].Profile, err)
	}
	for _, e := range l.all {
		if err := s.logs[0].StoreLog(e); err != nil {
			t.Errorf("a command of %d bytes: %v", len(e.Data), err)
		}
	}
}

// A replica that can't apply a command as the others do ends, and has not passed it.
func TestAReplicaThatCannotApplyEnds(t *testing.T) {
	t.Parallel()
	change := func() []byte {
		c := wire.ChangeCommand{Version: commandVersion, TimeMs: 1, Calls: []crier.AccountChanges{{App: testApp, Changes: []crier.Change{{Op: crier.OpSetAttrs, User: "a"}}}}}
		return c.Append(nil)
	}
	for name, c := range map[string]struct {
		damage  bool
		command []byte
		says    string
	}{
		"damaged account": {true, change(), "damaged"},
		"newer command":   {false, marshal(&logv1.Command{Version: commandVersion + 1, Body: &logv1.Command_Sweep{Sweep: &logv1.Sweep{}}}), "upgrade the node"},
		"unknown command": {false, marshal(&logv1.Command{Version: commandVersion}), "upgrade the node"},
		"no command":      {false, []byte{0xff}, "a command of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r, l, why := fatalReplica(t)
			mustChange(t, r, imports("a")...)
			m := s.machines[0]
			if err := m.waitWritten(l.index); err != nil {
				t.Fatal(err)
			}
			if c.damage {
				b := new(batch)
				b.set(m.keys.account(testApp, "a"), []byte{0xff})
				if err := s.stateDB.commit([]*batch{b}); err != nil {
					t.Fatal(err)
				}
				m.recent.Purge()
			}
			for range 2 { // the second entry is not applied either
				l.index++
				l.fsm.ApplyBatch([]*raft.Log{{Index: l.index, Term: 1, Type: raft.LogCommand, Data: c.command}})
			}
			if *why == nil || !strings.Contains((*why).Error(), c.says) {
				t.Errorf("the process does not end for %q, but for %v", c.says, *why)
			}
			if m.meta.GetIndex() != l.index-2 {
				t.Errorf("entry %d is passed, of %d", m.meta.GetIndex(), l.index)
			}
		})
	}
}
