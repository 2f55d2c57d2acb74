package persistence

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// What a replica has in its log and has not applied, since nobody told it that it is committed, is in its state once it is the truth; and it stays so, with
// the new configuration, a term that is not lower than any, and no log.
func TestRecover(t *testing.T) {
	t.Parallel()
	_, r, commands := openReplica(t)
	mustChange(t, r, imports("a")...)
	mustChange(t, r, imports("b")...)

	dir := t.TempDir()
	s := openStore(t, dir)
	log := s.LogStore(0)
	old := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "x", Address: "x"}, {ID: "y", Address: "y"}, {ID: "z", Address: "z"}}})
	entries := []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: old}, {Index: 2, Term: 1, Type: raft.LogNoop}}
	for i, e := range commands.all {
		entries = append(entries, &raft.Log{Index: uint64(3 + i), Term: 1, Type: raft.LogCommand, Data: e.Data})
	}
	entries = append(entries, &raft.Log{Index: 5, Term: 2, Type: raft.LogNoop})
	if err := log.StoreLogs(entries); err != nil {
		t.Fatal(err)
	}
	if err := s.StableStore(0).SetUint64(currentTerm, 2); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[:3] { // the rest is not known to be committed
		s.machines[0].Apply(e)
	}
	survivor := raft.Configuration{Servers: []raft.Server{{ID: "y", Address: "y"}}}
	if err := s.Recover(0, survivor, 7); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		accounts, err := s.Replica(0, nil).Accounts(testApp, []crier.UserID{"a", "b"})
		if err != nil || accounts[0] == nil || accounts[1] == nil {
			t.Errorf("there are %v, %v", accounts, err)
		}
		metas, err := s.SnapshotStore(0).List()
		if err != nil || len(metas) != 1 || metas[0].Index != 5 || metas[0].Term != 2 || metas[0].ConfigurationIndex != 5 ||
			len(metas[0].Configuration.Servers) != 1 || metas[0].Configuration.Servers[0].ID != "y" {
			t.Errorf("%+v, %v", metas, err)
		}
		first, err := s.LogStore(0).FirstIndex()
		if term, e := s.StableStore(0).GetUint64(currentTerm); first != 0 || err != nil || term != 7 || e != nil {
			t.Errorf("the log begins at %d, the term is %d: %v, %v", first, term, err, e)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir)
	}
	if err := s.Recover(1, survivor, 1); err == nil {
		t.Error("a replica of nothing is the truth")
	}
}
