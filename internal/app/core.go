// Package app puts a node of Crier together: storage, cluster, actors and the
// servers in front of them, started from the disk outwards and stopped in the reverse of
// their exposure.
package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/persistence"
)

// Core is a node without its servers: what keeps, decides and delivers.
type Core struct {
	Service *actors.Service
	Store   *persistence.Store
	Cluster *cluster.Node
	fanout  *actors.Fanout
	backups *backupMetrics
	ready   chan struct{}

	stop    context.CancelFunc // of what follows
	running sync.WaitGroup
}

// StartCore opens the data directory and starts the node on it. It returns when its groups are open; whether they are led, WaitForReady
// tells. call is how long a call may take.
func StartCore(ctx context.Context, storage persistence.Config, c cluster.Config, vendors actors.Vendors, call time.Duration, r prometheus.Registerer, log *slog.Logger) (_ *Core, err error) {
	core := &Core{backups: newBackupMetrics(r), ready: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = core.Close() // the first error is the one to tell
		}
	}()
	storage.Registerer = r
	if core.Store, err = persistence.Open(ctx, storage); err != nil {
		return nil, err
	}
	c.NodeID, c.Partitions, c.Registerer, c.Logger = core.Store.NodeID(), core.Store.Partitions(), r, log
	h := &host{store: core.Store, vendors: vendors, metrics: actors.NewMetrics(r), log: log, node: make(chan struct{})}
	h.fanout = actors.NewFanout(h.metrics, log)
	core.fanout = h.fanout
	if core.Cluster, err = cluster.Open(ctx, c, core.Store, h); err != nil {
		return nil, err
	}
	h.setNode(core.Cluster)
	if err := actors.ServeFanout(core.Cluster.ActorSystem(), h.metrics); err != nil {
		return nil, err
	}
	core.Service = actors.NewService(c.NodeID, core.Cluster, core.Store.SystemReplica(nil), vendors, core.Cluster.ActorSystem(), call, h.metrics, log)
	following, stop := context.WithCancel(context.Background())
	core.stop = stop
	core.running.Go(func() { core.Service.FollowLeaders(following) })
	core.running.Go(func() { core.Service.FollowApps(following) })
	return core, nil
}

// OpenCore is StartCore, and returns when the node is ready.
func OpenCore(ctx context.Context, storage persistence.Config, c cluster.Config, vendors actors.Vendors, call time.Duration, r prometheus.Registerer, log *slog.Logger) (*Core, error) {
	core, err := StartCore(ctx, storage, c, vendors, call, r, log)
	if err != nil {
		return nil, err
	}
	if err := core.WaitForReady(ctx); err != nil {
		_ = core.Close() // the first error is the one to tell
		return nil, err
	}
	return core, nil
}

// WaitForReady blocks until every partition is led and the node knows the apps, or has left the cluster, or ctx ends. It is called once.
func (c *Core) WaitForReady(ctx context.Context) error {
	if err := c.Cluster.WaitForReady(ctx); err != nil {
		return err
	}
	if err := c.waitForSystem(ctx); err != nil {
		return err
	}
	close(c.ready)
	return nil
}

// Begun is closed once WaitForReady has returned without an error: from then on the node serves, as well as it can.
func (c *Core) Begun() <-chan struct{} { return c.ready }

// Ready returns nil while the node can serve, else what is missing.
func (c *Core) Ready() error {
	if err := c.Cluster.Ready(); err != nil {
		return err
	}
	select {
	case <-c.ready:
		return nil
	default:
		return errors.New("the node is starting")
	}
}

// waitForSystem waits until the node knows the apps, or has left the cluster, which tells it nothing more.
func (c *Core) waitForSystem(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the wait
		select {
		case <-c.Cluster.Left():
			cancel()
		case <-waiting.Done():
		}
	}()
	err := c.Service.WaitForSystem(waiting)
	select {
	case <-c.Cluster.Left():
		return c.Cluster.LeftErr()
	default:
		return err
	}
}

// Close stops the node and closes the data directory.
func (c *Core) Close() error {
	if c.stop != nil {
		c.stop()
		c.running.Wait()
	}
	var errs []error
	if c.Cluster != nil {
		errs = append(errs, c.Cluster.Close())
	}
	if c.fanout != nil {
		c.fanout.Close()
	}
	if c.Store != nil { // whatever has failed before: it has things to write yet
		errs = append(errs, c.Store.Close())
	}
	return errors.Join(errs...)
}

// host makes partition actors for the cluster. It implements cluster.Host.
type host struct {
	store   *persistence.Store
	vendors actors.Vendors
	metrics *actors.Metrics
	fanout  *actors.Fanout
	log     *slog.Logger
	node    chan struct{} // closed once cluster is set
	cluster *cluster.Node
}

func (h *host) setNode(n *cluster.Node) {
	h.cluster = n
	close(h.node)
}

// PartitionProps is cluster.Host's.
func (h *host) PartitionProps(p crier.PartitionID, g *cluster.Group, term uint64) *actor.Props {
	if p == crier.SystemPartition {
		return actors.SystemProps(h.store.SystemReplica(g.Led(term)), h.metrics)
	}
	return actors.PartitionProps(actors.Deps{
		Partition: p, Term: term, Replica: h.store.Replica(p, g.Led(term)), System: h.store.SystemReplica(nil),
		Directory: h, Vendors: h.vendors, Fanout: h.fanout, Grace: actors.DefaultGrace, Idle: actors.DefaultIdle, Metrics: h.metrics, Logger: h.log,
	})
}

// wait waits for the node: groups are led, and their actors run, before cluster.Open
// has returned it.
func (h *host) wait(ctx context.Context) error {
	select {
	case <-h.node:
		return nil
	case <-ctx.Done():
		return crier.Errorf(crier.CodeTimeout, "the node is starting")
	}
}

// Request is the cluster's.
func (h *host) Request(ctx context.Context, kind, identity string, msg any) (any, error) {
	if err := h.wait(ctx); err != nil {
		return nil, err
	}
	return h.cluster.Request(ctx, kind, identity, msg)
}

// RequestEach is the cluster's.
func (h *host) RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(crier.PartitionID, any, error)) {
	if err := h.wait(ctx); err != nil {
		for p := range messages {
			take(p, nil, err)
		}
		return
	}
	h.cluster.RequestEach(ctx, messages, take)
}

// Partitions returns P.
func (h *host) Partitions() int { return h.store.Partitions() }
