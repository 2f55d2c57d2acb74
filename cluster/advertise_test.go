package cluster_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
	"github.com/crier-im/crier/cluster/transport/transporttest"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
)

// Nodes that listen on all addresses of their machines reach one another where they say that they are, by a name or an address.
func TestNodesAdvertiseWhereTheyAre(t *testing.T) {
	names := []string{"127.0.0.1", "localhost", "127.0.0.1"}
	c := newNodes(t, 3, 8, func(c *cluster.Config) {
		c.GossipListen, c.RaftListen, c.ActorListen = everywhere(t), everywhere(t), everywhere(t)
		c.Advertise, names = names[0], names[1:]
	})
	for _, n := range c.nodes {
		for _, m := range n.Members() {
			for _, address := range []string{m.Address, m.RaftAddress, m.ActorAddress} {
				host, port, err := net.SplitHostPort(address)
				if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) || port == "0" {
					t.Errorf("%s is to be reached at %q", m.NodeID, address)
				}
			}
		}
	}
	for p := range crier.PartitionID(8) { // some are led by others
		if n, err := c.count(0, p); err != nil || n != 1 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
}

// Nodes speak IPv6, too.
func TestNodesOnIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6:", err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := newNodes(t, 3, 8, func(c *cluster.Config) {
		for _, listen := range []*string{&c.GossipListen, &c.RaftListen, &c.ActorListen} {
			_, port, err := net.SplitHostPort(freeporttest.Address(t))
			if err != nil {
				t.Fatal(err)
			}
			*listen = net.JoinHostPort("::1", port)
		}
	})
	for p := range crier.PartitionID(8) {
		if n, err := c.count(0, p); err != nil || n != 1 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
}

// Two of three that have found one another go on looking for the third, which nobody but they has been told of.
func TestNodesFindTheLastOfThree(t *testing.T) {
	if underRace {
		t.Skip("see underRace")
	}
	c := &trio{t: t, faults: transporttest.NewFaults(1)}
	for range 3 {
		c.add(3, 8)
	}
	c.configs[0].Join = []string{c.configs[0].GossipListen} // a list of all nodes that ends too early
	c.configs[1].Join = []string{c.configs[2].GossipListen}
	c.configs[2].Join = []string{c.configs[1].GossipListen, c.configs[0].GossipListen}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if i == 0 {
				time.Sleep(3 * time.Second) // the others look for nodes every second: they have found one another
			}
			n, err := cluster.Open(ctx, c.configs[i], c.stores[i], clustertest.Host{})
			if err != nil {
				t.Errorf("node %d: %v", i, err)
				return
			}
			c.nodes[i] = n
		})
	}
	wg.Wait()
	for i := range c.nodes {
		c.stop(i)
	}
}

// everywhere returns an address on which nobody listens now on any address of the machine.
func everywhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
