package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
)

// simulation is the cluster to think of.
type simulation struct{ nodes, partitions, replicas, accounts int }

func newSimulate() *cobra.Command {
	var s simulation
	cmd := &cobra.Command{
		Use: "simulate", Short: "Show how a cluster would be placed, and what a node more or less would move", Args: cobra.NoArgs,
		Long: "Places partitions on nodes by the rules of a running cluster, without any node, and tells how even that is, and what moves when a node joins\n" +
			"or is lost. Accounts named user0, user1, ... are counted one by one: 100 million take some seconds.",
		Example: "  crier simulate --nodes 100 --partitions 1024 --accounts 100000000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for name, v := range map[string][3]int{
				"nodes": {s.nodes, 1, 10_000}, "partitions": {s.partitions, 1, crier.MaxPartitions}, "replicas": {s.replicas, 1, 7}, "accounts": {s.accounts, 0, 1e9},
			} {
				if v[0] < v[1] || v[0] > v[2] {
					return fmt.Errorf("--%s is %d, it must be %d to %d", name, v[0], v[1], v[2])
				}
			}
			return s.write(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&s.nodes, "nodes", 3, "nodes of the cluster")
	f.IntVar(&s.partitions, "partitions", crier.DefaultPartitions, "cluster.partitions")
	f.IntVar(&s.replicas, "replicas", 3, "cluster.replicas")
	f.IntVar(&s.accounts, "accounts", 1_000_000, "accounts of one app")
	return cmd
}

func (s *simulation) write(out io.Writer) error {
	placed := cluster.Simulate(s.nodes, s.partitions, s.replicas)
	accounts := countAccounts(s.accounts, s.partitions)
	held, leads, kept := make(map[string]int), make(map[string]int), make(map[string]int)
	replicas := 0
	for p, holders := range placed.Holders {
		for _, n := range holders {
			held[n]++
			kept[n] += accounts[p]
			replicas++
		}
		leads[placed.Leaders[p]]++
	}
	fmt.Fprintf(out, "%d nodes, %d partitions of %d replicas, %d accounts\n\n", s.nodes, s.partitions, min(s.replicas, s.nodes), s.accounts)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "a node\tfewest\tmean\tmost\t")
	for _, row := range []struct {
		what string
		of   map[string]int
	}{{"replicas", held}, {"partitions that it leads", leads}, {"accounts that it keeps", kept}} {
		all := make([]int, 0, s.nodes)
		sum := 0
		for n := range held {
			all, sum = append(all, row.of[n]), sum+row.of[n]
		}
		all = append(all, make([]int, s.nodes-len(all))...) // nodes without anything
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%d\t\n", row.what, slices.Min(all), float64(sum)/float64(s.nodes), slices.Max(all))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	share := func(n int) float64 { return 100 * float64(n) / float64(replicas) }
	fmt.Fprintf(out, "\none node more: %d of %d replicas move (%.2f %%, its share is %.2f %%), %d leaders hand over\n", placed.Joined.Replicas, replicas,
		share(placed.Joined.Replicas), 100/float64(s.nodes+1), placed.Joined.Leaders)
	if s.nodes > 1 {
		fmt.Fprintf(out, "one node less: %d of %d replicas move (%.2f %%, its share is %.2f %%), %d leaders of others hand over\n", placed.Left.Replicas, replicas,
			share(placed.Left.Replicas), 100/float64(s.nodes), placed.Left.Leaders)
	}
	return nil
}

// countAccounts returns how many of the accounts are in each partition.
func countAccounts(accounts, partitions int) []int {
	workers := runtime.GOMAXPROCS(0)
	counts := make([][]int, workers)
	var all sync.WaitGroup
	for w := range workers {
		counts[w] = make([]int, partitions)
		all.Go(func() {
			for i := w; i < accounts; i += workers {
				counts[w][crier.PartitionOf(1400000001, crier.UserID("user"+strconv.Itoa(i)), partitions)]++
			}
		})
	}
	all.Wait()
	for _, other := range counts[1:] {
		for p, n := range other {
			counts[0][p] += n
		}
	}
	return counts[0]
}
