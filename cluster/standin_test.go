package cluster_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
)

// Where a leader's process has ended, its address refuses connections: the others don't wait for raft to lose patience.
func TestADeadLeaderIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	const patience, partitions = 20 * time.Second, 8
	var dead atomic.Value // a node's id
	c := newNodes(t, 3, partitions, func(cfg *cluster.Config) {
		cfg.HeartbeatTimeout = patience
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, node, addr string) (net.Conn, error) {
			if node == dead.Load() {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return dial(ctx, node, addr)
		}
	})
	all := []crier.PartitionID{crier.SystemPartition}
	for p := range crier.PartitionID(partitions) {
		all = append(all, p)
	}
	led := make([]int, len(c.nodes))
	for _, p := range all {
		led[c.leaderOf(p)]++
	}
	var gone int
	for i := range led {
		if led[i] > led[gone] {
			gone = i
		}
	}
	name := fmt.Sprint("node-", gone)
	dead.Store(name)
	began := time.Now()
	for i := range c.nodes {
		if i != gone {
			c.faults.Cut(name, fmt.Sprint("node-", i))
			c.faults.Reset(name, fmt.Sprint("node-", i))
		}
	}
	led = make([]int, len(c.nodes))
	for _, p := range all {
		for taken := false; !taken; {
			for i, n := range c.nodes {
				if i != gone && n.Group(p).IsLeader() {
					taken = true
					led[i]++
					break
				}
			}
			if took := time.Since(began); took > patience*4/10 { // raft itself takes half of it at least: the last heartbeat is no older when the link breaks
				t.Fatalf("partition %s has no other leader after %v", p, took)
			}
			time.Sleep(time.Millisecond)
		}
	}
	t.Logf("all %d led by others after %v: %v", len(all), time.Since(began), led)
}

// A leader that falls silent is replaced in all its groups half of raft's patience after that, at the latest: raft by itself takes up to three times its patience.
func TestASilentLeaderIsReplacedInTime(t *testing.T) {
	t.Parallel()
	const patience, partitions = 2400 * time.Millisecond, 32
	c := newNodes(t, 3, partitions, func(cfg *cluster.Config) { cfg.HeartbeatTimeout = patience })
	const tries = 3 // a machine that stands still for a moment makes one of them take longer
	var took time.Duration
	for i := range tries {
		gone := i % len(c.nodes)
		name := fmt.Sprint("node-", gone)
		var led []crier.PartitionID
		for p := range crier.PartitionID(partitions) {
			if c.leaderOf(p) == gone {
				led = append(led, p)
			}
		}
		began := time.Now()
		for i := range c.nodes {
			if i != gone {
				c.faults.Cut(name, fmt.Sprint("node-", i))
			}
		}
		for _, p := range led {
			for !slices.ContainsFunc(c.nodes, func(n *cluster.Node) bool { return n != c.nodes[gone] && n.Group(p).IsLeader() }) {
				time.Sleep(time.Millisecond)
			}
		}
		took = time.Since(began)
		t.Logf("all %d groups of %s are led by others after %v", len(led), name, took)
		if len(led) >= 8 && took < patience*9/4 {
			return
		}
		for i := range c.nodes {
			if i != gone {
				c.faults.Heal(name, fmt.Sprint("node-", i))
			}
		}
	}
	t.Errorf("the last of %d times it took %v", tries, took)
}
