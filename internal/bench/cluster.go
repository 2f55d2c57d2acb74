package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/localcluster"
)

const (
	// clusterNodes is how many processes the connections of one node are spread over.
	clusterNodes = 3
	// spreadPushes is how many pushes of each are timed.
	spreadPushes = 15
	// idleFor is how long nodes without anything to do are watched, and settleFor how long before that they are left alone: leaders are evened out 10 s after
	// the last node has come.
	idleFor   = 20 * time.Second
	settleFor = 15 * time.Second
	// tick is the unit in which Linux tells the processor time of a process (USER_HZ).
	tick = 10 * time.Millisecond
	// spreadToken is the operator's of the nodes.
	spreadToken = "benchmark-operator"
	// actorBytes counts what actors send to other nodes.
	actorBytes = `crier_actor_bytes_total{direction="sent"}`
)

// spread is what came of as many connections on some nodes of this machine.
type spread struct {
	push    time.Duration // median, until the last receiver had it
	cpu     time.Duration // of all nodes, a receiver
	crossed float64       // bytes that actors sent to other nodes, a receiver
	idle    float64       // of one core, the node with the most
}

// measureCluster compares connections to one node with as many that are spread over three, which share this machine.
func measureCluster(ctx context.Context, cfg Config) ([]Result, error) {
	one, err := measureSpread(ctx, cfg, 1)
	if err != nil {
		return nil, err
	}
	three, err := measureSpread(ctx, cfg, clusterNodes)
	if err != nil {
		return nil, err
	}
	rate := func(s spread) float64 { return float64(cfg.Connections) / s.push.Seconds() }
	idle := func(s spread, nodes string) Result {
		return Result{
			Name: fmt.Sprintf("processor time of an idle node of %s, %d partitions", nodes, crier.DefaultPartitions), Value: fmt.Sprintf("%.1f %% of one core", 100*s.idle),
			Limit: "-", Ratio: "-", Goal: "under 4 %",
		}
	}
	return []Result{
		{
			Name:  fmt.Sprintf("one push to %d connections of %d nodes on this machine, from the call to the last receiver", cfg.Connections, clusterNodes),
			Value: fmt.Sprintf("%.0f frames/s", rate(three)), Limit: fmt.Sprintf("%.0f frames/s, one node", rate(one)),
			Ratio: fmt.Sprintf("%.2f", rate(three)/rate(one)), Goal: "0.5 or more",
		},
		{
			Name:  "processor time of all nodes, a receiver of such a push",
			Value: fmt.Sprintf("%.0f µs", micros(three.cpu)), Limit: fmt.Sprintf("%.0f µs, one node", micros(one.cpu)),
			Ratio: fmt.Sprintf("%.2f", three.cpu.Seconds()/one.cpu.Seconds()), Goal: "-",
		},
		{
			Name: "bytes between the actors of the nodes, a receiver of such a push", Value: fmt.Sprintf("%.0f bytes", three.crossed),
			Limit: "-", Ratio: "-", Goal: "-",
		},
		idle(one, "one"), idle(three, "three"),
	}, nil
}

func micros(d time.Duration) float64 { return d.Seconds() * 1e6 }

// measureSpread starts nodes, watches them while they have nothing to do, opens the connections, as many to each, and pushes to all.
func measureSpread(ctx context.Context, cfg Config, nodes int) (s spread, err error) {
	c, err := startCluster(ctx, cfg, fmt.Sprintf("cluster-of-%d", nodes), nodes)
	if c != nil {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	if err != nil {
		return s, err
	}
	time.Sleep(settleFor)
	if s.idle, err = idleShare(c); err != nil {
		return s, err
	}
	caller, app, err := makeApp(ctx, c)
	if err != nil {
		return s, err
	}
	if err := importDevices(ctx, caller, cfg.Connections); err != nil {
		return s, err
	}
	receivers := new(sink)
	defer receivers.close()
	for k, n := range c.Nodes {
		first, last := k*cfg.Connections/nodes, (k+1)*cfg.Connections/nodes
		if err := receivers.logIn(ctx, last-first, n.URL, app.ID, app.Key, first); err != nil {
			return s, err
		}
	}
	return s, s.measure(c, receivers, pushing(ctx, caller))
}

// startCluster starts processes on a directory below cfg.Dir. What was started is to be closed, also after an error.
func startCluster(ctx context.Context, cfg Config, dir string, nodes int) (*localcluster.Cluster, error) {
	dir = filepath.Join(cfg.Dir, dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return localcluster.Start(ctx, localcluster.Config{Binary: cfg.Binary, Dir: dir, Nodes: nodes, Token: spreadToken, Flags: []string{"--log-level", "warn"}})
}

// makeApp makes an app that may push as often as it likes, and returns a client of its admin once every node knows it.
func makeApp(ctx context.Context, c *localcluster.Cluster) (*client.Client, *crier.App, error) {
	app := new(crier.App)
	wish := map[string]any{"id": benchApp, "limits": map[string]any{"push_interval": 0, "pushes_per_day": 0, "calls_per_second": 0}}
	if err := newOperator(c.Nodes[0].URL, spreadToken).call(ctx, http.MethodPost, "/v1/apps", wish, app); err != nil {
		return nil, nil, err
	}
	for _, n := range c.Nodes {
		for deadline := time.Now().Add(startWait); ; time.Sleep(10 * time.Millisecond) {
			err := newOperator(n.URL, spreadToken).call(ctx, http.MethodGet, "/v1/apps/"+benchApp.String(), nil, nil)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return nil, nil, err
			}
		}
	}
	caller, err := client.New(c.Nodes[0].URL, app.ID, app.Admins[0], client.SecretKey(app.Key))
	return caller, app, err
}

// measure pushes to all who are connected.
func (s *spread) measure(c *localcluster.Cluster, receivers *sink, push func() error) error {
	if err := receivers.warmUp(push); err != nil {
		return err
	}
	before, err := usageOf(c)
	if err != nil {
		return err
	}
	if s.push, err = receivers.rounds(spreadPushes, push); err != nil {
		return err
	}
	after, err := usageOf(c)
	if err != nil {
		return err
	}
	frames := spreadPushes * len(receivers.conns)
	s.cpu, s.crossed = (after.cpu-before.cpu)/time.Duration(frames), (after.crossed-before.crossed)/float64(frames)
	return nil
}

// idleShare returns the share of a core that a node takes while nobody asks for anything, that of the one which takes the most.
func idleShare(c *localcluster.Cluster) (share float64, err error) {
	before := make([]time.Duration, len(c.Nodes))
	for i, n := range c.Nodes {
		if before[i], err = processorTime(n.PID()); err != nil {
			return 0, err
		}
	}
	time.Sleep(idleFor)
	for i, n := range c.Nodes {
		after, err := processorTime(n.PID())
		if err != nil {
			return 0, err
		}
		share = max(share, (after-before[i]).Seconds()/idleFor.Seconds())
	}
	return share, nil
}

// usage is what the nodes of a cluster have used since they started.
type usage struct {
	cpu     time.Duration
	crossed float64 // bytes
}

func usageOf(c *localcluster.Cluster) (u usage, err error) {
	for _, n := range c.Nodes {
		cpu, err := processorTime(n.PID())
		if err != nil {
			return u, err
		}
		crossed, err := metric(n.URL, actorBytes)
		if err != nil {
			return u, err
		}
		u.cpu, u.crossed = u.cpu+cpu, u.crossed+crossed
	}
	return u, nil
}

// processorTime returns how long a process has run on processors (Linux).
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // past the name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat has %d fields after the name", len(fields))
	}
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	system, errSystem := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(errUser, errSystem)
}
