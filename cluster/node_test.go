package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
)

func TestMain(m *testing.M) {
	// protoactor's throttles tick for ever, and it leaves the connections to nodes that have gone to gRPC; nothing stops them.
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/cluster.(*Gossiper).StartGossiping.NewThrottle.func3.1"),
		goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/cluster.NewGossipActor.NewThrottleWithLogger.func2.1"),
		goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
		goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/remote.(*endpointWriter).initialize"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"), // ends with its time-out
		goleak.IgnoreAnyFunction("google.golang.org/grpc.(*addrConn).resetTransport"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"))
}

func config(p int) cluster.Config {
	return cluster.Config{NodeID: "node-1", Partitions: p, Logger: slog.New(slog.DiscardHandler)}
}

// open starts a node and waits until it is ready. Tests that start one don't run beside others that do: see underRace.
func open(t testing.TB, cfg cluster.Config, s cluster.Storage) *cluster.Node {
	t.Helper()
	n, err := cluster.Open(context.Background(), cfg, s, clustertest.Host{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.WaitForReady(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

func closeNode(t testing.TB, n *cluster.Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestANodeLeadsEveryGroup(t *testing.T) {
	started := time.Now()
	n := open(t, config(64), clustertest.NewStorage())
	t.Logf("ready after %v", time.Since(started))
	defer closeNode(t, n)
	if m := n.Members(); len(m) != 1 || m[0].NodeID != "node-1" || m[0].ActorAddress != n.ActorSystem().Address() {
		t.Errorf("members %+v", m)
	}
	for kind, identity := range map[string]string{
		crier.KindPartition: "63", crier.KindUser: crier.UserIdentity(1400000001, "a/b"),
		crier.KindApp: "1400000001", crier.KindCampaign: string(crier.NewTaskID(1, time.Now(), 1, 1)),
	} {
		if _, err := n.Request(t.Context(), kind, identity, []byte("x")); err != nil {
			t.Errorf("%s %s: %v", kind, identity, err)
		}
	}
	if _, err := n.Request(t.Context(), crier.KindPartition, "system", []byte("fail")); !errors.Is(err, crier.CodePushOff) {
		t.Errorf("an answer that is a failure: %v", err)
	}
	for _, identity := range []string{"", "64", "-1", "x"} {
		if _, err := n.Request(t.Context(), crier.KindPartition, identity, []byte("x")); !errors.Is(err, crier.CodeInternal) {
			t.Errorf("identity %q: %v", identity, err)
		}
	}
}

func TestRestartKeepsTheLog(t *testing.T) {
	s := clustertest.NewStorage()
	n := open(t, config(2), s)
	for i := range 10 {
		if got, err := n.Group(1).Apply(t.Context(), []byte("x")); err != nil || got != i+1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	closeNode(t, n)
	if _, err := n.Group(1).Apply(t.Context(), []byte("x")); !errors.Is(err, cluster.ErrNotLeader) || !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("after the end: %v", err)
	}
	s.Forget()
	n = open(t, config(2), s)
	defer closeNode(t, n)
	if got, err := n.Group(1).Apply(t.Context(), []byte("x")); err != nil || got != 11 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestManyAppliesAtOnce(t *testing.T) {
	n := open(t, config(1), clustertest.NewStorage())
	defer closeNode(t, n)
	errs := make(chan error)
	for range 2000 {
		go func() {
			_, err := n.Group(0).Apply(t.Context(), []byte("x"))
			errs <- err
		}()
	}
	for range 2000 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got, err := n.Group(0).Apply(t.Context(), []byte("x")); err != nil || got != 2001 {
		t.Errorf("%v, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Request(ended, crier.KindPartition, "0", []byte("x")); err != nil && !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*cluster.Config){
		"NodeID":           func(c *cluster.Config) { c.NodeID = "" },
		"Partitions":       func(c *cluster.Config) { c.Partitions = 0 },
		"Partitions is":    func(c *cluster.Config) { c.Partitions = 1025 },
		"GossipListen":     func(c *cluster.Config) { c.GossipListen = "nowhere" },
		"ActorListen":      func(c *cluster.Config) { c.ActorListen = "nowhere" },
		"HeartbeatTimeout": func(c *cluster.Config) { c.HeartbeatTimeout = time.Millisecond },
		"CommitTimeout":    func(c *cluster.Config) { c.CommitTimeout = 1 },
	} {
		cfg := config(1)
		change(&cfg)
		if _, err := cluster.Open(t.Context(), cfg, clustertest.NewStorage(), clustertest.Host{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestAddressOfActorsIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config(1)
	cfg.ActorListen = l.Addr().String()
	_, err = cluster.Open(t.Context(), cfg, clustertest.NewStorage(), clustertest.Host{})
	if err == nil || !strings.Contains(err.Error(), "listen for actors") || !strings.Contains(err.Error(), cfg.ActorListen) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkRequest(b *testing.B) {
	n := open(b, config(1), clustertest.NewStorage())
	defer closeNode(b, n)
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(workers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := n.Request(context.Background(), crier.KindPartition, "0", []byte("x")); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// A node that has the addresses of one before it, which is gone for ever, does not answer for that one.
func TestANodeDoesNotAnswerForAnother(t *testing.T) {
	n := open(t, config(1), clustertest.NewStorage())
	defer closeNode(t, n)
	if err := n.SurveyAt(config(1).NodeID); err != nil {
		t.Errorf("the node itself: %v", err)
	}
	if err := n.SurveyAt("another"); err == nil {
		t.Error("it answers for another")
	}
}
