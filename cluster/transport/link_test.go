package transport_test

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
)

// metric returns the sum of a metric over the series of a peer.
func metric(t testing.TB, r *prometheus.Registry, name, peer string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "peer" && l.GetValue() == peer {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

func beat(g raft.Transport) error { return beatTo(g, "b") }

func beatTo(g raft.Transport, peer raft.ServerID) error {
	return g.AppendEntries(peer, raft.ServerAddress(peer), &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 1}, new(raft.AppendEntriesResponse))
}

// A node that dies is noticed by those that had a connection to it, and by those that only had one from it: they call it, and are refused.
// What was never there does not die.
func TestDeathIsNoticed(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"a", "b"} {
		t.Run("a connection of "+from, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			refused := make(chan string, 100)
			a := n.open(t, "a", func(c *transport.Config) { c.Refused = func(node string) { refused <- node } })
			b := n.open(t, "b", nil)
			n.mu.Lock()
			n.addrs["c"] = n.addrs["a"][:strings.LastIndex(n.addrs["a"], ":")] + ":1" // nobody listens there
			n.mu.Unlock()
			caller, answers, to := a.Group(0), b.Group(0), raft.ServerID("b")
			if from == "b" {
				caller, answers, to = answers, caller, "a"
			}
			serve(t, answers, new(follower).answer)
			vote := func(to raft.ServerID) error {
				return caller.RequestVote(to, raft.ServerAddress(to), &raft.RequestVoteRequest{RPCHeader: header(from)}, new(raft.RequestVoteResponse))
			}
			if err := vote("c"); !errors.Is(err, transport.ErrLinkDown) {
				t.Fatal(err)
			}
			if err := beatTo(caller, to); err != nil {
				t.Fatal(err)
			}
			closeMux(t, b)
			select {
			case node := <-refused:
				if node != "b" {
					t.Errorf("%s is said to have died", node)
				}
			case <-time.After(30 * time.Second):
				t.Error("nobody noticed")
			}
		})
	}
}

// A peer that hangs, with its connection open, is noticed by PeerTimeout.
func TestHangIsNoticed(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(n *network){
		"both directions":   func(n *network) { n.faults.Cut("a", "b") },
		"what it sends":     func(n *network) { n.faults.CutOneWay("b", "a") },
		"what it is sent":   func(n *network) { n.faults.CutOneWay("a", "b") },
		"with data waiting": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			registry := prometheus.NewRegistry()
			const timeout = 500 * time.Millisecond
			a := n.open(t, "a", func(c *transport.Config) { c.PeerTimeout, c.Registerer = timeout, registry }).Group(0)
			b := n.open(t, "b", func(c *transport.Config) { c.PeerTimeout = timeout }).Group(0)
			serve(t, b, new(follower).answer)
			if err := beat(a); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * timeout) // an idle link stays up
			if up := metric(t, registry, "crier_transport_link_up", "b"); up != 1 || strings.Contains(n.logs.String(), "no link") {
				t.Fatalf("up %v\n%s", up, n.logs)
			}
			var appending sync.WaitGroup
			if cut == nil {
				n.faults.Cut("a", "b")
				appending.Go(func() {
					_ = a.AppendEntries("b", "b", appendRequest(1, 10, 1<<20), new(raft.AppendEntriesResponse))
				})
			} else {
				cut(n)
			}
			eventually(t, 10*time.Second, "the link is down", func() bool { // TCP's own keep-alive would take 11 s
				return metric(t, registry, "crier_transport_link_up", "b") == 0
			})
			if err := beat(a); !errors.Is(err, transport.ErrLinkDown) {
				t.Errorf("a heartbeat: %v", err)
			}
			n.faults.HealAll()
			t.Logf("up again after %v", eventually(t, 30*time.Second, "the link is up", func() bool { return beat(a) == nil }))
			appending.Wait()
		})
	}
}

// Heartbeats of many groups go in few writes, and come back in few.
func TestHeartbeatsTravelTogether(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	registries := map[string]*prometheus.Registry{"a": prometheus.NewRegistry(), "b": prometheus.NewRegistry()}
	muxes := make(map[string]*transport.Mux)
	for node, r := range registries {
		muxes[node] = n.open(t, node, func(c *transport.Config) {
			c.Registerer, c.Coalesce = r, 20*time.Millisecond
			c.PeerTimeout = time.Minute // on a slow machine a sign of life would be counted too
		})
	}
	const groups = 200
	var beats sync.WaitGroup
	for p := range crier.PartitionID(groups) {
		a, b := muxes["a"].Group(p), muxes["b"].Group(p)
		b.SetHeartbeatHandler(func(rpc raft.RPC) {
			rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header("b"), Term: 1, Success: true}, nil)
		})
		beats.Go(func() {
			if err := beat(a); err != nil {
				t.Error(err)
			}
		})
	}
	beats.Wait()
	for node, peer := range map[string]string{"a": "b", "b": "a"} {
		frames, writes := metric(t, registries[node], "crier_transport_frames_total", peer), metric(t, registries[node], "crier_transport_writes_total", peer)
		if frames != 2*groups || writes > groups/4 { // frames of both directions
			t.Errorf("node %s: %v frames, %v writes", node, frames, writes)
		}
	}
}

// Heartbeats rest, so that there are fewer, and wait for company; while somebody is in a hurry they do neither.
func TestHurry(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.HeartbeatTimeout, c.Coalesce = 10*time.Minute, time.Second }).Group(0)
	b := n.open(t, "b", nil).Group(0)
	serve(t, b, new(follower).answer)
	hurry := a.(interface{ Hurry() (done func()) }).Hurry
	first, second := hurry(), hurry()
	began := time.Now()
	for range 3 {
		if err := beat(a); err != nil {
			t.Fatal(err)
		}
	}
	first()
	if err := beat(a); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("in a hurry four heartbeats took %v", took)
	}
	second()
	resting := make(chan error, 1)
	go func() { resting <- beat(a) }()
	select {
	case err := <-resting:
		t.Errorf("a heartbeat did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	done := hurry()
	defer done()
	if err := beat(a); err != nil { // takes the one that waits along
		t.Fatal(err)
	}
	if err := <-resting; err != nil {
		t.Error(err)
	}
}

// A heartbeat that was answered rests until the next beat, or until somebody is in a hurry.
func TestHeartbeatsRest(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.HeartbeatTimeout, c.Coalesce = 10*time.Minute, time.Nanosecond }).Group(0)
	b := n.open(t, "b", nil).Group(0)
	answered := make(chan struct{}, 1)
	b.SetHeartbeatHandler(func(rpc raft.RPC) {
		rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header("b"), Term: 1, Success: true}, nil)
		answered <- struct{}{}
	})
	resting := make(chan error, 1)
	go func() { resting <- beat(a) }()
	<-answered
	confirmed := func() bool {
		return a.(interface {
			Confirmed(since time.Time, peers []raft.ServerAddress) int
		}).Confirmed(time.Time{}, []raft.ServerAddress{"b"}) == 1
	}
	for deadline := time.Now().Add(time.Minute); !confirmed(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the answer does not come")
		}
	}
	select {
	case err := <-resting:
		t.Errorf("a heartbeat did not rest: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	a.(interface{ Hurry() (done func()) }).Hurry()()
	if err := <-resting; err != nil {
		t.Error(err)
	}
}

// Whoever connects without saying who it is gets nothing, and holds nothing up.
func TestStrangers(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", nil).Group(0)
	mux := n.open(t, "b", func(c *transport.Config) { c.PeerTimeout = 300 * time.Millisecond })
	serve(t, mux.Group(0), new(follower).answer)
	for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", "crier\x01\x01\x04test\x01x\x01b\xff\xff\xff\xff\xff", "crier\x01\x01\x04test\x01y\x01b\x00\x00\x00\x03\x03ab"} {
		c, err := net.Dial("tcp", mux.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		for b := make([]byte, 512); err == nil; {
			_, err = c.Read(b)
		}
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			t.Errorf("after %q the connection stays", text)
		}
	}
	if err := beat(a); err != nil {
		t.Error(err)
	}
}

// Names that strangers give fill no memory: all past a bound are counted together.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	registry := prometheus.NewRegistry()
	a := n.open(t, "a", func(c *transport.Config) { c.Registerer = registry }).Group(0)
	for i := range 300 {
		_ = a.RequestVote("x", raft.ServerAddress(strings.Repeat("x", i+1)), &raft.RequestVoteRequest{}, nil)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if m := len(f.GetMetric()); m > 2*(128+1) {
			t.Errorf("%s has %d series", f.GetName(), m)
		}
	}
}
