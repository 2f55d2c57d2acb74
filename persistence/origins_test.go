package persistence

import (
	"errors"
	"fmt"
	"testing"

	"github.com/crier-im/crier"
)

// named changes accounts by one call with an id.
func named(t *testing.T, r *Replica, id crier.CommandID, changes ...crier.Change) error {
	t.Helper()
	return r.ChangeAccountsBatch(t.Context(), []crier.AccountChanges{{App: testApp, ID: id, Changes: changes}})[0]
}

func setCity(user crier.UserID, value string) crier.Change {
	c := crier.Change{Op: crier.OpSetAttrs, User: user}
	c.Attrs[0] = value
	return c
}

func city(t *testing.T, r *Replica, user crier.UserID) string {
	t.Helper()
	accounts, err := r.Accounts(testApp, []crier.UserID{user})
	if err != nil || accounts[0] == nil {
		t.Fatalf("%v, %v", accounts, err)
	}
	return accounts[0].Attrs[0]
}

// What comes again, with something else in between, is done once; what was refused is tried again.
func TestACommandIsDoneOnce(t *testing.T) {
	_, r, _ := openReplica(t)
	one, two := crier.CommandID{Origin: 1, Number: 1, Oldest: 1}, crier.CommandID{Origin: 2, Number: 1, Oldest: 1}
	if err := named(t, r, one, setCity("a", "x")); !errors.Is(err, crier.CodeUnknownAccount) {
		t.Fatalf("without the account: %v", err)
	}
	mustChange(t, r, imports("a")...)
	for i, step := range []struct {
		id   crier.CommandID
		set  string
		want string
	}{{one, "x", "x"}, {two, "y", "y"}, {one, "x", "y"}, {crier.CommandID{}, "z", "z"}, {crier.CommandID{}, "x", "x"}, {two, "y", "x"}} {
		if err := named(t, r, step.id, setCity("a", step.set)); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if got := city(t, r, "a"); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

// An origin says which commands it does not send again: one that comes late all the same is refused, since nobody
// knows any more whether it was done.
func TestACommandThatWasGivenUpIsRefused(t *testing.T) {
	_, r, _ := openReplica(t)
	mustChange(t, r, imports("a")...)
	if err := named(t, r, crier.CommandID{Origin: 1, Number: 2, Oldest: 2}, setCity("a", "two")); err != nil {
		t.Fatal(err)
	}
	if err := named(t, r, crier.CommandID{Origin: 1, Number: 1, Oldest: 1}, setCity("a", "one")); !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("got %v", err)
	}
	if got := city(t, r, "a"); got != "two" {
		t.Errorf("it was done: %q", got)
	}
}

// What is done is part of the state: it outlives a restart, and comes with a snapshot.
func TestCommandsThatAreDoneAreInTheState(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	l := newTestLog(s.FSM(0))
	r := s.Replica(0, l)
	mustChange(t, r, imports("a")...)
	one := crier.CommandID{Origin: 1, Number: 1, Oldest: 1}
	if err := errors.Join(named(t, r, one, setCity("a", "one")), named(t, r, crier.CommandID{}, setCity("a", "last"))); err != nil {
		t.Fatal(err)
	}
	stream := snapshot(t, s, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, other := openStore(t, dir), openStore(t, t.TempDir())
	if err := receive(t, other, 0, stream); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{"restart": again, "snapshot": other} {
		l := newTestLog(s.FSM(0))
		l.index = s.machines[0].meta.GetIndex()
		r := s.Replica(0, l)
		if err := named(t, r, one, setCity("a", "one")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := city(t, r, "a"); got != "last" {
			t.Errorf("%s: done again: %q", name, got)
		}
	}
}

// What is remembered is bounded, and the oldest goes first.
func TestOriginsAreBounded(t *testing.T) {
	s, r, _ := openReplica(t)
	mustChange(t, r, imports("a")...)
	for i := range uint64(originsMost + 2) {
		if err := named(t, r, crier.CommandID{Origin: i + 1, Number: 1, Oldest: 1}, setCity("a", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if i == originsMost-1 { // the first is heard of again
			if err := named(t, r, crier.CommandID{Origin: 1, Number: 1, Oldest: 1}, setCity("a", "again")); err != nil || city(t, r, "a") == "again" {
				t.Fatalf("%v, or done again", err)
			}
		}
	}
	m := s.machines[0]
	if n := len(m.origins); n != originsMost || m.origins[1] == nil || m.origins[2] != nil || m.origins[3] != nil {
		t.Errorf("%d origins", n)
	}
	var calls []crier.AccountChanges
	for i := range uint64(doneMost + 10) {
		calls = append(calls, crier.AccountChanges{App: testApp, ID: crier.CommandID{Origin: 1, Number: i + 2, Oldest: 1}, Changes: []crier.Change{setCity("a", "z")}})
	}
	for _, err := range r.ChangeAccountsBatch(t.Context(), calls) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.origins[1].done); n > doneMost {
		t.Errorf("%d commands are remembered", n)
	}
	if err := named(t, r, crier.CommandID{Origin: 1, Number: 1, Oldest: 1}, setCity("a", "late")); !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("one that was forgotten: %v", err)
	}
}

// An app that was made is not made twice, and not taken for another's.
func TestAnAppIsMadeOnce(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := s.SystemReplica(newTestLog(s.FSM(crier.SystemPartition)))
	id := crier.CommandID{Origin: 1, Number: 1, Oldest: 1}
	app := &crier.App{ID: testApp, Name: "one"}
	for range 2 {
		if err := r.CreateApp(t.Context(), id, app); err != nil {
			t.Fatal(err)
		}
	}
	id.Number++
	if err := r.CreateApp(t.Context(), id, app); !errors.Is(err, crier.CodeBadParameter) {
		t.Errorf("another call: %v", err)
	}
}
