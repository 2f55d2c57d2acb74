// Package bench measures a node against the limits of its machine: each figure
// stands beside the raw limit of the same run, since machines differ and are noisy.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/crier-im/crier/internal/process"
)

// Config says what to measure, and how large.
type Config struct {
	Binary      string // of crier, for the processes that are measured
	Dir         string // for data; emptied
	Accounts    int    // of the large app
	Connections int    // idle connections; at most what the process may open
	Devices     int    // of the vendors' part, each of an account of its own
	Kills       int    // of nodes of a cluster
	Duration    time.Duration
	Only        []string  // parts to measure: writes, audience, connections, cluster, failover, growth, vendors; empty: all
	Out         io.Writer // progress
}

// Result is one figure.
type Result struct {
	Name, Value, Limit, Ratio, Goal string
}

// Run measures and returns the figures. It blocks for minutes.
func Run(ctx context.Context, cfg Config) ([]Result, error) {
	var all []Result
	for _, part := range []struct {
		name string
		run  func(context.Context, Config) ([]Result, error)
	}{{"writes", measureWrites}, {"audience", measureAudience}, {"connections", measureConnections}, {"cluster", measureCluster}, {"failover", measureFailover}, {"growth", measureGrowth}, {"vendors", measureVendors}, {"placement", measurePlacement}} {
		if len(cfg.Only) > 0 && !slices.Contains(cfg.Only, part.name) {
			continue
		}
		debug.FreeOSMemory() // what the part before has left behind is not to weigh on this one: garbage, and pages on their way to the disk
		syscall.Sync()
		fmt.Fprintf(cfg.Out, "measuring %s ...\n", part.name)
		started := time.Now()
		results, err := part.run(ctx, cfg)
		if err != nil {
			return all, fmt.Errorf("%s: %w", part.name, err)
		}
		for _, r := range results {
			fmt.Fprintf(cfg.Out, "  %s: %s (limit %s, ratio %s, goal %s)\n", r.Name, r.Value, r.Limit, r.Ratio, r.Goal)
		}
		fmt.Fprintf(cfg.Out, "  took %v\n", time.Since(started).Round(time.Second))
		all = append(all, results...)
	}
	return all, nil
}

// Markdown writes the report of docs/benchmarks.md.
func Markdown(w io.Writer, cfg Config, results []Result) error {
	fmt.Fprintf(w, "# Benchmarks\n\nMeasured by `make bench` on %s: %d cores, %s, %s. The machine is shared and noisy: the ratios count, each\n"+
		"between a figure and the raw limit measured in the same run. %d accounts, %d connections, %d devices.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH, runtime.Version(), cfg.Accounts, cfg.Connections, cfg.Devices)
	fmt.Fprintln(w, "| what | measured | raw limit | ratio | goal |\n| --- | --- | --- | --- | --- |")
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", r.Name, r.Value, r.Limit, r.Ratio, r.Goal)
	}
	_, err := fmt.Fprint(w, `
## Method

- **Durable changes**: 8 clients send im_set_attr for 100 accounts a call, encoded beforehand, over loopback HTTP to a server process; each answer is a commit
  in the synced raft logs; the state follows within a second, synced too. The raw limit: 8 goroutines commit batches of 100 records of the same size
  through the same group committer to one synced Badger database, without anything else.
- **A large audience**: accounts with 5 tags of 1000 (zipf) and 3 attributes (3, 50 and 10,000 values), over 64 partitions, loaded in the
  benchmark's own process; the node that is measured is a server process that is started on them. Heap is what the Go runtime holds in the restarted node after a collection, less what an empty node holds.
- **Connections**: the server and the receivers are two processes. An idle connection's cost is what the server's resident memory grew by.
  A push is timed from the REST call to the last receiver; the bare library is a process that writes one prepared frame to as many connections.
- **Several nodes**: each is a process with every setting as it comes, and its own log and state; the receivers are one more process, and all share the machine.
  The accounts are spread over the partitions, so of three nodes two thirds of the messages cross. The push is as above, 15 in turn, first to one node, then to three.
  Processor time is what Linux counts for the processes; bytes are those of all that actors send, over the number of receivers. Idle nodes are watched for 20 s.
- **The ratio of an audience**: conditions over all partitions on one thread, in turn with roaring's FastAnd, FastOr and AndNot over the same
  bitmaps; medians of 101 rounds. **On disk**: bytes of state that the flusher wrote for 100 pushes to everyone, with 32 bytes of overhead a record.
- **Vendors**: the server and `+"`crier apns-sim`"+` are two processes on loopback, with TLS; each account has one device and no connection. A push
  is timed from the REST call until the log has that APNs took the last, as the funnel tells it. The raw limit: goroutines, as many as notifications are
  under way in the server, push with apns2 over its own HTTP/2 transport to the same simulator from another process. In turn, 5 rounds, medians. The
  server was started anew after the devices had been registered; memory is the most that was resident in a round, less what was before it. Pushes to one
  who is connected go one after another, 20 ms apart; a chunk's time is that of 64 notifications in each of the 64 partitions.
- **Failover**: three processes on this machine. A write to one account of each of the 64 partitions begins right after the kill, by the nodes that are left;
  the last one's answer counts. The node is started again then; that it has caught up is what the cluster's status tells, which looks once
  a second; a look from before does not count. A node's turn comes when it leads its share of the partitions.
- **im_push accepted**: the pushes to the audiences above, 100 to each, over REST, each sent when the one before is durable in all partitions, whose state may still be on its way to the disk.
  The raw limit: in turn with them, 300 bytes are appended to a file and synced. The first row begins right after the start of a node whose accounts were made a moment ago, which keeps both
  processors busy with Badger's compaction; the second once the process takes less than a twentieth of a processor.
- **Placement**: by the rules of a running cluster, without nodes. `+"`crier simulate --nodes 100 --partitions 1024 --accounts 100000000`"+` counts accounts, too: 2.93 to 3.03 million a node.
- **Growth**: three processes keep the accounts, a fourth joins. 8 clients change one account each every 40 ms or so, before and meanwhile.
- Connections against the bare library also: `+"`go test -bench . ./http/gateway`"+`.
`)
	return err
}

// Table writes the figures for a terminal.
func Table(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEASURED\tRAW LIMIT\tRATIO\tGOAL")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Value, r.Limit, r.Ratio, r.Goal)
	}
	return t.Flush()
}

// median returns the middle of the values.
func median[T ~int64 | ~float64](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// percentile returns the value below which p of them are.
func percentile(values []time.Duration, p float64) time.Duration {
	values = slices.Sorted(slices.Values(values))
	return values[min(int(float64(len(values))*p), len(values)-1)]
}

// child starts the binary, and returns a function that ends it.
func child(cfg Config, args ...string) (*process.Process, func(), error) {
	cmd := exec.Command(cfg.Binary, args...)
	cmd.Stderr = os.Stderr
	p, err := process.Start(cmd)
	return p, func() { _ = p.Kill() }, err
}
