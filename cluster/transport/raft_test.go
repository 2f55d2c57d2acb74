package transport_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
)

const heartbeatTimeout = 500 * time.Millisecond

// machine is a state machine that remembers its commands, so that one that is proposed again counts once, and keeps
// some megabytes for its snapshots.
type machine struct {
	mu      sync.Mutex
	ids     map[uint64]struct{}
	ballast []byte
}

func newMachine() *machine { return &machine{ids: make(map[uint64]struct{})} }

func (m *machine) Apply(e *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := binary.BigEndian.Uint64(e.Data)
	if _, again := m.ids[id]; !again && len(e.Data) > 1000 {
		m.ballast = append(m.ballast, e.Data...)
	}
	m.ids[id] = struct{}{}
	return nil
}

func (m *machine) applied() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ids)
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := binary.BigEndian.AppendUint64(nil, uint64(len(m.ids)))
	for id := range m.ids {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return picture(append(b, m.ballast...)), nil
}

func (m *machine) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil || len(b) < 8 {
		return fmt.Errorf("%d bytes: %w", len(b), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.ids)
	n := binary.BigEndian.Uint64(b)
	for b = b[8:]; n > 0; n-- {
		m.ids[binary.BigEndian.Uint64(b)] = struct{}{}
		b = b[8:]
	}
	m.ballast = b
	return nil
}

type picture []byte

func (p picture) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(p); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (picture) Release() {}

// replica is one node's part of one group. Its stores outlive its raft.
type replica struct {
	store   *raft.InmemStore
	snaps   raft.SnapshotStore
	machine *machine
	raft    *raft.Raft
	tr      raft.Transport
}

// raftCluster is real rafts over the transport.
type raftCluster struct {
	*network
	t      testing.TB
	nodes  []string
	groups int
	change func(*transport.Config)
	ids    atomic.Uint64 // of the last command
	muxes  map[string]*transport.Mux
	all    map[string][]*replica // of each node, one a group
}

func newRaftCluster(t testing.TB, groups int, change func(*transport.Config)) *raftCluster {
	c := &raftCluster{
		network: newNetwork(), t: t, nodes: []string{"a", "b", "c"}, groups: groups, change: change,
		muxes: make(map[string]*transport.Mux), all: make(map[string][]*replica),
	}
	for _, node := range c.nodes {
		for range groups {
			c.all[node] = append(c.all[node], &replica{store: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore(), machine: newMachine()})
		}
		c.start(node, 0)
	}
	t.Cleanup(func() {
		for _, node := range c.nodes {
			c.stop(node)
		}
	})
	return c
}

// start starts a node's transport, and after a while its groups.
func (c *raftCluster) start(node string, later time.Duration) {
	c.t.Helper()
	mux := c.open(c.t, node, func(cfg *transport.Config) {
		cfg.HeartbeatTimeout, cfg.PeerTimeout = heartbeatTimeout, 4*time.Second
		if c.change != nil {
			c.change(cfg)
		}
	})
	c.muxes[node] = mux
	time.Sleep(later)
	var servers raft.Configuration
	for _, n := range c.nodes {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(n), Address: raft.ServerAddress(n)})
	}
	for i, r := range c.all[node] {
		rc := raft.DefaultConfig()
		rc.LocalID = raft.ServerID(node)
		rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = heartbeatTimeout, heartbeatTimeout, heartbeatTimeout
		rc.CommitTimeout, rc.BatchApplyCh, rc.TrailingLogs, rc.SnapshotThreshold = 100*time.Millisecond, true, 10, 1<<30
		rc.MaxAppendEntries = 256
		rc.Logger = hclog.New(&hclog.LoggerOptions{Output: c.logs, Level: hclog.Info, Name: fmt.Sprintf("%s/%d", node, i)})
		r.tr = mux.Group(crier.PartitionID(i))
		exists, err := raft.HasExistingState(r.store, r.store, r.snaps)
		if err == nil && !exists {
			err = raft.BootstrapCluster(rc, r.store, r.store, r.snaps, r.tr, servers)
		}
		if err == nil {
			r.raft, err = raft.NewRaft(rc, r.machine, r.store, r.store, r.snaps, r.tr)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// stop ends a node as its death would: the transport first.
func (c *raftCluster) stop(node string) {
	closeMux(c.t, c.muxes[node])
	for _, r := range c.all[node] {
		if err := r.raft.Shutdown().Error(); err != nil {
			c.t.Error(err)
		}
	}
}

// leader waits for the leader of a group among the nodes.
func (c *raftCluster) leader(group int, among ...string) (leader string) {
	c.t.Helper()
	eventually(c.t, time.Minute, fmt.Sprintf("a leader of group %d", group), func() bool {
		for _, node := range among {
			r := c.all[node][group].raft
			if r.State() == raft.Leader && r.VerifyLeader().Error() == nil {
				leader = node
				return true
			}
		}
		return false
	})
	return leader
}

// apply proposes commands to a group, many at a time, through the nodes named. On a busy machine leaders change: what
// failed is proposed again.
func (c *raftCluster) apply(group, n, size int, among ...string) {
	c.t.Helper()
	var ids []uint64
	for range n {
		ids = append(ids, c.ids.Add(1))
	}
	for began := time.Now(); len(ids) > 0; {
		leader := c.all[c.leader(group, among...)][group].raft
		futures := make([]raft.ApplyFuture, len(ids))
		for i, id := range ids {
			futures[i] = leader.Apply(append(binary.BigEndian.AppendUint64(nil, id), make([]byte, size)...), 5*time.Second)
		}
		var failed []uint64
		for i, f := range futures {
			if err := f.Error(); err != nil {
				failed = append(failed, ids[i])
			}
		}
		if ids = failed; len(ids) > 0 && time.Since(began) > 30*time.Second {
			c.t.Fatalf("group %d: %d commands were not taken", group, len(ids))
		}
	}
}

// same waits until every node named has applied as many commands of every group.
func (c *raftCluster) same(bound time.Duration, want int, nodes ...string) time.Duration {
	c.t.Helper()
	return eventually(c.t, bound, fmt.Sprintf("%d commands on %v", want, nodes), func() bool {
		for _, node := range nodes {
			for _, r := range c.all[node] {
				if r.machine.applied() != want {
					return false
				}
			}
		}
		return true
	})
}

func others(nodes []string, node string) (rest []string) {
	for _, n := range nodes {
		if n != node {
			rest = append(rest, n)
		}
	}
	return rest
}

func TestRaftReplicates(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 4, nil)
	var wg sync.WaitGroup
	for group := range c.groups {
		wg.Go(func() { c.apply(group, 1000, 100, c.nodes...) })
	}
	wg.Wait()
	c.same(time.Minute, 1000, c.nodes...)
	if strings.Contains(c.logs.String(), "pre-vote is disabled") {
		t.Error("raft does not see WithPreVote")
	}
	const verifies = 50
	began := time.Now()
	eventually(t, time.Minute, "a leader verifies that it is one, again and again", func() bool { // on a busy machine another may come to lead meanwhile
		leader := c.leader(0, c.nodes...)
		for range verifies {
			if err := c.all[leader][0].raft.VerifyLeader().Error(); err != nil {
				t.Logf("%s: %v", leader, err)
				return false
			}
		}
		return true
	})
	t.Logf("VerifyLeader: %v each", time.Since(began)/verifies)
}

// A follower that was away for as long as raft's pauses grow to seconds has everything soon after it is back,
// though its groups open later than its transport, and at another address.
func TestRestartCatchesUp(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 3, nil)
	victim := "c"
	rest := others(c.nodes, victim)
	for group := range c.groups {
		c.apply(group, 100, 100, c.nodes...)
	}
	c.stop(victim)
	down, want := time.Now(), 500
	for group := range c.groups {
		c.apply(group, 400, 100, rest...)
	}
	// After a transport that fails at once raft would begin a pause of 5 s about now.
	for ; time.Since(down) < 6*time.Second; want++ {
		for group := range c.groups {
			c.apply(group, 1, 100, rest...)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, r := range c.all[victim] {
		r.machine = newMachine() // raft replays its log
	}
	c.start(victim, 500*time.Millisecond)
	took := c.same(20*time.Second, want, victim)
	t.Logf("caught up %v after the groups opened", took)
	if took > 3*time.Second {
		t.Errorf("it took %v to catch up", took)
	}
}

func TestPartitionAndHeal(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 2, nil)
	c.apply(0, 50, 100, c.nodes...)
	c.apply(1, 50, 100, c.nodes...)
	old := c.leader(0, c.nodes...)
	rest := others(c.nodes, old)
	c.faults.Isolate(old, rest...)
	c.leader(0, rest...)
	eventually(t, time.Minute, "the old leader steps down", func() bool { return c.all[old][0].raft.State() != raft.Leader })
	for group := range c.groups {
		c.apply(group, 200, 100, rest...)
	}
	c.faults.HealAll()
	t.Logf("caught up %v after the partition", c.same(time.Minute, 250, c.nodes...))
}

// One direction is enough to lose a leader, whose heartbeats reach nobody, and to find another.
func TestOneWayCut(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 1, nil)
	old := c.leader(0, c.nodes...)
	rest := others(c.nodes, old)
	for _, o := range rest {
		c.faults.CutOneWay(old, o)
	}
	c.apply(0, 100, 100, rest...)
	c.faults.HealAll()
	c.same(time.Minute, 100, c.nodes...)
}

func TestSlowAndLossy(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 2, nil)
	c.faults.Delay("a", "b", 5*time.Millisecond)
	c.faults.Lose("b", "c", 0.01)
	for group := range c.groups {
		c.apply(group, 1000, 100, c.nodes...)
	}
	c.same(20*time.Second, 1000, c.nodes...)
}

func TestLeadershipTransfer(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 1, nil)
	c.apply(0, 10, 100, c.nodes...)
	for range 3 {
		var to string
		began := time.Now()
		eventually(t, time.Minute, "a transfer", func() bool { // refused while a configuration is not known, or on a busy machine
			from := c.leader(0, c.nodes...)
			to = others(c.nodes, from)[0]
			began = time.Now()
			return c.all[from][0].raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error() == nil
		})
		eventually(t, time.Minute, "the new leader", func() bool { return c.all[to][0].raft.State() == raft.Leader })
		t.Logf("a transfer took %v", time.Since(began))
	}
}

// A node that has lost its disk gets a snapshot of some megabytes, and what came after it.
func TestSnapshotInstall(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t, 1, nil)
	victim := others(c.nodes, c.leader(0, c.nodes...))[0]
	rest := others(c.nodes, victim)
	c.stop(victim)
	c.apply(0, 60, 100_000, rest...)
	for _, node := range rest {
		c.same(10*time.Second, 60, node)
		if err := c.all[node][0].raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	c.apply(0, 20, 100, rest...)
	c.all[victim][0] = &replica{store: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore(), machine: newMachine()}
	c.start(victim, 0)
	t.Logf("caught up after %v", c.same(10*time.Second, 80, victim))
	got, want := c.all[victim][0].machine.ballast, c.all[rest[0]][0].machine.ballast
	if !bytes.Equal(got, want) || len(got) != 60*100_008 {
		t.Errorf("%d bytes of %d", len(got), len(want))
	}
	if !strings.Contains(c.logs.String(), "Installed remote snapshot") {
		t.Error("no snapshot was installed")
	}
}
