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

// confirmBeats answers a group's heartbeats of a term with success.
func confirmBeats(g raft.Transport, took func(rpc raft.RPC)) {
	g.SetHeartbeatHandler(func(rpc raft.RPC) {
		if took != nil {
			took(rpc)
		}
		rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header("b"), Term: rpc.Command.(*raft.AppendEntriesRequest).Term, Success: true}, nil)
	})
}

// Heartbeats of many groups share a frame, and so do their answers, once the peer knows the term.
func TestHeartbeatsTravelTogether(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	registries := map[string]*prometheus.Registry{"a": prometheus.NewRegistry(), "b": prometheus.NewRegistry()}
	muxes := make(map[string]*transport.Mux)
	for node, r := range registries {
		muxes[node] = n.open(t, node, func(c *transport.Config) {
			c.Registerer, c.HeartbeatTimeout = r, time.Second
			c.PeerTimeout = time.Minute // on a slow machine a sign of life would be counted too
		})
	}
	const groups = 200
	var mu sync.Mutex
	took := make(map[crier.PartitionID]int)
	all := func() {
		var beats sync.WaitGroup
		for p := range crier.PartitionID(groups) {
			beats.Go(func() {
				if err := beat(muxes["a"].Group(p)); err != nil {
					t.Error(err)
				}
			})
		}
		beats.Wait()
	}
	for p := range crier.PartitionID(groups) {
		confirmBeats(muxes["b"].Group(p), func(rpc raft.RPC) {
			if m := rpc.Command.(*raft.AppendEntriesRequest); m.Term != 1 || string(m.ID) != "a" || string(m.Addr) != "a" || m.ProtocolVersion != 3 {
				t.Errorf("a heartbeat %+v", m)
			}
			mu.Lock()
			took[p]++
			mu.Unlock()
		})
	}
	frames := func(node, peer string) float64 {
		return metric(t, registries[node], "crier_transport_frames_total", peer)
	}
	all()
	before := map[string]float64{"a": frames("a", "b"), "b": frames("b", "a")}
	began := time.Now()
	all()
	confirmed := muxes["a"].Group(7).(interface {
		Confirmed(since time.Time, term uint64, peers []raft.ServerAddress) int
	}).Confirmed
	if peers := []raft.ServerAddress{"b"}; confirmed(began, 1, peers) != 1 || confirmed(time.Now(), 1, peers) != 0 || confirmed(began, 2, peers) != 0 {
		t.Error("a heartbeat that has travelled confirms nothing, or too much")
	}
	for node, peer := range map[string]string{"a": "b", "b": "a"} {
		if sent := frames(node, peer) - before[node]; before[node] != 2*groups || sent < 2 || sent > groups/4 { // of both directions
			t.Errorf("node %s: %v frames, then %v", node, before[node], sent)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for p, n := range took {
		if n < 2 || n > 3 || len(took) != groups { // one by itself; then one returns when the second of its round leaves, or by the first answer if that is late
			t.Errorf("group %s of %d took %d heartbeats", p, len(took), n)
		}
	}
}

// Heartbeats wait for company; while somebody is in a hurry, or in a new term, they do not.
func TestHurry(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.HeartbeatTimeout, c.Coalesce = 10*time.Minute, time.Millisecond }).Group(0)
	confirmBeats(n.open(t, "b", nil).Group(0), nil)
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
	since := time.Now()
	defer hurry()()
	if err := <-resting; err != nil {
		t.Error(err)
	}
	confirmed := a.(interface {
		Confirmed(since time.Time, term uint64, peers []raft.ServerAddress) int
	}).Confirmed
	if confirmed(since, 1, []raft.ServerAddress{"b", "c"}) != 1 || confirmed(time.Now(), 1, []raft.ServerAddress{"b"}) != 0 {
		t.Error("the heartbeat that was hurried up confirms nothing, or too much")
	}
}

func TestANewTermDoesNotWait(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.HeartbeatTimeout, c.Coalesce = 10*time.Minute, time.Millisecond }).Group(0)
	confirmBeats(n.open(t, "b", nil).Group(0), nil)
	for term := range uint64(5) {
		request, resp := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: term + 1}, new(raft.AppendEntriesResponse)
		if err := a.AppendEntries("b", "b", request, resp); err != nil || !resp.Success || resp.Term != term+1 {
			t.Errorf("%+v, %v", resp, err)
		}
	}
}

// A group that does not take its heartbeat in a pulse gets it again, alone, and tells why; one that stands still holds no others up.
func TestAPulseIsForThoseWhoAgree(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a, b := n.open(t, "a", nil), n.open(t, "b", nil)
	const agrees, refuses, closes, hangs = 0, 1, 2, 3
	for p := range crier.PartitionID(4) {
		confirmBeats(b.Group(p), nil)
		if err := beat(a.Group(p)); err != nil {
			t.Fatal(err)
		}
	}
	refused := make(chan struct{}, 10)
	b.Group(refuses).SetHeartbeatHandler(func(rpc raft.RPC) {
		refused <- struct{}{}
		rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header("b"), Term: 9}, nil)
	})
	if err := b.Group(closes).(raft.WithClose).Close(); err != nil {
		t.Fatal(err)
	}
	goOn := make(chan struct{})
	confirmBeats(b.Group(hangs), func(raft.RPC) { <-goOn })
	hanging := make(chan error, 1)
	go func() { hanging <- beat(a.Group(hangs)) }()
	for range 5 { // of some, one shares a pulse with the one that hangs
		if err := beat(a.Group(agrees)); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-hanging:
		t.Errorf("the group that hangs answered: %v", err)
	default:
	}
	close(goOn)
	if err := <-hanging; err != nil {
		t.Error(err)
	}
	request, resp := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 1}, new(raft.AppendEntriesResponse)
	if err := a.Group(refuses).AppendEntries("b", "b", request, resp); err != nil || resp.Success || resp.Term != 9 || len(refused) != 2 {
		t.Errorf("%+v, %v after %d heartbeats", resp, err, len(refused))
	}
	if err := beat(a.Group(closes)); err == nil || !strings.Contains(err.Error(), "not open") {
		t.Errorf("a group that has closed: %v", err)
	}
}

// Heartbeats that wait for the next beat fail when the link does.
func TestAPulseFailsWithItsLink(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.HeartbeatTimeout, c.Coalesce = 10*time.Minute, time.Millisecond })
	b := n.open(t, "b", nil)
	confirmBeats(b.Group(0), nil)
	if err := beat(a.Group(0)); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- beat(a.Group(0)) }()
	select {
	case err := <-waiting:
		t.Fatalf("a heartbeat did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	closeMux(t, b)
	if err := <-waiting; !errors.Is(err, transport.ErrLinkDown) {
		t.Error(err)
	}
	if err := beat(a.Group(0)); !errors.Is(err, transport.ErrLinkDown) {
		t.Errorf("while the link is down: %v", err)
	}
}

// Whoever connects without saying who it is gets nothing, and holds nothing up.
func TestStrangers(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", nil).Group(0)
	mux := n.open(t, "b", func(c *transport.Config) { c.PeerTimeout = 300 * time.Millisecond })
	serve(t, mux.Group(0), new(follower).answer)
	for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", "crier\x02\x01\x04test\x01x\x01b\xff\xff\xff\xff\xff", "crier\x02\x01\x04test\x01y\x01b\x00\x00\x00\x03\x03ab"} {
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

// A node of which nothing comes any more, though its connection stands, is said to be silent: once, until something comes again.
func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	const patience = 400 * time.Millisecond
	n := newNetwork()
	silent := make(chan string, 100)
	a := n.open(t, "a", func(c *transport.Config) { c.PeerTimeout = time.Minute }) // it shows that it lives every 15 s
	b := n.open(t, "b", func(c *transport.Config) {
		c.HeartbeatTimeout, c.PeerTimeout = patience, time.Minute
		c.Silent = func(node string) { silent <- node }
	})
	serve(t, b.Group(0), new(follower).answer)
	beat := func() time.Time {
		t.Helper()
		began := time.Now()
		if err := beat(a.Group(0)); err != nil {
			t.Fatal(err)
		}
		for len(silent) > 0 { // the machine stood still
			<-silent
		}
		return began
	}
	for range 2 {
		last := beat()
		for range 30 {
			time.Sleep(patience / 10)
			if now := time.Now(); now.Sub(last) < patience && len(silent) > 0 {
				t.Fatalf("%s is said to be silent %v after a heartbeat", <-silent, now.Sub(last))
			}
			last = beat()
		}
		select {
		case node := <-silent:
			if took := time.Since(last); node != "a" || took < patience*3/2 {
				t.Errorf("%s is said to be silent %v after its last heartbeat", node, took)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("nobody noticed")
		}
		time.Sleep(3 * patience)
		if len(silent) > 0 {
			t.Error("it is said again, though nothing has come")
		}
	}
}
