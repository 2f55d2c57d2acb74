package persistence

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// fill gives a group a log, a term and accounts, and the other group an account.
func fill(t *testing.T, s *Store) {
	t.Helper()
	l := newTestLog(s.FSM(0))
	mustChange(t, s.Replica(0, l), imports("a", "b")...)
	mustChange(t, s.Replica(1, newTestLog(s.FSM(1))), imports("c")...)
	if err := s.LogStore(0).StoreLogs(entries(1, 20)); err != nil {
		t.Fatal(err)
	}
	if err := s.StableStore(0).SetUint64([]byte("CurrentTerm"), 7); err != nil {
		t.Fatal(err)
	}
}

// wantDropped checks that nothing is left of group 0, and all of group 1.
func wantDropped(t *testing.T, s *Store) {
	t.Helper()
	has, err := raft.HasExistingState(s.LogStore(0), s.StableStore(0), s.SnapshotStore(0))
	if has || err != nil {
		t.Errorf("the group has state: %t, %v", has, err)
	}
	if left := snapshot(t, s, 0); !bytes.Equal(left, streamMagic) {
		t.Errorf("%d bytes are left of the state", len(left))
	}
	accounts, err := s.Replica(0, nil).Accounts(testApp, []crier.UserID{"a"})
	if err != nil || accounts[0] != nil {
		t.Errorf("an account is left in memory: %v, %v", accounts[0], err)
	}
	if accounts, err = s.Replica(1, nil).Accounts(testApp, []crier.UserID{"c"}); err != nil || accounts[0] == nil {
		t.Errorf("the other group: %v, %v", accounts[0], err)
	}
}

func TestDropLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	fill(t, s)
	if err := s.Drop(0); err != nil {
		t.Fatal(err)
	}
	wantDropped(t, s)
	// It begins again from nothing, and is there after a restart.
	mustChange(t, s.Replica(0, newTestLog(s.FSM(0))), imports("d")...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	accounts, err := s.Replica(0, nil).Accounts(testApp, []crier.UserID{"a", "d"})
	if err != nil || accounts[0] != nil || accounts[1] == nil {
		t.Errorf("after the restart: %v, %v", accounts, err)
	}
}

// A crash in the middle of Drop: the next start deletes the rest.
func TestDropIsEndedByTheNextStart(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	fill(t, s)
	if err := s.base(0).waitWritten(0); err != nil {
		t.Fatal(err)
	}
	mark := new(batch)
	mark.set(s.base(0).keys.kind(kindDropping), nil)
	if err := s.base(0).writeNow(mark); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantDropped(t, openStore(t, dir))
}

func TestNodesOfTheCluster(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	l := newTestLog(s.FSM(crier.SystemPartition))
	for _, c := range []struct {
		id    string
		state crier.NodeState
		ok    bool
	}{
		{"b", crier.NodeMember, true},
		{"a", crier.NodeMember, true},
		{"a", crier.NodeMember, true}, // again is fine
		{"c", crier.NodeDraining, false},
		{"", crier.NodeMember, false},
		{"a", "asleep", false},
		{"a", crier.NodeDraining, true},
		{"a", crier.NodeMember, true},   // the drain is cancelled
		{"a", crier.NodeDrained, false}, // by who has not heard of it
		{"a", crier.NodeDraining, true},
		{"a", crier.NodeDrained, true},
		{"a", crier.NodeMember, false},
		{"a", crier.NodeRemoved, false},
		{"b", crier.NodeRemoved, true},
		{"b", crier.NodeMember, false},
		{"d", crier.NodeMember, true},
	} {
		_, err := l.Apply(context.Background(), s.NodeCommand(crier.Node{ID: c.id, State: c.state}))
		if (err == nil) != c.ok || err != nil && !errors.Is(err, crier.CodeBadParameter) {
			t.Errorf("%s becomes %s: %v", c.id, c.state, err)
		}
	}
	want := []crier.Node{{ID: "a", State: crier.NodeDrained}, {ID: "b", State: crier.NodeRemoved}, {ID: "d", State: crier.NodeMember}}
	if got := s.Nodes(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if got := s.Nodes(); !slices.Equal(got, want) {
		t.Errorf("after a restart: %v", got)
	}
}

// A crash in the middle of the first snapshot of a new replica: it begins again from nothing. Whoever had something before may not.
func TestANewReplicaBeginsAgain(t *testing.T) {
	source := openStore(t, t.TempDir())
	fill(t, source)
	half := snapshot(t, source, 0)
	half = half[:len(half)-3]
	for name, c := range map[string]struct {
		before func(*Store)
		opens  bool
	}{
		"new":      {func(*Store) {}, true},
		"with log": {func(s *Store) { _ = s.LogStore(0).StoreLogs(entries(1, 2)) }, false},
		"with all": {func(s *Store) { fill(t, s) }, false},
	} {
		dir := t.TempDir()
		s := openStore(t, dir)
		c.before(s)
		if err := receive(t, s, 0, half); err == nil {
			t.Fatal("half a snapshot was taken")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), testConfig(dir))
		if (err == nil) != c.opens {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		mustChange(t, s.Replica(1, newTestLog(s.FSM(1))), imports("c")...)
		wantDropped(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A crash in the middle of a snapshot that has come whole: the next start ends it.
func TestARestoreIsEndedByTheNextStart(t *testing.T) {
	t.Parallel()
	source := openStore(t, t.TempDir())
	mustChange(t, source.Replica(0, newTestLog(source.FSM(0))), imports("a", "b")...)
	stream := snapshot(t, source, 0)
	dir := t.TempDir()
	s := openStore(t, dir)
	fill(t, s)
	spool(t, s, 0, stream, raft.SnapshotMeta{Index: 90, Term: 3, ConfigurationIndex: 8})
	b := s.base(0)
	mark := new(batch)
	mark.set(b.keys.kind(kindRestoring), nil)
	if err := errors.Join(b.writeNow(mark), b.clear(kindRestoring)); err != nil { // so far it came
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = openStore(t, dir)
		if got, want := withoutMeta(t, s, 0), withoutMeta(t, source, 0); !bytes.Equal(got, want) || s.base(0).meta.GetIndex() != 90 {
			t.Errorf("there are %d bytes of %d, as of %d", len(got), len(want), s.base(0).meta.GetIndex())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
