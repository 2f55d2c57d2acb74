package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
)

// openCluster starts a node, and others that join it.
func openCluster(t *testing.T, nodes int) []*app.Core {
	t.Helper()
	address := freeporttest.Address(t)
	cores := []*app.Core{openNode(t, address)}
	for range nodes - 1 {
		cores = append(cores, openNode(t, freeporttest.Address(t), address))
	}
	for _, c := range cores {
		t.Cleanup(func() { closeCore(t, c) })
	}
	settled(t, cores[0], min(nodes, 3))
	return cores
}

// known is what a cluster tells of some accounts and pushes.
type known struct {
	accounts []*crier.Account
	reports  []crier.Report
	funnels  []*crier.Funnel
	apps     []*crier.App
}

func ask(t *testing.T, c *app.Core, users []crier.UserID, tasks []crier.TaskID) (k known) {
	t.Helper()
	var err error
	if k.accounts, err = c.Service.Accounts(t.Context(), appID, users); err != nil {
		t.Fatal(err)
	}
	if k.reports, err = c.Service.Reports(t.Context(), appID, tasks); err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		f, err := c.Service.Funnel(t.Context(), appID, task)
		if err != nil {
			t.Fatal(err)
		}
		k.funnels = append(k.funnels, f)
	}
	k.apps = c.Service.Apps()
	return k
}

// mailboxes returns how many messages accounts have waiting, as the leaders of their partitions have it.
func mailboxes(t *testing.T, cores []*app.Core, users []crier.UserID) (counts []int) {
	t.Helper()
	for _, user := range users {
		p := crier.PartitionOf(appID, user, cores[0].Store.Partitions())
		var leader *app.Core
		eventually(t, "a leader", func() bool {
			for _, c := range cores {
				if g := c.Cluster.Group(p); g != nil && g.IsLeader() {
					leader = c
				}
			}
			return leader != nil
		})
		counts = append(counts, waiting(t, leader, user))
	}
	return counts
}

func (k *known) compare(t *testing.T, with *known) {
	t.Helper()
	for i, a := range k.accounts {
		if !reflect.DeepEqual(a, with.accounts[i]) {
			t.Errorf("account %d was %+v and is %+v", i, a, with.accounts[i])
		}
	}
	for name, pair := range map[string][2]any{
		"reports": {k.reports, with.reports}, "funnels": {k.funnels, with.funnels}, "apps": {k.apps, with.apps},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("the %s were %+v and are %+v", name, pair[0], pair[1])
		}
	}
}

// load imports accounts and pushes to them, through all nodes, until ctx ends. Nothing of it fails.
func load(ctx context.Context, t *testing.T, cores []*app.Core) (wait func()) {
	var wg sync.WaitGroup
	for i, c := range cores {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				u := crier.UserID(fmt.Sprintf("load-%d-%d", i, n))
				changes := []crier.Change{{Op: crier.OpImport, User: u}, {Op: crier.OpAddTags, User: u, Tags: []string{"load"}}}
				if err := c.Service.ChangeAccounts(context.Background(), appID, changes); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for n := uint32(1); ctx.Err() == nil; n++ {
			req := &crier.PushRequest{App: appID, Random: 1 << 20 * n, Condition: crier.Condition{TagsOr: []string{"load"}}, LifeTime: time.Hour, Message: crier.Message{From: "admin"}, RequestID: fmt.Sprint("load", n)}
			if _, err := cores[0].Service.Push(context.Background(), req); err != nil {
				t.Error(err)
			}
		}
	})
	return wg.Wait
}

// A backup of three nodes under load is restored into one and into four: what was acknowledged before it began is there, and all goes on: pushes have the next
// places in the order of their app, new accounts the next ordinals.
func TestABackupOfAClusterIsRestoredIntoOthers(t *testing.T) {
	if underRace {
		t.Skip("protoactor and gRPC have a race of their own with several nodes in one process")
	}
	source := openCluster(t, 3)
	a := &crier.App{ID: appID, Key: "k", Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.DefaultLimits()}
	a.Limits.PushInterval, a.Limits.PushesPerDay, a.Limits.KeptPushes = 0, 0, 0
	if err := source[0].Service.CreateApp(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := source[1].Service.SetAttrNames(t.Context(), appID, map[int]string{0: "city"}); err != nil {
		t.Fatal(err)
	}
	const accounts = 120
	change(t, source[0], imports(accounts)...)
	var users []crier.UserID
	for i := range accounts {
		u := crier.UserID(fmt.Sprint("user", i))
		users = append(users, u)
		change(t, source[i%3], crier.Change{Op: crier.OpAddTags, User: u, Tags: []string{fmt.Sprint("tag", i%7)}}, crier.Change{Op: crier.OpSetAttrs, User: u, Attrs: crier.Attrs{fmt.Sprint("city", i%5)}})
	}
	var tasks []crier.TaskID
	for i, total := range []uint64{accounts, 18, 24} {
		task := push(t, source[i], time.Hour, []crier.Condition{{}, {TagsOr: []string{"tag0"}}, {AttrsOr: []crier.AttrTerm{{Slot: 0, Value: "city1"}}}}[i])
		waitDone(t, source[0], task, total)
		tasks = append(tasks, task)
	}
	r := new(receiver)
	connect(t, source[2], r, login("user5", crier.Android)) // it acknowledges what it gets
	eventually(t, "the mailbox", func() bool { return mailboxes(t, source, []crier.UserID{"user5"})[0] == 0 })
	for i := range 10 { // after the pushes, which no vendor is told of so
		d := crier.Device{Vendor: crier.APNs, Token: fmt.Sprintf("%064x", i), Platform: crier.IPhone, Target: "im.crier"}
		if _, err := source[0].Service.RegisterDevice(t.Context(), a, users[i], d); err != nil {
			t.Fatal(err)
		}
	}
	want, mail := ask(t, source[0], users, tasks), mailboxes(t, source, users)

	loading, enough := context.WithCancel(t.Context())
	wait := load(loading, t, source)
	time.Sleep(time.Second) // of load
	var backup bytes.Buffer
	began := time.Now()
	if err := source[1].Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	t.Logf("a backup of %d bytes took %v", backup.Len(), time.Since(began).Round(time.Millisecond))
	enough()
	wait()

	for _, nodes := range []int{1, 4} {
		t.Run(fmt.Sprint("into ", nodes), func(t *testing.T) {
			target := openCluster(t, nodes)
			through := target[nodes-1]
			nothing := func(err error, words string) {
				t.Helper()
				if err == nil || !strings.Contains(err.Error(), words) || !errors.Is(err, crier.CodeBadParameter) {
					t.Errorf("got %v, want %q", err, words)
				}
				if through.Store.Restoring() != 0 {
					t.Error("it has begun")
				}
			}
			nothing(through.Restore(t.Context(), bytes.NewReader(backup.Bytes()[:backup.Len()/2]), func(int, int) {}), "nothing was restored")

			// One that breaks off says so, and another takes its place.
			broken, stop := context.WithCancel(t.Context())
			err := through.Restore(broken, bytes.NewReader(backup.Bytes()), func(done, _ int) {
				if done == 2 {
					stop()
				}
			})
			if err == nil {
				t.Error("a restore that was broken off has ended")
			}
			eventually(t, "it is known everywhere", func() bool {
				s, err := target[0].Cluster.Status(t.Context())
				return err == nil && s.Restoring && !s.Settled && target[0].Cluster.Ready() != nil
			})
			if err := target[0].Backup(t.Context(), io.Discard); err == nil {
				t.Error("half a cluster is backed up")
			}
			if err := target[0].Service.CreateApp(t.Context(), a); !errors.Is(err, crier.CodeBadParameter) {
				t.Errorf("an app is made in the middle of a restore: %v", err)
			}
			began := time.Now()
			if err := target[0].Restore(t.Context(), bytes.NewReader(backup.Bytes()), func(int, int) {}); err != nil {
				t.Fatal(err)
			}
			t.Logf("restored within %v", time.Since(began).Round(time.Millisecond))
			nothing(through.Restore(t.Context(), bytes.NewReader(backup.Bytes()), func(int, int) {}), "into an empty one")

			for i, c := range target {
				eventually(t, fmt.Sprint("node ", i, " knows the app"), func() bool { return c.Service.App(appID) != nil })
				got := ask(t, c, users, tasks)
				want.compare(t, &got)
			}
			if got := mailboxes(t, target, users); !slices.Equal(got, mail) {
				t.Errorf("mailboxes had %v and have %v", mail, got)
			}
			change(t, through, crier.Change{Op: crier.OpImport, User: "new"}, crier.Change{Op: crier.OpAddTags, User: "new", Tags: []string{"tag0"}})
			waitDone(t, through, push(t, through, time.Hour, crier.Condition{TagsOr: []string{"tag0"}}), 19)
			r := new(receiver)
			connect(t, through, r, login("user7", crier.Android))
			eventually(t, "what has waited, and the new one", func() bool { return len(r.got()) >= 3 })
		})
	}
}
