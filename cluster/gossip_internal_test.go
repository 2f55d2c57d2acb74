package cluster

import (
	"io"
	"log"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// startGossip starts the gossip of a node, which ends with the test unless it is closed before.
func startGossip(t *testing.T, node string, join ...*gossip) *gossip {
	t.Helper()
	cfg := Config{NodeID: node, Logger: slog.New(slog.DiscardHandler)}
	cfg.setDefaults()
	g, err := openGossip(&cfg, newRoutingTable(), &clusterv1.NodeMeta{ActorAddress: "127.0.0.1:1"}, func([]Member) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.list.Shutdown() })
	for _, other := range join {
		if _, err := g.list.Join([]string{other.list.LocalNode().Address()}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// await polls until ok.
func await(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(bound); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", bound, what)
		}
	}
}

// A node whose process was killed comes back at another address: it is a member as soon as its death is known.
func TestAKilledNodeComesBackElsewhere(t *testing.T) {
	t.Parallel()
	a := startGossip(t, "a")
	b := startGossip(t, "b", a)
	at := func() string { m, _ := a.member("b"); return m.Address }
	await(t, 10*time.Second, "b is there", func() bool { return at() != "" })
	first := at()
	if err := b.list.Shutdown(); err != nil { // without leaving
		t.Fatal(err)
	}
	await(t, 30*time.Second, "b is dead", func() bool { return at() == "" })
	time.Sleep(reclaimAfter) // it takes longer to start again
	back := startGossip(t, "b", a)
	await(t, 5*time.Second, "b is back", func() bool { return at() != "" })
	if now := back.list.LocalNode().Address(); now == first || at() != now {
		t.Errorf("it is at %s, was at %s, and is believed to be at %s", now, first, at())
	}
}

// A node whose news that it leaves are not sent in time, as on a busy machine, stops all the same.
func TestALeaveThatTakesLongEndsGossip(t *testing.T) {
	t.Parallel()
	a, b := startGossip(t, "a"), startGossip(t, "b")
	if err := b.list.Shutdown(); err != nil { // for one that sends no news
		t.Fatal(err)
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.BindAddr, mc.BindPort, mc.AdvertisePort, mc.GossipInterval, mc.PushPullInterval = "b", "127.0.0.1", 0, 0, 0, 0
	mc.Label, mc.Delegate, mc.Events, mc.Logger = "crier", b, b, log.New(io.Discard, "", 0)
	var err error
	if b.list, err = memberlist.Create(mc); err != nil {
		t.Fatal(err)
	}
	if _, err := b.list.Join([]string{a.list.LocalNode().Address()}); err != nil {
		t.Fatal(err)
	}
	address := b.list.LocalNode().Address()
	began := time.Now()
	if err := b.close(); err != nil {
		t.Errorf("a clean stop: %v", err)
	}
	if took := time.Since(began); took < leaveTimeout {
		t.Errorf("it took %v only: the news were sent", took)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("gossip goes on: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
