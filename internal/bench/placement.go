package bench

import (
	"context"
	"fmt"
	"slices"

	"github.com/crier-im/crier/cluster"
)

// The cluster that measurePlacement thinks of.
const (
	placedNodes      = 100
	placedPartitions = 1024
	placedReplicas   = 3
)

// measurePlacement looks how even the placement of a large cluster is, and what a node more or less moves, without any node.
func measurePlacement(context.Context, Config) ([]Result, error) {
	s := cluster.Simulate(placedNodes, placedPartitions, placedReplicas)
	held, led, replicas := make(map[string]int), make(map[string]int), 0
	for p, holders := range s.Holders {
		for _, n := range holders {
			held[n]++
			replicas++
		}
		led[s.Leaders[p]]++
	}
	var results []Result
	for _, row := range []struct {
		what string
		of   map[string]int
		sum  int
	}{{"replicas", held, replicas}, {"leaders", led, placedPartitions}} {
		var all []int
		for n := range held {
			all = append(all, row.of[n])
		}
		mean := float64(row.sum) / placedNodes
		results = append(results, Result{
			Name:  fmt.Sprintf("%s of %d partitions on %d nodes, a node", row.what, placedPartitions, placedNodes),
			Value: fmt.Sprintf("%d to %d", slices.Min(all), slices.Max(all)), Limit: fmt.Sprintf("%.1f, the mean", mean),
			Ratio: fmt.Sprintf("%.2f", float64(slices.Max(all))/mean), Goal: "within 5 %, or one",
		})
	}
	for _, row := range []struct {
		what  string
		moved int
		nodes int
	}{{"one node joins them", s.Joined.Replicas, placedNodes + 1}, {"one is lost", s.Left.Replicas, placedNodes}} {
		results = append(results, Result{
			Name:  fmt.Sprintf("replicas that move when %s", row.what),
			Value: fmt.Sprintf("%d of %d", row.moved, replicas), Limit: fmt.Sprintf("%.1f, a node's share", float64(replicas)/float64(row.nodes)),
			Ratio: fmt.Sprintf("%.4f", float64(row.moved)/float64(replicas)), Goal: fmt.Sprintf("%.4f or less of all", 1/float64(row.nodes)+0.02),
		})
	}
	return results, nil
}
