package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/actors/actorstest"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
	"github.com/crier-im/crier/persistence"
)

// openNode starts a node of a cluster whose logs are cut early, so that a new replica gets the state and not the log.
func openNode(t *testing.T, gossip string, join ...string) *app.Core {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := app.OpenCore(ctx, persistence.Config{Dir: t.TempDir(), Partitions: 4, MinFreeDisk: 1, Logger: log}, cluster.Config{
		GossipListen: gossip, Join: join, Codec: actors.Codec{}, BalanceAfter: 100 * time.Millisecond,
		Compaction: cluster.Compaction{Every: 50 * time.Millisecond, Threshold: 8, Trailing: 4},
	}, new(actorstest.Vendors), actors.DefaultCallTimeout, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func settled(t *testing.T, c *app.Core, replicas int) {
	t.Helper()
	var last *crier.ClusterStatus
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := c.Cluster.Status(t.Context())
		if err == nil {
			last = s
			whole := s.Settled
			for _, p := range s.Partitions {
				system := p.Partition == crier.SystemPartition.String() // every node has it
				whole = whole && (len(p.Replicas) == replicas || system && len(p.Replicas) > replicas)
			}
			if whole {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not settled within a minute: %+v, %v", last, err)
		}
	}
}

// A node takes over what another knows by snapshots, and then alone has it all: apps, accounts, mailboxes, and the push goes on.
func TestANewNodeTakesOverTheState(t *testing.T) {
	if underRace {
		t.Skip("protoactor and gRPC have a race of their own with several nodes in one process")
	}
	address := freeporttest.Address(t)
	first := openNode(t, address)
	a := &crier.App{ID: appID, Key: "k", Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.DefaultLimits()}
	a.Limits.PushInterval, a.Limits.PushesPerDay = 0, 0
	if err := first.Service.CreateApp(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	const accounts = 200
	change(t, first, imports(accounts)...)
	for i := range 40 { // entries enough that the beginning of every log is gone
		for user := range 8 {
			change(t, first, crier.Change{Op: crier.OpAddTags, User: crier.UserID(fmt.Sprintf("user%d", user)), Tags: []string{fmt.Sprint("tag", i%10)}})
		}
	}
	task := push(t, first, time.Hour, crier.Condition{})
	waitDone(t, first, task, accounts)
	for p := range crier.PartitionID(4) {
		eventually(t, "the log is cut", func() bool {
			begin, err := first.Store.LogStore(p).FirstIndex()
			return err == nil && begin > 1
		})
	}

	second := openNode(t, freeporttest.Address(t), address)
	defer closeCore(t, second)
	settled(t, first, 2)
	id := first.Store.NodeID()
	if err := second.Cluster.Drain(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Cluster.Left():
	case <-time.After(time.Minute):
		t.Fatal("the first node is not drained within a minute")
	}
	closeCore(t, first)
	settled(t, second, 1)

	if second.Service.App(appID) == nil {
		t.Error("the app is gone")
	}
	for i := range accounts {
		if n := waiting(t, second, crier.UserID(fmt.Sprint("user", i))); n != 1 {
			t.Errorf("user%d has %d messages waiting", i, n)
		}
	}
	r := new(receiver)
	connect(t, second, r, login("user5", crier.Android))
	eventually(t, "the mailbox", func() bool { return len(r.got()) == 1 })
	waitDone(t, second, push(t, second, time.Hour, crier.Condition{TagsOr: []string{"tag3"}}), 8)
	waitDone(t, second, task, accounts)
}
