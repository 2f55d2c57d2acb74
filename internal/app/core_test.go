package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/actors/actorstest"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/persistence"
)

const appID crier.AppID = 1400000001

// openCore starts a node on a directory, with an app without limits on pushes.
func openCore(t testing.TB, dir string) *app.Core {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	c, err := app.OpenCore(context.Background(), persistence.Config{Dir: dir, Partitions: 4, MinFreeDisk: 1, Logger: log}, cluster.Config{}, new(actorstest.Vendors), actors.DefaultCallTimeout, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if c.Service.App(appID) == nil {
		a := &crier.App{ID: appID, Key: "k", Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.DefaultLimits()}
		a.Limits.PushInterval, a.Limits.PushesPerDay = 0, 0
		if err := c.Service.CreateApp(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func closeCore(t testing.TB, c *app.Core) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// receiver is a connection that notes what arrives, and acknowledges unless told not to.
type receiver struct {
	mu      sync.Mutex
	seqs    []uint64
	reason  crier.CloseReason
	session crier.Session
	noAck   bool
}

func (r *receiver) Deliver(d *crier.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seqs = append(r.seqs, d.Seq)
	if d.Kept && !r.noAck && r.session != nil {
		r.session.Acknowledge([]uint64{d.Seq}, true)
	}
}

func (r *receiver) Close(reason crier.CloseReason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = reason
}

func (r *receiver) Gone() bool { return false }

func (r *receiver) got() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seqs)
}

func (r *receiver) closed() crier.CloseReason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}

func login(user crier.UserID, platform crier.Platform) crier.Login {
	return crier.Login{App: appID, User: user, Platform: platform, SigTime: time.Now()}
}

func connect(t testing.TB, c *app.Core, r *receiver, l crier.Login) {
	t.Helper()
	r.mu.Lock() // the first message must find the session
	defer r.mu.Unlock()
	s, err := c.Service.Connect(t.Context(), l, r)
	if err != nil {
		t.Fatal(err)
	}
	r.session = s
}

func change(t testing.TB, c *app.Core, changes ...crier.Change) {
	t.Helper()
	if err := c.Service.ChangeAccounts(t.Context(), appID, changes); err != nil {
		t.Fatal(err)
	}
}

var random uint32

func push(t testing.TB, c *app.Core, life time.Duration, cond crier.Condition) crier.TaskID {
	t.Helper()
	random++
	task, err := c.Service.Push(t.Context(), &crier.PushRequest{
		App: appID, Random: random, LifeTime: life, Condition: cond, RequestID: fmt.Sprint(random),
		Message: crier.Message{From: "admin", Elements: []crier.Element{{Type: crier.TextElement, Content: []byte(`{"Text":"hi"}`)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// eventually polls until the condition holds, for 20 s.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func waitDone(t testing.TB, c *app.Core, task crier.TaskID, total uint64) {
	t.Helper()
	var last crier.Report
	eventually(t, "report done", func() bool {
		reports, err := c.Service.Reports(t.Context(), appID, []crier.TaskID{task})
		if err != nil {
			t.Fatal(err)
		}
		last = reports[0]
		return last.Status == crier.StatusDone
	})
	if last.Total != total || last.Finished != total {
		t.Errorf("%s: %+v, want total %d", task, last, total)
	}
}

func imports(n int) (changes []crier.Change) {
	for i := range n {
		changes = append(changes, crier.Change{Op: crier.OpImport, User: crier.UserID(fmt.Sprintf("user%d", i))})
	}
	return changes
}

func TestPushReachesWhoIsOnlineAndWaitsForWhoIsAway(t *testing.T) {
	dir := t.TempDir()
	c := openCore(t, dir)
	change(t, c, imports(10)...)
	change(t, c, crier.Change{Op: crier.OpAddTags, User: "user0", Tags: []string{"x"}}, crier.Change{Op: crier.OpAddTags, User: "user1", Tags: []string{"x"}})
	online, other := new(receiver), new(receiver)
	connect(t, c, online, login("user0", crier.Android))
	connect(t, c, other, login("user9", crier.Android))
	all := push(t, c, time.Hour, crier.Condition{})
	tagged := push(t, c, time.Hour, crier.Condition{TagsOr: []string{"x"}})
	onlineOnly := push(t, c, 0, crier.Condition{})
	waitDone(t, c, all, 10)
	waitDone(t, c, tagged, 2)
	waitDone(t, c, onlineOnly, 10)
	eventually(t, "user0 has three", func() bool { return len(online.got()) == 3 })
	if got := fmt.Sprint(online.got(), other.got()); got != "[1 2 3] [1 3]" {
		t.Errorf("live: %s", got)
	}
	away := new(receiver)
	connect(t, c, away, login("user1", crier.IPhone))
	eventually(t, "the mailbox", func() bool { return len(away.got()) >= 2 })
	if got := fmt.Sprint(away.got()); got != "[1 2]" {
		t.Errorf("mailbox: %s", got)
	}
	late := new(receiver)
	connect(t, c, late, login("newcomer", crier.Web))
	next := push(t, c, time.Hour, crier.Condition{})
	waitDone(t, c, next, 11)
	eventually(t, "the newcomer has one", func() bool { return len(late.got()) == 1 })

	// The acknowledged ones do not come again, after a restart either; the rest do.
	eventually(t, "acknowledged", func() bool { return waiting(t, c, "user0") == 0 && waiting(t, c, "user1") == 0 })
	closeCore(t, c)
	c = openCore(t, dir)
	defer closeCore(t, c)
	again, rest := new(receiver), new(receiver)
	connect(t, c, again, login("user0", crier.Android))
	connect(t, c, rest, login("user5", crier.Android))
	eventually(t, "user5's mailbox", func() bool { return len(rest.got()) == 2 })
	if got := fmt.Sprint(again.got(), rest.got()); got != "[] [1 4]" {
		t.Errorf("after the restart: %s", got)
	}
	waitDone(t, c, all, 10)
}

// waiting returns how many messages the account has yet to acknowledge.
func waiting(t testing.TB, c *app.Core, user crier.UserID) int {
	t.Helper()
	p := crier.PartitionOf(appID, user, c.Store.Partitions())
	r := c.Store.Replica(p, nil)
	accounts, err := r.Accounts(appID, []crier.UserID{user})
	if err != nil || accounts[0] == nil {
		t.Fatalf("%s: %v", user, err)
	}
	mail, err := r.Mailbox(appID, accounts[0].Ordinal, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(mail)
}

func TestOrderOfManyPushes(t *testing.T) {
	c := openCore(t, t.TempDir())
	defer closeCore(t, c)
	a := c.Service.App(appID)
	free := *a
	free.Limits.KeptPushes = 0
	if err := c.Service.UpdateApp(t.Context(), &free); err != nil {
		t.Fatal(err)
	}
	change(t, c, imports(2)...)
	r := new(receiver)
	connect(t, c, r, login("user0", crier.Android))
	const n = 200
	for i := range n {
		push(t, c, time.Duration(i%2)*time.Hour, crier.Condition{})
	}
	late := new(receiver)
	connect(t, c, late, login("user1", crier.Android))
	eventually(t, "all arrive", func() bool { return len(r.got()) == n && len(late.got()) >= n/2 })
	if !slices.IsSorted(r.got()) || !slices.IsSorted(late.got()) {
		t.Errorf("out of order: %v, %v", r.got(), late.got())
	}
	if got := slices.Compact(slices.Clone(r.got())); len(got) != n {
		t.Errorf("%d different ones", len(got))
	}
}

func TestWindowOfUnacknowledgedMessages(t *testing.T) {
	c := openCore(t, t.TempDir())
	defer closeCore(t, c)
	change(t, c, imports(1)...)
	for range 40 {
		push(t, c, time.Hour, crier.Condition{})
	}
	eventually(t, "40 are kept", func() bool { return waiting(t, c, "user0") == 40 })
	r := &receiver{noAck: true}
	connect(t, c, r, login("user0", crier.Android))
	eventually(t, "32 in flight", func() bool { return len(r.got()) == 32 })
	last := push(t, c, time.Hour, crier.Condition{})
	waitDone(t, c, last, 1)
	if got := len(r.got()); got != 32 {
		t.Errorf("%d in flight", got)
	}
	r.session.Acknowledge([]uint64{99, 1000}, false) // never sent
	r.session.Acknowledge([]uint64{1, 3}, false)
	eventually(t, "two more", func() bool { return len(r.got()) == 34 })
	r.session.Acknowledge([]uint64{34}, true)
	eventually(t, "the rest", func() bool { return len(r.got()) == 41 })
	if !slices.IsSorted(r.got()) {
		t.Errorf("out of order: %v", r.got())
	}
	eventually(t, "34 acknowledged", func() bool { return waiting(t, c, "user0") == 7 })
}

func TestEvictionKickAndDelete(t *testing.T) {
	c := openCore(t, t.TempDir())
	defer closeCore(t, c)
	first, phone, second := new(receiver), new(receiver), new(receiver)
	l := login("a", crier.Android)
	connect(t, c, first, l)
	connect(t, c, phone, login("a", crier.IPhone))
	connect(t, c, second, login("a", crier.Android))
	eventually(t, "the first is replaced", func() bool { return first.closed() == crier.CloseReplaced })
	presence := func() crier.Presence {
		p, err := c.Service.Presence(t.Context(), appID, []crier.UserID{"a"})
		if err != nil {
			t.Fatal(err)
		}
		return p[0]
	}
	if p := presence(); len(p.Sessions) != 2 || p.State != crier.Online || !p.Exists {
		t.Errorf("%+v", p)
	}
	phone.session.Background(3)
	second.session.Background(0)
	eventually(t, "push online", func() bool { return presence().State == crier.PushOnline })
	second.session.Foreground()
	eventually(t, "online", func() bool { return presence().State == crier.Online })

	change(t, c, crier.Change{Op: crier.OpKick, User: "a"})
	eventually(t, "both kicked", func() bool { return phone.closed() == crier.CloseKicked && second.closed() == crier.CloseKicked })
	if p := presence(); p.State != crier.Offline || len(p.Sessions) != 0 {
		t.Errorf("%+v", p)
	}
	if _, err := c.Service.Connect(t.Context(), l, new(receiver)); !errors.Is(err, crier.CodeSigRevoked) {
		t.Errorf("an old usersig after a kick: %v", err)
	}
	l.SigTime = time.Now().Add(time.Second)
	back := new(receiver)
	connect(t, c, back, l)
	change(t, c, crier.Change{Op: crier.OpDelete, User: "a"})
	eventually(t, "deleted", func() bool { return back.closed() == crier.CloseDeleted })
	if p := presence(); p.Exists || p.State != crier.Offline {
		t.Errorf("%+v", p)
	}
}

func TestChangesOverPartitionsAreAllOrNothing(t *testing.T) {
	c := openCore(t, t.TempDir())
	defer closeCore(t, c)
	change(t, c, imports(20)...)
	var changes []crier.Change
	for i := range 22 {
		changes = append(changes, crier.Change{Op: crier.OpAddTags, User: crier.UserID(fmt.Sprintf("user%d", i)), Tags: []string{"x"}})
	}
	err := c.Service.ChangeAccounts(t.Context(), appID, changes)
	if !errors.Is(err, crier.CodeUnknownAccount) || crier.AsError(err).Info != `account "user20" does not exist` {
		t.Errorf("got %v", err)
	}
	users := make([]crier.UserID, 20)
	for i := range users {
		users[i] = crier.UserID(fmt.Sprintf("user%d", i))
	}
	accounts, err := c.Service.Accounts(t.Context(), appID, users)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if a == nil || len(a.Tags) != 0 {
			t.Errorf("%+v", a)
		}
	}
}

func TestMsgRandomTwice(t *testing.T) {
	c := openCore(t, t.TempDir())
	defer closeCore(t, c)
	first := push(t, c, 0, crier.Condition{})
	again := &crier.PushRequest{App: appID, Random: random, RequestID: "another", Message: crier.Message{From: "admin"}}
	if task, err := c.Service.Push(t.Context(), again); !errors.Is(err, crier.CodePushRepeated) || task != first {
		t.Errorf("%s, %v", task, err)
	}
	stranger := &crier.PushRequest{App: appID, Random: 1 << 31, Message: crier.Message{From: "nobody"}}
	if _, err := c.Service.Push(t.Context(), stranger); !errors.Is(err, crier.CodeUnknownAccount) {
		t.Errorf("an unknown sender: %v", err)
	}
}
