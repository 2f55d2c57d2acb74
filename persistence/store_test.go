package persistence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
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

func campaign(seq uint64, life time.Duration, c crier.Condition, at time.Time) *crier.Campaign {
	return &crier.Campaign{
		App: testApp, Seq: seq, Task: crier.NewTaskID(testApp, at, uint32(seq), seq), Random: uint32(seq),
		Message:  crier.Message{From: "admin", Elements: []crier.Element{{Type: crier.TextElement, Content: []byte(`{"Text":"hi"}`)}}},
		LifeTime: life, Accepted: at, Condition: c,
	}
}

func mustStart(t testing.TB, r *Replica, c *crier.Campaign) crier.Audience {
	t.Helper()
	a, err := r.StartCampaign(context.Background(), c, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mailbox(t testing.TB, r *Replica, user crier.UserID, after uint64) (seqs []uint64) {
	t.Helper()
	accounts, err := r.Accounts(testApp, []crier.UserID{user})
	if err != nil || accounts[0] == nil {
		t.Fatalf("account %s: %v", user, err)
	}
	campaigns, err := r.Mailbox(testApp, accounts[0].Ordinal, after, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range campaigns {
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

// keysOf returns the keys of a kind, beside the flusher.
func (r *Replica) keysOf(kind byte) ([][]byte, error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	return r.m.under(r.m.keys.kind(kind))
}

// snapshot returns the stream of a group.
func snapshot(t testing.TB, s *Store, p crier.PartitionID) []byte {
	t.Helper()
	b := s.base(p)
	if err := b.waitStored(b.meta.GetIndex()); err != nil {
		t.Fatal(err)
	}
	txn, end := s.stateDB.snapshot()
	defer end()
	var out bytes.Buffer
	if err := b.stream(txn, &out); err != nil {
		t.Fatal(err)
	}
	if size := b.streamSize(txn); size != int64(out.Len()) {
		t.Errorf("the stream has %d bytes, %d were announced", out.Len(), size)
	}
	return out.Bytes()
}

// receive installs a stream as raft does with one that another node sends, or an operator; the meta of the stream says as of when.
func receive(t testing.TB, s *Store, p crier.PartitionID, stream []byte) error {
	t.Helper()
	var meta logv1.Meta
	_ = readStream(newReader(stream), func(k, v []byte) error { // the end of it may be missing
		if k[0] == kindMeta {
			return proto.Unmarshal(v, &meta)
		}
		return nil
	})
	var servers raft.Configuration
	if len(meta.GetConfiguration()) > 0 {
		servers = raft.DecodeConfiguration(meta.GetConfiguration())
	}
	snapshots := s.SnapshotStore(p)
	sink, err := snapshots.Create(raft.SnapshotVersionMax, meta.GetIndex(), meta.GetTerm(), servers, meta.GetConfigurationIndex(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, source, err := snapshots.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	return s.FSM(p).Restore(source)
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

func TestMailboxKeepsAcknowledgesAndExpires(t *testing.T) {
	t.Parallel()
	s, r, l := openReplica(t)
	mustChange(t, r, append(imports("a", "b"), crier.Change{Op: crier.OpAddTags, User: "a", Tags: []string{"x"}})...)
	all, tagged := crier.Condition{}, crier.Condition{TagsOr: []string{"x"}}
	if got := mustStart(t, r, campaign(1, time.Hour, all, l.now)).Total(); got != 2 {
		t.Errorf("campaign 1 matched %d", got)
	}
	mustStart(t, r, campaign(2, 2*time.Hour, tagged, l.now))
	mustStart(t, r, campaign(3, 0, all, l.now))
	mustChange(t, r, imports("late")...)
	check := func(when string, want map[crier.UserID]string) {
		t.Helper()
		for user, seqs := range want {
			if got := fmt.Sprint(mailbox(t, r, user, 0)); got != seqs {
				t.Errorf("%s: mailbox of %s is %s, want %s", when, user, got, seqs)
			}
		}
	}
	check("kept", map[crier.UserID]string{"a": "[1 2]", "b": "[1]", "late": "[]"})
	if got := fmt.Sprint(mailbox(t, r, "a", 1)); got != "[2]" {
		t.Errorf("after 1: %s", got)
	}
	accounts, _ := r.Accounts(testApp, []crier.UserID{"a"})
	if err := r.Acknowledge(t.Context(), testApp, []crier.Ack{{Seq: 1, Ordinal: accounts[0].Ordinal}, {Seq: 99, Ordinal: 0}, {Seq: 1, Ordinal: 4e9}}); err != nil {
		t.Fatal(err)
	}
	check("acknowledged", map[crier.UserID]string{"a": "[2]", "b": "[1]"})
	l.now = l.now.Add(time.Hour)
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("an hour later", map[crier.UserID]string{"a": "[2]", "b": "[]"})
	l.now = l.now.Add(time.Hour)
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("two hours later", map[crier.UserID]string{"a": "[]"})
	if kept := s.machines[0].apps[testApp].mail; len(kept) != 0 {
		t.Errorf("%d campaigns are still in memory", len(kept))
	}
}

func TestCampaignsComeInSequence(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	mustChange(t, r, imports("a")...)
	if _, err := r.StartCampaign(t.Context(), campaign(2, 0, crier.Condition{}, l.now), 0); !errors.Is(err, crier.ErrCampaignGap) {
		t.Errorf("campaign 2 before 1: %v", err)
	}
	first := campaign(1, time.Hour, crier.Condition{}, l.now)
	mustStart(t, r, first)
	mustChange(t, r, imports("b")...)
	again := mustStart(t, r, first)
	if again.Total() != 1 || !again.Contains(0) || again.Contains(1) {
		t.Errorf("the repeat matched %d", again.Total())
	}
}

func TestDeletedAccountLosesItsMailbox(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	mustChange(t, r, imports("a", "b")...)
	mustStart(t, r, campaign(1, time.Hour, crier.Condition{}, l.now))
	mustChange(t, r, crier.Change{Op: crier.OpDelete, User: "a"})
	mustChange(t, r, imports("a")...)
	if got := mailbox(t, r, "a", 0); len(got) != 0 {
		t.Errorf("the new account reads the old one's mail: %v", got)
	}
	mustChange(t, r, crier.Change{Op: crier.OpDelete, User: "b"}, crier.Change{Op: crier.OpImport, User: "b"})
	if got := mailbox(t, r, "b", 0); len(got) != 0 {
		t.Errorf("deleted and made in one call: %v", got)
	}
}

func push(random uint32, life time.Duration) *crier.PushRequest {
	return &crier.PushRequest{App: testApp, Random: random, LifeTime: life, RequestID: fmt.Sprint("request ", random)}
}

func TestCreateCampaignLimits(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	limits := crier.DefaultLimits()
	limits.PushesPerDay, limits.KeptPushes = 4, 2
	create := func(req *crier.PushRequest, want error) *crier.Campaign {
		t.Helper()
		c, err := r.CreateCampaign(t.Context(), req, &limits)
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Fatalf("MsgRandom %d: got %v, want %v", req.Random, err, want)
		}
		return c
	}
	first := create(push(1, time.Minute), nil)
	if first.Seq != 1 || !first.Accepted.Equal(l.now) {
		t.Errorf("%+v", first)
	}
	if again := create(push(1, time.Minute), nil); again.Task != first.Task {
		t.Errorf("the same request got %s and %s", first.Task, again.Task)
	}
	other := push(1, time.Minute)
	other.RequestID = "another"
	if c := create(other, crier.CodePushRepeated); c == nil || c.Task != first.Task {
		t.Errorf("a repeat names %+v", c)
	}
	l.now = l.now.Add(999 * time.Millisecond)
	create(push(2, 0), crier.CodePushTooSoon)
	l.now = l.now.Add(time.Millisecond)
	if c := create(push(2, time.Minute), nil); c.Seq != 2 {
		t.Errorf("a failed push took a place: %d", c.Seq)
	}
	l.now = l.now.Add(time.Second)
	create(push(3, time.Minute), crier.CodePushQuota) // mailboxes are full
	create(push(3, 0), nil)
	l.now = l.now.Add(time.Minute)
	create(push(4, time.Minute), nil)
	l.now = l.now.Add(time.Second)
	create(push(5, 0), crier.CodePushQuota) // four today
	l.now = l.now.Add(24 * time.Hour)
	create(push(5, 0), nil)
	l.now = first.Accepted.Add(7*24*time.Hour - time.Millisecond)
	create(other, crier.CodePushRepeated)
	l.now = l.now.Add(time.Millisecond)
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(other, nil)
}

func TestReports(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	limits := crier.Limits{}
	a, err := r.CreateCampaign(t.Context(), push(1, 0), &limits)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.CreateCampaign(t.Context(), push(2, 0), &limits)
	if err != nil {
		t.Fatal(err)
	}
	done := crier.Report{Task: a.Task, Status: crier.StatusDone, Started: l.now, Finished: 5, Total: 5}
	if err := r.RecordProgress(t.Context(), testApp, done); err != nil {
		t.Fatal(err)
	}
	late := crier.Report{Task: a.Task, Status: crier.StatusRunning}
	if err := r.RecordProgress(t.Context(), testApp, late); err != nil {
		t.Fatal(err)
	}
	reports, err := r.Reports(testApp, []crier.TaskID{b.Task, a.Task})
	if err != nil || reports[0] != (crier.Report{Task: b.Task}) || reports[1] != done {
		t.Errorf("%+v, %v", reports, err)
	}
	open, err := r.Unfinished()
	if err != nil || len(open) != 1 || open[0].Task != b.Task {
		t.Errorf("unfinished: %+v, %v", open, err)
	}
	forged := crier.NewTaskID(testApp, l.now.Add(time.Second), 1, a.Seq)
	for _, task := range []crier.TaskID{"", "x", forged, crier.NewTaskID(testApp+1, l.now, 1, 1)} {
		if _, err := r.Reports(testApp, []crier.TaskID{a.Task, task}); !errors.Is(err, crier.CodeUnknownTask) {
			t.Errorf("%q: got %v", task, err)
		}
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

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	s, r, l := openReplica(t)
	for i := range 300 {
		u := crier.UserID(fmt.Sprintf("user%03d", i))
		mustChange(t, r, append(imports(u), crier.Change{Op: crier.OpAddTags, User: u, Tags: []string{"t", fmt.Sprint(i % 7)}})...)
	}
	mustStart(t, r, campaign(1, time.Hour, crier.Condition{TagsOr: []string{"3"}}, l.now))
	want := snapshot(t, s, 0)

	target := openStore(t, t.TempDir())
	mustChange(t, target.Replica(0, newTestLog(target.FSM(0))), imports("old", "older")...)
	if err := receive(t, target, 0, want); err != nil {
		t.Fatal(err)
	}
	if got, want := withoutMeta(t, target, 0), withoutMeta(t, s, 0); !bytes.Equal(got, want) {
		t.Errorf("restored %d bytes, want %d", len(got), len(want))
	}
	copied := target.Replica(0, nil)
	if got := mailbox(t, copied, "user003", 0); fmt.Sprint(got) != "[1]" {
		t.Errorf("mailbox %v", got)
	}
	if a, err := copied.Accounts(testApp, []crier.UserID{"old"}); err != nil || a[0] != nil {
		t.Errorf("an account of before the restore is still there: %v, %v", a[0], err)
	}
}

func TestInterruptedRestoreIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	mustChange(t, s.Replica(0, newTestLog(s.FSM(0))), imports("a")...)
	stream := snapshot(t, s, 0)
	if err := receive(t, s, 0, stream[:len(stream)-3]); err == nil {
		t.Fatal("half a snapshot was taken")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), testConfig(dir)); err == nil || !strings.Contains(err.Error(), "partition 0") {
		t.Errorf("got %v", err)
	}
}

func FuzzReadStream(f *testing.F) {
	f.Add([]byte("crier\x01"))
	f.Add([]byte("crier\x01\x01m\x02ab"))
	f.Add([]byte("crier\x01\xff\xff\xff\x1f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readStream(newReader(data), func(k, _ []byte) error {
			if len(k) == 0 {
				t.Error("an empty key")
			}
			return nil
		})
	})
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

func newReader(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }

// A push to everyone reads every account with a device once. What is in memory for those that change stays there, and is what is read.
func TestABroadcastLeavesTheRecentAccounts(t *testing.T) {
	t.Parallel()
	s, r, l := openReplica(t)
	device := func(name string) *crier.Device { return &crier.Device{Vendor: crier.APNs, Token: name} }
	var changes []crier.Change
	const users = 40
	for i := range users {
		user := crier.UserID(fmt.Sprintf("u%d", i))
		changes = append(changes, crier.Change{Op: crier.OpImport, User: user}, crier.Change{Op: crier.OpRegisterDevice, User: user, Device: device(string(user))})
	}
	mustChange(t, r, changes...)
	m := s.machines[0]
	m.mu.Lock()
	m.recent.Purge()
	m.mu.Unlock()
	mustChange(t, r, crier.Change{Op: crier.OpRegisterDevice, User: "u7", Device: device("another")})
	c := campaign(1, time.Hour, crier.Condition{}, l.now)
	mustStart(t, r, c)
	targets, err := r.VendorTargets(testApp, c.Seq, -1, 2*users)
	if err != nil || len(targets) != users {
		t.Fatalf("%d targets, %v", len(targets), err)
	}
	for i, target := range targets {
		want := 1
		if i == 7 {
			want = 2
		}
		if a := target.Account; a == nil || a.User != crier.UserID(fmt.Sprintf("u%d", i)) || len(a.Devices) != want {
			t.Errorf("target %d: %+v", i, target.Account)
		}
	}
	if kept := m.recent.Keys(); len(kept) != 1 {
		t.Errorf("%d accounts are in memory, one was changed", len(kept))
	}
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
