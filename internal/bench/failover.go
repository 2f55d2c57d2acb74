package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/localcluster"
)

const (
	// recoverWithin bounds how long a partition may refuse writes, and a node may lag behind.
	recoverWithin = time.Minute
	// lookEvery is how often the status is asked for while that is timed.
	lookEvery = 20 * time.Millisecond
	// stoppedFor is how long a node stands still, beyond what the others need.
	stoppedFor = time.Second
)

// probe writes to every partition of a cluster: one account of each.
type probe struct {
	users []crier.UserID // by partition
	ways  []*client.Client
	count atomic.Int64
}

// newProbe makes an account in every partition.
func newProbe(ctx context.Context, c *localcluster.Cluster, app *crier.App) (*probe, error) {
	p := &probe{users: make([]crier.UserID, crier.DefaultPartitions)}
	for i, left := 0, len(p.users); left > 0; i++ {
		user := crier.UserID(fmt.Sprintf("probe%d", i))
		if at := crier.PartitionOf(app.ID, user, len(p.users)); p.users[at] == "" {
			p.users[at], left = user, left-1
		}
	}
	for _, n := range c.Nodes {
		way, err := client.New(n.URL, app.ID, app.Admins[0], client.SecretKey(app.Key))
		if err != nil {
			return nil, err
		}
		way.Attempts = 1
		p.ways = append(p.ways, way)
	}
	if err := p.ways[0].SetAttrNames(ctx, map[int]string{0: "count"}); err != nil {
		return nil, err
	}
	if err := p.ways[0].Import(ctx, p.users...); err != nil {
		return nil, err
	}
	return p, p.until(ctx, -1)
}

// until returns when every partition has taken a write that began after the call, by any node but one.
func (p *probe) until(ctx context.Context, except int) error {
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	errs := make([]error, len(p.users))
	var all sync.WaitGroup
	for at, user := range p.users {
		all.Go(func() {
			for i := at; ; i++ {
				if i%len(p.ways) == except {
					continue
				}
				change := map[crier.UserID]map[string]string{user: {"count": fmt.Sprint(p.count.Add(1))}}
				err := p.ways[i%len(p.ways)].SetAttrs(ctx, change)
				if err == nil {
					return
				}
				if ctx.Err() != nil {
					errs[at] = fmt.Errorf("partition %d: %w", at, err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// waitFor returns when there is no error in how the cluster was at the time of the call, or later, as a node tells it; that error once the bound is over.
func waitFor(ctx context.Context, ask *localcluster.Node, every, bound time.Duration, check func(s *crier.ClusterStatus) error) error {
	o := newOperator(ask.URL, spreadToken)
	for began := time.Now(); ; time.Sleep(every) {
		var s crier.ClusterStatus
		err := o.call(ctx, http.MethodGet, "/v1/cluster", nil, &s)
		switch {
		case err != nil:
		case time.Duration(s.Age)*time.Millisecond > time.Since(began):
			err = errors.New("the nodes have not been looked at since")
		default:
			err = check(&s)
		}
		if err == nil || time.Since(began) > bound || ctx.Err() != nil {
			return err
		}
	}
}

// evenOut has every node lead its share of the partitions: what is lost with one is worth measuring only then.
func evenOut(ctx context.Context, ask *localcluster.Node) error {
	if err := newOperator(ask.URL, spreadToken).call(ctx, http.MethodPost, "/v1/cluster/rebalance", nil, nil); err != nil {
		return err
	}
	return waitFor(ctx, ask, lookEvery, recoverWithin, func(s *crier.ClusterStatus) error {
		for _, n := range s.Nodes {
			if share := len(s.Partitions) / len(s.Nodes); n.Leads < share {
				return fmt.Errorf("node %s leads %d partitions, its share is %d", n.ID, n.Leads, share)
			}
		}
		return nil
	})
}

// caughtUp returns when every replica has applied everything.
func caughtUp(ctx context.Context, ask *localcluster.Node, nodes int) error {
	return waitFor(ctx, ask, lookEvery, recoverWithin, func(s *crier.ClusterStatus) error { return behind(s, nodes) })
}

// behind returns an error that names a partition which is not whole.
func behind(s *crier.ClusterStatus, replicas int) error {
	if len(s.Partitions) == 0 {
		return errors.New("the cluster has not been looked at yet")
	}
	for _, p := range s.Partitions {
		if p.Leader == "" || len(p.Replicas) < replicas {
			return fmt.Errorf("partition %s has no leader, or not every replica", p.Partition)
		}
		for _, r := range p.Replicas {
			if !r.Alive || r.Lag > 0 {
				return fmt.Errorf("partition %s lags behind on node %s", p.Partition, r.Node)
			}
		}
	}
	return nil
}

// measureFailover kills nodes of three, in turn, and stops others for a while.
func measureFailover(ctx context.Context, cfg Config) (results []Result, err error) {
	c, err := startCluster(ctx, cfg, "failover", clusterNodes)
	if c != nil {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	if err != nil {
		return nil, err
	}
	_, app, err := makeApp(ctx, c)
	if err != nil {
		return nil, err
	}
	p, err := newProbe(ctx, c, app)
	if err != nil {
		return nil, err
	}
	var killed, back, stopped []time.Duration
	for i := range cfg.Kills {
		took, caught, err := killOne(ctx, c, p, i%clusterNodes)
		if err != nil {
			return nil, fmt.Errorf("kill %d: %w", i+1, err)
		}
		killed, back = append(killed, took), append(back, caught)
	}
	for i := range max(1, cfg.Kills/5) {
		took, err := stopOne(ctx, c, p, i%clusterNodes)
		if err != nil {
			return nil, fmt.Errorf("stop %d: %w", i+1, err)
		}
		stopped = append(stopped, took)
	}
	result := func(what string, all []time.Duration) Result {
		return Result{
			Name: fmt.Sprintf("%s, %d times", what, len(all)), Limit: "-", Ratio: "-", Goal: "p99 3 s or less",
			Value: fmt.Sprintf("p50 %.1f s, p99 %.1f s", percentile(all, 0.5).Seconds(), percentile(all, 0.99).Seconds()),
		}
	}
	return []Result{
		result("from the kill -9 of one of three nodes until every partition has taken a write", killed),
		result("from when that node serves again until all its replicas have caught up", back),
		result("from the SIGSTOP of one of three nodes until every partition has taken a write", stopped),
	}, nil
}

// killOne kills a node, and starts it again. It returns how long it took until all partitions took writes, and from when the node served
// until it had caught up.
func killOne(ctx context.Context, c *localcluster.Cluster, p *probe, at int) (took, caught time.Duration, err error) {
	n, other := c.Nodes[at], c.Nodes[(at+1)%len(c.Nodes)]
	if err := evenOut(ctx, other); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := n.Kill(); err != nil {
		return 0, 0, err
	}
	if err := p.until(ctx, at); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	if err := n.Start(); err != nil {
		return 0, 0, err
	}
	if err := n.WaitReady(ctx); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	if err := caughtUp(ctx, other, len(c.Nodes)); err != nil {
		return 0, 0, err
	}
	return took, time.Since(began), nil
}

// stopOne has a node stand still until all partitions take writes without it.
func stopOne(ctx context.Context, c *localcluster.Cluster, p *probe, at int) (took time.Duration, err error) {
	n, other := c.Nodes[at], c.Nodes[(at+1)%len(c.Nodes)]
	if err := evenOut(ctx, other); err != nil {
		return 0, err
	}
	process, err := os.FindProcess(n.PID())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	err = p.until(ctx, at)
	took = time.Since(began)
	time.Sleep(stoppedFor)
	if err := errors.Join(err, process.Signal(syscall.SIGCONT)); err != nil {
		return 0, err
	}
	if err := n.WaitReady(ctx); err != nil {
		return 0, err
	}
	return took, caughtUp(ctx, other, len(c.Nodes))
}
