package persistence

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const testApp crier.AppID = 1400000001

func testConfig(dir string) Config {
	return Config{Dir: dir, Partitions: 2, MinFreeDisk: 1, Logger: slog.New(slog.DiscardHandler)}
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	return openStoreWith(t, testConfig(dir))
}

func openStoreWith(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// testLog applies commands as a raft group of one would, and lets a test set
// the time that stands in them.
type testLog struct {
	fsm   raft.BatchingFSM
	index uint64
	now   time.Time
	all   []*raft.Log
}

func newTestLog(fsm raft.FSM) *testLog {
	return &testLog{fsm: fsm.(raft.BatchingFSM), now: time.UnixMilli(1700000000000).UTC()}
}

func (l *testLog) Apply(_ context.Context, command []byte) (any, error) {
	var cmd logv1.Command
	if err := proto.Unmarshal(command, &cmd); err != nil {
		return nil, err
	}
	cmd.TimeMs = l.now.UnixMilli()
	l.index++
	e := &raft.Log{Index: l.index, Term: 1, Type: raft.LogCommand, Data: marshal(&cmd)}
	l.all = append(l.all, e)
	result := l.fsm.ApplyBatch([]*raft.Log{e})[0]
	if err, ok := result.(error); ok {
		return nil, err
	}
	return result, nil
}

func (l *testLog) Verify(context.Context) error { return nil }

func (l *testLog) Alone() bool { return true }

func openReplica(t testing.TB) (*Store, *Replica, *testLog) {
	t.Helper()
	s := openStore(t, t.TempDir())
	l := newTestLog(s.FSM(0))
	return s, s.Replica(0, l), l
}

func imports(users ...crier.UserID) (changes []crier.Change) {
	for _, u := range users {
		changes = append(changes, crier.Change{Op: crier.OpImport, User: u})
	}
	return changes
}

func mustChange(t testing.TB, r *Replica, changes ...crier.Change) {
	t.Helper()
	if err := r.ChangeAccounts(context.Background(), testApp, changes); err != nil {
		t.Fatal(err)
	}
}

// keysOf returns the keys of a kind, beside the flusher.
func (r *Replica) keysOf(kind byte) ([][]byte, error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	return r.m.under(r.m.keys.kind(kind))
}

func TestChangesAreAllOrNothing(t *testing.T) {
	t.Parallel()
	s, r, _ := openReplica(t)
	mustChange(t, r, imports("a", "b")...)
	before := s.machines[0].apps[testApp].index.evaluate(&crier.Condition{}).GetCardinality()
	err := r.ChangeAccounts(context.Background(), testApp, []crier.Change{
		{Op: crier.OpAddTags, User: "a", Tags: []string{"x"}},
		{Op: crier.OpImport, User: "c"},
		{Op: crier.OpAddTags, User: "nobody", Tags: []string{"x"}},
	})
	if !errors.Is(err, crier.CodeUnknownAccount) || !strings.Contains(err.Error(), "nobody") {
		t.Fatalf("got %v", err)
	}
	accounts, err := r.Accounts(testApp, []crier.UserID{"a", "c"})
	if err != nil || len(accounts[0].Tags) != 0 || accounts[1] != nil {
		t.Errorf("something was applied: %+v, %v", accounts, err)
	}
	x := s.machines[0].apps[testApp].index
	if n := x.evaluate(&crier.Condition{}).GetCardinality(); n != before {
		t.Errorf("the index has %d accounts, had %d", n, before)
	}
	if n := x.evaluate(&crier.Condition{TagsOr: []string{"x"}}).GetCardinality(); n != 0 {
		t.Errorf("%d accounts have the tag", n)
	}
}

func TestSystemGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	r := s.SystemReplica(newTestLog(s.FSM(crier.SystemPartition)))
	app := &crier.App{ID: testApp, Name: "one", Key: "k", Admins: []crier.UserID{"admin"}, Limits: crier.DefaultLimits()}
	if err := r.UpdateApp(t.Context(), crier.CommandID{}, app); !errors.Is(err, crier.CodeUnknownApp) {
		t.Errorf("update of nothing: %v", err)
	}
	if err := r.CreateApp(t.Context(), crier.CommandID{}, app); err != nil {
		t.Fatal(err)
	}
	if err := r.CreateApp(t.Context(), crier.CommandID{}, app); !errors.Is(err, crier.CodeBadParameter) {
		t.Errorf("twice: %v", err)
	}
	if err := r.SetAttrNames(t.Context(), crier.CommandID{}, testApp, map[int]string{0: "sex", 1: "city"}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetAttrNames(t.Context(), crier.CommandID{}, testApp, map[int]string{2: "sex"}); !errors.Is(err, crier.CodeBadAttr) {
		t.Errorf("a name twice: %v", err)
	}
	renamed := *app
	renamed.Name = "two"
	if err := r.UpdateApp(t.Context(), crier.CommandID{}, &renamed); err != nil {
		t.Fatal(err)
	}
	if got := r.App(testApp); got.Name != "two" || got.AttrNames != (crier.AttrNames{"sex", "city"}) || len(r.Apps()) != 1 {
		t.Errorf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := openStore(t, dir).SystemReplica(nil).App(testApp); got == nil || got.Name != "two" || got.Limits != app.Limits {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestDirectoryRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	open := func(want string, cfg Config) {
		t.Helper()
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	open("in use by another process", testConfig(dir))
	id := s.NodeID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := testConfig(dir)
	other.Partitions = 4
	open("made with 2 partitions", other)
	if again := openStore(t, dir); again.NodeID() != id {
		t.Errorf("node id %s, was %s", again.NodeID(), id)
	} else if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]string{
		"has format 2":              strings.Replace(string(text), `"format": 1`, `"format": 2`, 1),
		"does not describe":         "garbage",
		"does not describe a data":  "{}",
		"made with 1024 partitions": strings.Replace(string(text), `"partitions": 2`, `"partitions": 1024`, 1),
	} {
		if err := os.WriteFile(name, []byte(change), 0o600); err != nil {
			t.Fatal(err)
		}
		open(want, testConfig(dir))
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	open("has a database but no crier.json", testConfig(dir))
	bad := testConfig(t.TempDir())
	bad.Partitions = 0
	open("partitions is 0", bad)
}

func TestFullDiskRefusesWritesAndReadsGoOn(t *testing.T) {
	t.Parallel()
	s, r, _ := openReplica(t)
	mustChange(t, r, imports("a")...)
	s.disk.min, s.disk.checked = 1<<62, time.Time{}
	err := r.ChangeAccounts(t.Context(), testApp, imports("b"))
	if !errors.Is(err, crier.CodeInternal) || !strings.Contains(err.Error(), "almost full") {
		t.Errorf("got %v", err)
	}
	if accounts, err := r.Accounts(testApp, []crier.UserID{"a"}); err != nil || accounts[0] == nil {
		t.Errorf("read: %v, %v", accounts, err)
	}
	s.disk.min, s.disk.checked = 1, time.Time{}
	mustChange(t, r, imports("b")...)
}

func FuzzCommand(f *testing.F) {
	cfg := testConfig(f.TempDir())
	cfg.Fatal = func(error) {} // what is no command ends the process
	s := openStoreWith(f, cfg)
	l := newTestLog(s.FSM(0))
	f.Add(marshal(&logv1.Command{Version: 1, Body: &logv1.Command_Sweep{Sweep: &logv1.Sweep{}}}))
	f.Add(marshal(&logv1.Command{Version: 1, Body: &logv1.Command_StartCampaign{}}))
	f.Add(marshal(&logv1.Command{Version: 1, Body: &logv1.Command_CreateCampaign{}}))
	f.Add(marshal(&logv1.Command{Version: 1, Body: &logv1.Command_Acknowledge{Acknowledge: &logv1.Acknowledge{Seqs: []uint64{1}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		l.index++
		l.fsm.ApplyBatch([]*raft.Log{{Index: l.index, Term: 1, Type: raft.LogCommand, Data: data}})
		s.machines[0].mu.Lock()
		defer s.machines[0].mu.Unlock()
		s.machines[0].failed = false
	})
}

// The configuration of a group is told while its state is replaced, which takes long.
func TestTheConfigurationIsToldMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	want := raft.Configuration{Servers: []raft.Server{{ID: "x", Address: "x"}, {ID: "y", Address: "y"}}}
	told := func(p crier.PartitionID) (uint64, raft.Configuration) {
		b := s.base(p)
		b.mu.Lock() // as restore does
		defer b.mu.Unlock()
		type answer struct {
			index uint64
			c     raft.Configuration
		}
		came := make(chan answer, 1)
		go func() { // ends with the answer
			index, c := s.Configuration(p)
			came <- answer{index, c}
		}()
		select {
		case a := <-came:
			return a.index, a.c
		case <-time.After(10 * time.Second):
			t.Fatal("no answer while the state is locked")
			return 0, raft.Configuration{}
		}
	}
	for _, p := range []crier.PartitionID{0, crier.SystemPartition} {
		if index, c := told(p); index != 0 || len(c.Servers) > 0 {
			t.Errorf("partition %s, before there is one: %d, %v", p, index, c)
		}
		s.base(p).Apply(&raft.Log{Index: 3, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(want)})
		if index, c := told(p); index != 3 || !slices.Equal(c.Servers, want.Servers) {
			t.Errorf("partition %s: %d, %v", p, index, c)
		}
	}
	if err := s.base(0).waitStored(3); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if index, c := told(0); index != 3 || !slices.Equal(c.Servers, want.Servers) {
		t.Errorf("after a restart: %d, %v", index, c)
	}
	if err := s.Drop(0); err != nil {
		t.Fatal(err)
	}
	if index, _ := told(0); index != 0 {
		t.Errorf("after it was deleted: %d", index)
	}
}
