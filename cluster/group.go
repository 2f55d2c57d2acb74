package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

const (
	// inFlight bounds the commands of a group that are on their way to the log; more wait for a place.
	// Past it raft only adds latency, and leaders get lost (engines: admission control).
	inFlight = 256
	// enqueueTimeout bounds how long raft may take to accept a command into its queue.
	enqueueTimeout = 2 * time.Second
)

// ErrNotLeader is the error of a command that came to a node that does not
// lead the group: it has changed nothing. It carries crier.CodeTimeout.
var ErrNotLeader = fmt.Errorf("this node does not lead the group: %w", crier.CodeTimeout)

// Group is one raft group on this node. Safe for concurrent use.
type Group struct {
	id      crier.PartitionID
	raft    *raft.Raft
	leads   chan bool // from raft: leadership won and lost
	places  chan struct{}
	metrics *metrics

	mu      sync.RWMutex // guards closing against pending
	closing bool
	pending sync.WaitGroup

	transport raft.Transport
	storage   Storage

	woken   chan struct{} // its watcher is to look whether its actor should run
	dropped chan struct{} // closed when the group is to be deleted here
	watched chan struct{} // closed when nobody watches its leadership any more
}

// openGroup starts a group. One without any state begins with the configuration, where there is one; each node in it begins the group alike. Without
// one it waits for a leader that knows of it.
func openGroup(cfg *Config, p crier.PartitionID, first raft.Configuration, t raft.Transport, s Storage, m *metrics) (*Group, error) {
	g := &Group{
		id: p, leads: make(chan bool, 16), places: make(chan struct{}, inFlight), metrics: m, transport: t, storage: s,
		woken: make(chan struct{}, 1), dropped: make(chan struct{}), watched: make(chan struct{}),
	}
	logs, stable, snaps := s.LogStore(p), s.StableStore(p), s.SnapshotStore(p)
	rc := g.raftConfig(cfg)
	exists, err := hasState(s, p)
	if err == nil && !exists && len(first.Servers) > 0 {
		err = raft.BootstrapCluster(rc, logs, stable, snaps, t, first)
	}
	if err == nil {
		g.raft, err = raft.NewRaft(rc, s.FSM(p), logs, stable, snaps, t)
	}
	if err != nil {
		return nil, fmt.Errorf("start group %s: %w", p, err)
	}
	if c := g.raft.GetConfiguration().Configuration(); len(c.Servers) == 1 && c.Servers[0].ID == rc.LocalID {
		if t, ok := t.(campaigner); ok {
			t.Campaign()
		}
	}
	return g, nil
}

// hasState reports whether this node has anything of a group.
func hasState(s Storage, p crier.PartitionID) (bool, error) {
	return raft.HasExistingState(s.LogStore(p), s.StableStore(p), s.SnapshotStore(p))
}

func (g *Group) raftConfig(cfg *Config) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(cfg.NodeID)
	rc.HeartbeatTimeout, rc.ElectionTimeout = cfg.HeartbeatTimeout+reloadStep, cfg.HeartbeatTimeout+reloadStep
	rc.LeaderLeaseTimeout = cfg.HeartbeatTimeout // a round of heartbeats returns after up to 0.66 of it; nothing relies on the lease
	rc.CommitTimeout = cfg.CommitTimeout
	rc.BatchApplyCh = true
	rc.SnapshotInterval = cfg.Compaction.Every
	rc.SnapshotThreshold = cfg.Compaction.Threshold
	rc.TrailingLogs = cfg.Compaction.Trailing
	rc.NoSnapshotRestoreOnStart = true
	rc.NoLegacyTelemetry = true
	rc.NotifyCh = g.leads
	rc.Logger = hclog.New(&hclog.LoggerOptions{
		Name: "raft", Level: hclog.Warn, DisableTime: true,
		Output: lineWriter{cfg.Logger.With("component", "raft", "partition", g.id.String())},
	})
	return rc
}

// Apply sends a command to the group's log and blocks until it is committed and
// applied here, or leadership is lost, when its outcome is unknown (crier.CodeTimeout). ctx bounds the wait for a
// place only. It returns what the state machine answered; an answer that is an error is returned as the error.
func (g *Group) Apply(ctx context.Context, command []byte) (any, error) {
	started := time.Now()
	select {
	case g.places <- struct{}{}:
	case <-ctx.Done():
		return nil, unknown(ctx.Err())
	}
	future := g.enqueue(command)
	if future == nil {
		return nil, ErrNotLeader
	}
	defer g.pending.Done()
	defer func() { <-g.places }()
	if err := future.Error(); err != nil { // at the commit, or when leadership is lost: within the lease
		return nil, translate(err)
	}
	g.metrics.apply.Observe(time.Since(started).Seconds())
	if g.id == crier.SystemPartition {
		// Every node reads apps and attribute names from its own replica, which applies an entry when it hears of its commit: with the next entry, so there is one,
		// and with an idle group's next message, after up to twice the CommitTimeout, where that is lost.
		g.raft.Barrier(enqueueTimeout)
	}
	if err, ok := future.Response().(error); ok {
		return nil, err
	}
	return future.Response(), nil
}

// enqueue hands a command to raft; nil while the group closes. The caller waits for the future and then
// tells pending.
func (g *Group) enqueue(command []byte) raft.ApplyFuture {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closing {
		<-g.places
		return nil
	}
	g.pending.Add(1)
	return g.raft.Apply(command, enqueueTimeout)
}

// wake has the group's watcher look whether its actor should run.
func (g *Group) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// Barrier blocks until everything that was committed before it is applied here.
func (g *Group) Barrier(timeout time.Duration) error {
	return translate(g.raft.Barrier(timeout).Error())
}

// IsLeader reports whether this node leads the group, as far as it knows.
func (g *Group) IsLeader() bool { return g.raft.State() == raft.Leader }

// Term returns the group's current term.
func (g *Group) Term() uint64 { return g.raft.CurrentTerm() }

// close refuses new commands, waits for those under way while raft still runs
// (a raft that has shut down leaves what is in its queue unanswered), and shuts the group down.
func (g *Group) close() error {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.pending.Wait()
	ended := g.raft.Shutdown()
	if t, ok := g.transport.(raft.WithClose); ok {
		_ = t.Close() // what waits for a node that is away would hold the end up; closing twice is fine
	}
	return ended.Error()
}

// translate turns raft's errors into ours.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrRaftShutdown):
		return ErrNotLeader
	}
	return unknown(err)
}

func unknown(err error) error {
	return &crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text(), Err: err}
}
