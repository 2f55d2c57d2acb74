package persistence

import (
	"errors"
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

// A home that was recovered gives no place again that other partitions have had, and they follow it: what it had done with them is not waited for.
func TestCampaignsGoOnAfterARecovery(t *testing.T) {
	t.Parallel()
	s, home, l := openReplica(t)
	limits := crier.DefaultLimits()
	limits.PushInterval = 0
	other := s.Replica(1, newTestLog(s.FSM(1)))
	push := func(random uint32) *crier.Campaign {
		t.Helper()
		c, err := home.CreateCampaign(t.Context(), &crier.PushRequest{App: testApp, Random: random, Message: campaign(1, 0, crier.Condition{}, l.now).Message}, &limits)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := push(1)
	mustStart(t, other, first)
	mustStart(t, other, campaign(2, 0, crier.Condition{}, l.now)) // the home has lost it
	c := raft.Configuration{Servers: []raft.Server{{ID: "y", Address: "y"}}}
	if err := s.Recover(0, c, 7); err != nil {
		t.Fatal(err)
	}
	second := push(2)
	if second.Seq <= 2 {
		t.Fatalf("place %d is given again", second.Seq)
	}
	if _, err := other.StartCampaign(t.Context(), second, home.Settled(testApp)); !errors.Is(err, crier.ErrCampaignGap) {
		t.Errorf("%d before %d: %v", second.Seq, first.Seq, err)
	}
	if err := home.RecordProgress(t.Context(), testApp, crier.Report{Task: first.Task, Status: crier.StatusDone}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.StartCampaign(t.Context(), second, home.Settled(testApp)); err != nil || other.LastCampaign(testApp) != second.Seq {
		t.Errorf("%v, the last is %d", err, other.LastCampaign(testApp))
	}
}
