package cluster_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
	"github.com/crier-im/crier/cluster/transport"
)

// leaderOf returns which node leads a partition.
func (c *trio) leaderOf(p crier.PartitionID) int {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for i, n := range c.nodes {
			if n != nil && n.Group(p) != nil && n.Group(p).IsLeader() {
				return i
			}
		}
	}
	c.t.Fatalf("nobody leads partition %s", p)
	return 0
}

// A node deletes nothing that it belongs to, whoever orders it: a coordinator may be wrong, or late.
func TestAReplicaThatBelongsIsNotDeleted(t *testing.T) {
	c := newTrio(t, 1)
	c.settle(3, 0, 1, 2)
	leader := c.leaderOf(0)
	follower, other := (leader+1)%3, (leader+2)%3
	ids := []string{"node-0", "node-1", "node-2"}
	for what, believed := range map[string]int{"its leader": leader, "a node that does not lead": other, "itself": follower} {
		if err := c.nodes[leader].DropAt(t.Context(), ids[follower], 0, ids[believed]); err == nil {
			t.Errorf("it is deleted on behalf of %s", what)
		}
	}
	if err := c.nodes[leader].DropAt(t.Context(), ids[leader], 0, ids[leader]); err == nil {
		t.Error("the leader's is deleted")
	}
	if err := c.nodes[leader].DropAt(t.Context(), ids[follower], crier.SystemPartition, ids[leader]); err == nil {
		t.Error("the system group's is deleted")
	}
	for i, n := range c.nodes {
		if n.Group(0) == nil || !c.stores[i].Has(0) {
			t.Errorf("node %d has lost its replica", i)
		}
	}
	if n, err := c.count(0, 0); err != nil || n != 1 {
		t.Errorf("then: %d, %v", n, err)
	}
}

// A step that was decided on another configuration changes nothing.
func TestALateStepChangesNothing(t *testing.T) {
	c := newTrio(t, 1)
	c.settle(3, 0, 1, 2)
	leader := c.leaderOf(0)
	id := c.configs[(leader+1)%3].NodeID
	index, _ := c.stores[leader].Configuration(0)
	for _, late := range []uint64{0, index + 1} {
		if err := c.nodes[leader].RemoveAt(t.Context(), c.configs[leader].NodeID, 0, id, late); err == nil {
			t.Errorf("a step of configuration %d is taken, the present one is %d", late, index)
		}
	}
	if now, servers := c.stores[leader].Configuration(0); now != index || len(servers.Servers) != 3 {
		t.Errorf("the configuration is %d with %v", now, servers.Servers)
	}
}

// A node that ended in the middle of forming the cluster begins the rest of its groups; one that had begun them all begins none again, whatever is missing: it
// has gone elsewhere.
func TestGroupsBeginOnce(t *testing.T) {
	s := clustertest.NewStorage()
	if err := s.SetMembers([]string{"node-1"}, true); err != nil {
		t.Fatal(err)
	}
	closeNode(t, open(t, config(2), s))
	if members, forming := s.Members(); len(members) != 1 || forming {
		t.Errorf("after the forming: %v, %t", members, forming)
	}
	if err := s.Drop(1); err != nil {
		t.Fatal(err)
	}
	s.Forget()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := cluster.Open(ctx, config(2), s, clustertest.Host{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, n)
	if n.Group(0) == nil || n.Group(crier.SystemPartition) == nil {
		t.Error("a group that the node has is not open")
	}
	if n.Group(1) != nil || s.Has(1) {
		t.Error("a group that has gone elsewhere begins again")
	}
}

// A replica that was opened and knows of no configuration yet votes for nobody: one that was here before, and was deleted, may have voted for another.
func TestAReplicaThatKnowsNothingDoesNotVote(t *testing.T) {
	s := clustertest.NewStorage()
	closeNode(t, open(t, config(2), s))
	if err := s.Drop(1); err != nil {
		t.Fatal(err)
	}
	s.Forget()
	n, err := cluster.Open(t.Context(), config(2), s, clustertest.Host{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, n)
	if err := n.OpenHere(t.Context(), 1); err != nil || n.Group(1) == nil {
		t.Fatalf("the group is not open: %v", err)
	}
	mux, err := transport.Open(transport.Config{
		Cluster: "crier", NodeID: "node-2", Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Resolve: func(string) (string, bool) { return n.Members()[0].RaftAddress, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := mux.Close(); err != nil {
			t.Error(err)
		}
	}()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("node-2"), Addr: []byte("node-2")}
	candidate := mux.Group(1)
	var pre raft.RequestPreVoteResponse
	err = transport.ErrLinkDown
	for deadline := time.Now().Add(patience); errors.Is(err, transport.ErrLinkDown); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the node can't be reached")
		}
		err = candidate.(raft.WithPreVote).RequestPreVote("node-1", "node-1", &raft.RequestPreVoteRequest{RPCHeader: header, Term: 9}, &pre)
	}
	if pre.Granted {
		t.Errorf("it would vote: %v", err)
	}
	var vote raft.RequestVoteResponse
	if err = candidate.RequestVote("node-1", "node-1", &raft.RequestVoteRequest{RPCHeader: header, Term: 9}, &vote); vote.Granted {
		t.Errorf("it votes: %v", err)
	}
}
