package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

var errBusyGroup = errors.New("the group is being opened or closed")

// firstConfigurations returns what the groups of a new cluster begin with. All of its nodes come to the same.
func firstConfigurations(members []string, groups []crier.PartitionID, replicas int) map[crier.PartitionID]raft.Configuration {
	held := make(map[crier.PartitionID][]string)
	for _, p := range groups {
		if p != crier.SystemPartition {
			held[p] = nil
		}
	}
	first := make(map[crier.PartitionID]raft.Configuration)
	for p, nodes := range spread(held, members, func(string) bool { return true }, replicas) {
		first[p] = configuration(nodes, len(nodes))
	}
	all := slices.Clone(members)
	slices.SortFunc(all, func(a, b string) int { return compareDraws(b, a, crier.SystemPartition) })
	first[crier.SystemPartition] = configuration(all, systemVoters)
	return first
}

// configuration is one of nodes of which the first vote. A raft address is a node id: the transport knows where it is.
func configuration(nodes []string, voters int) (c raft.Configuration) {
	for i, n := range nodes {
		s := raft.Server{ID: raft.ServerID(n), Address: raft.ServerAddress(n)}
		if i >= voters {
			s.Suffrage = raft.Nonvoter
		}
		c.Servers = append(c.Servers, s)
	}
	return c
}

// openGroups starts the groups of which this node has something, and those that it begins where it forms the cluster, several at a time.
func (n *Node) openGroups(ctx context.Context, forming bool) error {
	var first map[crier.PartitionID]raft.Configuration
	if forming {
		first = firstConfigurations(n.members, n.allGroups(), n.cfg.Replicas)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(startersAtOnce)
	for _, p := range n.allGroups() {
		begins := slices.ContainsFunc(first[p].Servers, func(s raft.Server) bool { return string(s.ID) == n.cfg.NodeID })
		has, err := hasState(n.storage, p)
		if err != nil {
			return fmt.Errorf("start group %s: %w", p, err)
		}
		if !has && !begins {
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return n.openGroup(p, first[p])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !forming {
		return nil
	}
	// From now on, a group of which there is nothing here has gone elsewhere.
	return n.storage.SetMembers(n.members, false)
}

// openGroup starts a group and watches who leads it. One that is open stays so.
func (n *Node) openGroup(p crier.PartitionID, first raft.Configuration) error {
	if !n.hold(p) {
		return errBusyGroup
	}
	defer n.release(p)
	return n.openHeld(p, first)
}

// openHeld is openGroup for who holds the group.
func (n *Node) openHeld(p crier.PartitionID, first raft.Configuration) error {
	if n.Group(p) != nil {
		return nil
	}
	g, err := openGroup(&n.cfg, p, first, n.mux.Group(p), n.storage, n.metrics)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.groups[p] = g
	n.mu.Unlock()
	n.metrics.replicas.Inc()
	n.watchers.Go(func() { n.watch(g) })
	return nil
}

// hold keeps others from opening or closing a group; false if somebody does.
func (n *Node) hold(p crier.PartitionID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[p] {
		return false
	}
	n.held[p] = true
	return true
}

func (n *Node) release(p crier.PartitionID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.held, p)
}

// dropGroup deletes what this node has of a group, once the group's leader has confirmed that this node does not belong to it. Nobody can add this node to
// the group meanwhile: that begins with opening it here.
func (n *Node) dropGroup(ctx context.Context, p crier.PartitionID, leader string) error {
	if !n.hold(p) {
		return errBusyGroup
	}
	defer n.release(p)
	g := n.Group(p)
	if g == nil || p == crier.SystemPartition || leader == n.cfg.NodeID {
		return fmt.Errorf("partition %s can't be deleted here", p)
	}
	if err := n.confirmedOut(ctx, p, leader); err != nil {
		return err
	}
	if err := n.shut(g); err != nil {
		return err
	}
	if err := n.storage.Drop(p); err != nil {
		return err
	}
	n.log.Info("a replica has moved to another node, and is deleted here", "partition", p.String())
	return nil
}

// confirmedOut returns nil once the leader of a group has confirmed that this node does not belong to it.
func (n *Node) confirmedOut(ctx context.Context, p crier.PartitionID, leader string) error {
	return n.stepAt(ctx, leader, &clusterv1.Step{Kind: clusterv1.StepKind_STEP_KIND_CONFIRM_OUT, Partition: uint32(p), Node: n.cfg.NodeID})
}

// shut closes a group here. The caller holds it.
func (n *Node) shut(g *Group) error {
	close(g.dropped)
	<-g.watched
	n.mu.Lock()
	delete(n.groups, g.id)
	n.mu.Unlock()
	n.metrics.replicas.Dec()
	return g.close()
}

// Group returns this node's replica of a group, nil where it has none.
func (n *Node) Group(p crier.PartitionID) *Group {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.groups[p]
}

// open returns the groups that are open here.
func (n *Node) open() (all []*Group) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, g := range n.groups {
		all = append(all, g)
	}
	return all
}

// handOver has other nodes lead what this one does, before it ends.
func (n *Node) handOver() {
	var wg sync.WaitGroup
	for _, g := range n.open() {
		wg.Go(g.handOver)
	}
	wg.Wait()
}

// closeGroups closes all groups, side by side.
func (n *Node) closeGroups() error {
	group := new(errgroup.Group)
	for _, g := range n.open() {
		group.Go(g.close)
	}
	return group.Wait()
}
