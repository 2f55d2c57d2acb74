package persistence

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

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
