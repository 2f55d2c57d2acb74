package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/localcluster"
)

const (
	// steadyWriters each change one account every steadyPause.
	steadyWriters = 8
	steadyPause   = 40 * time.Millisecond
	// steadyFor is how long that goes on before the cluster grows.
	steadyFor = 15 * time.Second
	// watchEvery is how often the status is asked for meanwhile, as an operator's page might: what the nodes do for that is a load too.
	watchEvery = 500 * time.Millisecond
	// growWithin bounds how long the cluster may take until it is settled.
	growWithin = 30 * time.Minute
)

// measureGrowth adds a fourth node to three that keep the accounts, while accounts are changed.
func measureGrowth(ctx context.Context, cfg Config) (results []Result, err error) {
	c, err := startCluster(ctx, cfg, "growth", clusterNodes)
	if c != nil {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	if err != nil {
		return nil, err
	}
	caller, _, err := makeApp(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := importAccounts(ctx, caller, cfg.Accounts); err != nil {
		return nil, err
	}
	if err := caller.SetAttrNames(ctx, map[int]string{0: "count"}); err != nil {
		return nil, err
	}
	before, err := settled(ctx, c, clusterNodes)
	if err != nil {
		return nil, err
	}
	quiet, err := steadily(ctx, caller, cfg.Accounts, func() error { time.Sleep(steadyFor); return nil })
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var took time.Duration
	var after map[string]bool
	moving, err := steadily(ctx, caller, cfg.Accounts, func() error {
		if _, err := c.Grow(ctx); err != nil {
			return err
		}
		after, err = settled(ctx, c, clusterNodes+1)
		took = time.Since(began)
		return err
	})
	if err != nil {
		return nil, err
	}
	moved := 0
	for replica := range after {
		if !before[replica] {
			moved++
		}
	}
	p99 := func(all []time.Duration) float64 { return percentile(all, 0.99).Seconds() * 1e3 }
	return []Result{
		{
			Name: fmt.Sprintf("a fourth node joins three with %d accounts: until every replica is in its place", cfg.Accounts), Value: fmt.Sprintf("%.0f s", took.Seconds()),
			Limit: "-", Ratio: "-", Goal: "-",
		},
		{
			Name: "replicas that move to it", Value: fmt.Sprintf("%d of %d", moved, len(after)), Limit: fmt.Sprintf("%d, its share", len(after)/(clusterNodes+1)),
			Ratio: fmt.Sprintf("%.2f", float64(moved)/float64(len(after))), Goal: "0.30 or less of all",
		},
		{
			Name:  fmt.Sprintf("a change of one account meanwhile, %d of them", len(moving)),
			Value: fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", percentile(moving, 0.5).Seconds()*1e3, p99(moving)),
			Limit: fmt.Sprintf("p50 %.0f ms, p99 %.0f ms, before", percentile(quiet, 0.5).Seconds()*1e3, p99(quiet)), Ratio: fmt.Sprintf("%.1f", p99(moving)/p99(quiet)), Goal: "p99 under 5 times",
		},
	}, nil
}

// importAccounts makes the accounts, some calls at a time.
func importAccounts(ctx context.Context, c *client.Client, n int) error {
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(writers)
	for first := 0; first < n && ctx.Err() == nil; first += batch {
		calls.Go(func() error {
			names := make([]crier.UserID, 0, batch)
			for i := first; i < min(first+batch, n); i++ {
				names = append(names, device(i))
			}
			return c.Import(ctx, names...)
		})
	}
	return calls.Wait()
}

// steadily changes accounts while work runs, and returns how long each change took.
func steadily(ctx context.Context, c *client.Client, accounts int, work func() error) ([]time.Duration, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	took, errs := make([][]time.Duration, steadyWriters), make([]error, steadyWriters)
	var all sync.WaitGroup
	for w := range steadyWriters {
		all.Go(func() {
			ticker := time.NewTicker(steadyPause)
			defer ticker.Stop()
			for n := w; ; n += steadyWriters {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				began := time.Now()
				err := c.SetAttrs(context.WithoutCancel(ctx), map[crier.UserID]map[string]string{device(n * 7919 % accounts): {"count": fmt.Sprint(n)}})
				if err != nil {
					errs[w] = err
					return
				}
				took[w] = append(took[w], time.Since(began))
			}
		})
	}
	err := work()
	stop()
	all.Wait()
	var flat []time.Duration
	for _, t := range took {
		flat = append(flat, t...)
	}
	return flat, errors.Join(append(errs, err)...)
}

// settled waits until as many nodes are members and every replica is where it is wanted, and returns the replicas.
func settled(ctx context.Context, c *localcluster.Cluster, nodes int) (replicas map[string]bool, err error) {
	err = waitFor(ctx, c.Nodes[0], watchEvery, growWithin, func(s *crier.ClusterStatus) error {
		if !s.Settled || len(s.Nodes) != nodes {
			return fmt.Errorf("the cluster of %d nodes waits for %s", len(s.Nodes), s.Waiting)
		}
		replicas = replicasOf(s)
		return nil
	})
	return replicas, err
}

// replicasOf returns who keeps which partition; the system group is everywhere.
func replicasOf(s *crier.ClusterStatus) map[string]bool {
	replicas := make(map[string]bool)
	for _, p := range s.Partitions {
		if p.Partition == crier.SystemPartition.String() {
			continue
		}
		for _, r := range p.Replicas {
			replicas[p.Partition+" "+r.Node] = true
		}
	}
	return replicas
}
