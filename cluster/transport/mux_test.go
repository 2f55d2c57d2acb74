package transport_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
	"github.com/crier-im/crier/cluster/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is the muxes of a test, and where they listen.
type network struct {
	faults *transporttest.Faults
	logs   *logs

	mu    sync.Mutex
	addrs map[string]string
}

func newNetwork() *network {
	return &network{faults: transporttest.NewFaults(1), addrs: make(map[string]string), logs: new(logs)}
}

// resolve is a transport.Resolver.
func (n *network) resolve(node string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, ok := n.addrs[node]
	return addr, ok
}

// logs keeps what was logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open starts a node's mux. change may be nil.
func (n *network) open(t testing.TB, node string, change func(*transport.Config)) *transport.Mux {
	t.Helper()
	cfg := transport.Config{
		Cluster: "test", NodeID: node, Listen: "127.0.0.1:0", Resolve: n.resolve, Dial: n.faults.Dialer(node),
		HeartbeatTimeout: 300 * time.Millisecond, PeerTimeout: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(n.logs, nil)).With("node", node),
	}
	if change != nil {
		change(&cfg)
	}
	m, err := transport.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.addrs[node] = m.Addr()
	n.mu.Unlock()
	t.Cleanup(func() { closeMux(t, m) })
	return m
}

func closeMux(t testing.TB, m *transport.Mux) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// eventually polls until ok, and fails the test after the bound. It returns how long that took.
func eventually(t testing.TB, bound time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > bound {
			t.Fatalf("not within %v: %s", bound, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(began)
}

// serve answers the requests of a group until the test ends, and counts them.
func serve(t testing.TB, tr raft.Transport, answer func(rpc raft.RPC) (any, error)) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case rpc := <-tr.Consumer():
				rpc.Respond(answer(rpc))
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		wg.Wait()
	})
}

func header(node string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(node), Addr: []byte(node)}
}

func appendRequest(first, n uint64, size int) *raft.AppendEntriesRequest {
	a := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 2, PrevLogEntry: first - 1, PrevLogTerm: 2, LeaderCommitIndex: first - 1}
	for i := range n {
		a.Entries = append(a.Entries, &raft.Log{Index: first + i, Term: 2, Data: bytes.Repeat([]byte{byte(i)}, size), AppendedAt: time.Now()})
	}
	return a
}

// follower takes appends as raft does, and remembers the last index. Zero lets it begin anywhere.
type follower struct {
	mu   sync.Mutex
	last uint64
	term uint64
	seen int
}

func (f *follower) answer(rpc raft.RPC) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		f.seen++
		resp := &raft.AppendEntriesResponse{RPCHeader: header("b"), Term: r.Term, LastLog: f.last}
		if f.last != 0 && r.PrevLogEntry > f.last {
			return resp, nil
		}
		resp.Success = true
		for _, e := range r.Entries {
			f.last = e.Index
		}
		resp.LastLog = f.last
		return resp, nil
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{RPCHeader: header("b"), Term: r.Term, Granted: true}, nil
	case *raft.RequestPreVoteRequest:
		return nil, errors.New("unexpected command")
	case *raft.TimeoutNowRequest:
		return &raft.TimeoutNowResponse{RPCHeader: header("b")}, nil
	}
	return nil, fmt.Errorf("a %T", rpc.Command)
}

func TestEveryCall(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a, b := n.open(t, "a", nil).Group(3), n.open(t, "b", nil).Group(3)
	serve(t, b, new(follower).answer)
	if a.LocalAddr() != "a" || string(a.EncodePeer("x", "b")) != "b" || a.DecodePeer([]byte("b")) != "b" {
		t.Error("addresses are not node ids")
	}
	var vote raft.RequestVoteResponse
	if err := a.RequestVote("b", "b", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 7}, &vote); err != nil || !vote.Granted || vote.Term != 7 || string(vote.ID) != "b" {
		t.Errorf("vote %+v, %v", vote, err)
	}
	var pre raft.RequestPreVoteResponse
	err := a.(raft.WithPreVote).RequestPreVote("b", "b", &raft.RequestPreVoteRequest{RPCHeader: header("a")}, &pre)
	if err == nil || !strings.Contains(err.Error(), "unexpected command") { // raft looks for these words
		t.Errorf("pre-vote: %v", err)
	}
	if err := a.TimeoutNow("b", "b", &raft.TimeoutNowRequest{RPCHeader: header("a")}, new(raft.TimeoutNowResponse)); err != nil {
		t.Error(err)
	}
	var resp raft.AppendEntriesResponse
	if err := a.AppendEntries("b", "b", appendRequest(10, 3, 5), &resp); err != nil || !resp.Success || resp.LastLog != 12 {
		t.Errorf("append %+v, %v", resp, err)
	}
	if err := a.RequestVote("c", "c", &raft.RequestVoteRequest{}, &vote); !errors.Is(err, transport.ErrLinkDown) {
		t.Errorf("to a node without an address: %v", err)
	}
}

// Who appends has been elected: that is told once for each term, and not of those who ask for votes or belong to the past.
func TestElected(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	var mu sync.Mutex
	var told []string
	a := n.open(t, "a", nil).Group(3)
	b := n.open(t, "b", func(c *transport.Config) {
		c.Elected = func(p crier.PartitionID, node string, term uint64) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(p, node, term))
		}
	}).Group(3)
	serve(t, b, new(follower).answer)
	for _, term := range []uint64{5, 5, 4, 7, 7} {
		if err := a.RequestVote("b", "b", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: term + 10}, new(raft.RequestVoteResponse)); err != nil {
			t.Fatal(err)
		}
		beat := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: term}
		if err := a.AppendEntries("b", "b", beat, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"3a5", "3a7"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// A node that may not vote in a group answers as if it was not open, and takes appends all the same.
func TestWhoMayVote(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", nil)
	b := n.open(t, "b", func(c *transport.Config) {
		c.Votes = func(p crier.PartitionID) bool { return p == 4 }
	})
	for p, want := range map[crier.PartitionID]int{3: 0, 4: 2} {
		from, to := a.Group(p), b.Group(p)
		var votes atomic.Int32
		serve(t, to, func(rpc raft.RPC) (any, error) {
			switch rpc.Command.(type) {
			case *raft.RequestPreVoteRequest:
				votes.Add(1)
				return &raft.RequestPreVoteResponse{RPCHeader: header("b"), Granted: true}, nil
			case *raft.RequestVoteRequest:
				votes.Add(1)
			}
			return new(follower).answer(rpc)
		})
		var pre raft.RequestPreVoteResponse
		var vote raft.RequestVoteResponse
		err := errors.Join(from.(raft.WithPreVote).RequestPreVote("b", "b", &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: 2}, &pre),
			from.RequestVote("b", "b", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 2}, &vote))
		if votes.Load() != int32(want) || (err == nil) != (want > 0) || pre.Granted != (want > 0) || vote.Granted != (want > 0) {
			t.Errorf("group %s is asked for %d votes, want %d: %v", p, votes.Load(), want, err)
		}
		if err := from.AppendEntries("b", "b", appendRequest(1, 1, 10), new(raft.AppendEntriesResponse)); err != nil {
			t.Errorf("an append in group %s: %v", p, err)
		}
	}
}

// An append over a megabyte goes in parts, and one entry over 64 MB not at all.
func TestBigAppends(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a, b := n.open(t, "a", nil).Group(0), n.open(t, "b", nil).Group(0)
	f := &follower{last: 99}
	serve(t, b, f.answer)
	var resp raft.AppendEntriesResponse
	if err := a.AppendEntries("b", "b", appendRequest(100, 50, 100_000), &resp); err != nil || !resp.Success || resp.LastLog != 149 {
		t.Errorf("5 MB: %+v, %v", resp, err)
	}
	if f.seen != 5 {
		t.Errorf("%d parts", f.seen)
	}
	if err := a.AppendEntries("b", "b", appendRequest(200, 1, 65<<20), &resp); !errors.Is(err, transport.ErrTooBig) {
		t.Errorf("65 MB: %v", err)
	}
	if err := a.AppendEntries("b", "b", appendRequest(150, 1, 20<<20), &resp); err != nil || !resp.Success || resp.LastLog != 150 {
		t.Errorf("20 MB: %+v, %v", resp, err)
	}
}

// What is of use now or never fails at once while the link is down; an append waits.
func TestLinkDown(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	const timeout = 2 * time.Second
	a := n.open(t, "a", func(c *transport.Config) { c.AppendTimeout = timeout }).Group(0)
	b := n.open(t, "b", nil)
	closeMux(t, b)
	vote := func() error {
		return a.RequestVote("b", "b", &raft.RequestVoteRequest{RPCHeader: header("a")}, new(raft.RequestVoteResponse))
	}
	beat := func() error {
		return a.AppendEntries("b", "b", &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 1}, new(raft.AppendEntriesResponse))
	}
	for _, call := range []func() error{vote, vote, beat, beat} {
		began := time.Now()
		if err := call(); !errors.Is(err, transport.ErrLinkDown) || time.Since(began) > timeout*3/4 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	}
	began := time.Now()
	err := a.AppendEntries("b", "b", appendRequest(1, 1, 1), new(raft.AppendEntriesResponse))
	if took := time.Since(began); !errors.Is(err, transport.ErrLinkDown) || took < timeout*9/10 {
		t.Errorf("an append: %v after %v", err, took)
	}
	eventually(t, time.Minute, "a log line", func() bool { return strings.Contains(n.logs.String(), "no link to a node") })
	if c := strings.Count(n.logs.String(), "no link to a node"); c != 1 {
		t.Errorf("logged %d times:\n%s", c, n.logs)
	}
}

// An append waits through a restart of the other node, and until its group is open there.
func TestAppendWaitsForTheGroup(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", nil).Group(7)
	done := make(chan error, 1)
	go func() {
		done <- a.AppendEntries("b", "b", appendRequest(1, 1, 1), new(raft.AppendEntriesResponse))
	}()
	b := n.open(t, "b", nil)
	if err := a.RequestVote("b", "b", &raft.RequestVoteRequest{}, nil); err == nil {
		t.Error("a vote in a group that is not open")
	}
	select {
	case err := <-done:
		t.Fatalf("before the group opened: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	serve(t, b.Group(7), new(follower).answer)
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the append still waits")
	}
}

// Close ends what waits: at once, with every goroutine (TestMain looks for them).
func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	m := n.open(t, "a", nil)
	n.open(t, "b", nil).Group(0) // takes requests, and never answers
	errs := make(chan error)
	calls := 0
	call := func(f func() error) {
		calls++
		go func() { errs <- f() }()
	}
	for p := range crier.PartitionID(2) { // group 1 is not open there
		g := m.Group(p)
		call(func() error {
			return g.AppendEntries("b", "b", appendRequest(1, 1, 1), new(raft.AppendEntriesResponse))
		})
		call(func() error {
			return g.AppendEntries("c", "c", appendRequest(1, 1, 1), new(raft.AppendEntriesResponse))
		})
		pipe, err := g.AppendEntriesPipeline("b", "b")
		if err != nil {
			t.Fatal(err)
		}
		call(func() error {
			for {
				if _, err := pipe.AppendEntries(appendRequest(1, 1, 1), new(raft.AppendEntriesResponse)); err != nil {
					return err
				}
			}
		})
		call(func() error {
			return g.InstallSnapshot("b", "b", &raft.InstallSnapshotRequest{SnapshotVersion: 1, Size: 1 << 30}, new(raft.InstallSnapshotResponse), endless{})
		})
	}
	g := m.Group(0)
	call(func() error {
		return g.RequestVote("b", "b", &raft.RequestVoteRequest{}, new(raft.RequestVoteResponse))
	})
	call(func() error {
		return g.AppendEntries("b", "b", &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 1}, new(raft.AppendEntriesResponse))
	})
	select {
	case err := <-errs:
		t.Errorf("ended by itself: %v", err)
		calls--
	case <-time.After(100 * time.Millisecond):
	}
	began := time.Now()
	closeMux(t, m)
	closeMux(t, m)
	for range calls {
		if err := <-errs; err == nil {
			t.Error("a call succeeded")
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
	if err := m.Group(5).AppendEntries("b", "b", appendRequest(1, 1, 1), new(raft.AppendEntriesResponse)); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestWrongClusterIsTurnedAway(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.Cluster = "blue" }).Group(0)
	b := n.open(t, "b", func(c *transport.Config) { c.Cluster = "green" })
	serve(t, b.Group(0), new(follower).answer)
	const says = `is of cluster \"green\", the caller \"a\" is of cluster \"blue\"`
	err := a.RequestVote("b", "b", &raft.RequestVoteRequest{}, new(raft.RequestVoteResponse))
	if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), says) {
		t.Errorf("the caller hears %v", err)
	}
	eventually(t, time.Second, "both ends log it", func() bool {
		both := 0
		for line := range strings.Lines(n.logs.String()) {
			if line = strings.ReplaceAll(line, `\\\`, `\`); strings.Contains(line, says) {
				both |= map[bool]int{true: 1, false: 2}[strings.Contains(line, "node=a")]
			}
		}
		return both == 3
	})
}

// An address that another node has now leads nowhere.
func TestWrongNodeIsTurnedAway(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a := n.open(t, "a", nil).Group(0)
	b := n.open(t, "b", nil)
	n.mu.Lock()
	n.addrs["c"] = b.Addr()
	n.mu.Unlock()
	err := a.RequestVote("c", "c", &raft.RequestVoteRequest{}, new(raft.RequestVoteResponse))
	if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "this is node b") {
		t.Errorf("%v", err)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*transport.Config){
		"Cluster":          func(c *transport.Config) { c.Cluster = "" },
		"NodeID":           func(c *transport.Config) { c.NodeID = strings.Repeat("x", 256) },
		"Listen":           func(c *transport.Config) { c.Listen = "nowhere" },
		"Resolve":          func(c *transport.Config) { c.Resolve = nil },
		"Logger":           func(c *transport.Config) { c.Logger = nil },
		"HeartbeatTimeout": func(c *transport.Config) { c.HeartbeatTimeout = 1 },
		"AppendTimeout":    func(c *transport.Config) { c.AppendTimeout = 1 },
		"PeerTimeout":      func(c *transport.Config) { c.PeerTimeout = -1 },
		"SnapshotStall":    func(c *transport.Config) { c.SnapshotStall = 1 },
		"SnapshotRestore":  func(c *transport.Config) { c.SnapshotRestore = 1 },
		"Coalesce":         func(c *transport.Config) { c.Coalesce = time.Hour },
	} {
		cfg := transport.Config{Cluster: "c", NodeID: "n", Listen: "127.0.0.1:0", Resolve: newNetwork().resolve, Logger: slog.New(slog.DiscardHandler)}
		change(&cfg)
		if m, err := transport.Open(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
			if err == nil {
				closeMux(t, m)
			}
		}
	}
}
