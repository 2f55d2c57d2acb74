package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// joinEvery is how often a node that knows of no other, or is not a member yet, tries those that it is to join.
	joinEvery = time.Second
	// rejoinEvery is how often a node tries those that it has lost from sight: after a network was cut, neither side looks for the other by itself.
	rejoinEvery = 5 * time.Second
	// formEvery is how often a node that waits for the others looks who is there.
	formEvery = 50 * time.Millisecond
)

// join finds the other nodes, and finds them again after they have been lost from sight. A node that is no member yet goes on after it has found some: those
// may wait, as it does, for nodes that only this one is told of.
func (n *Node) join() {
	told := make(map[error]bool) // by cause: who waits for others to start may find then that they turn it away
	tick := time.NewTicker(joinEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		addresses := n.cfg.Join
		if len(n.gossip.all()) > 1 && n.isMember() {
			if addresses = nil; time.Since(last) >= rejoinEvery {
				last, addresses = time.Now(), n.gossip.lost(n.storage.Nodes())
			}
		}
		if len(addresses) > 0 {
			err := n.gossip.join(addresses)
			if cause := joinCause(err); err != nil && len(n.gossip.all()) == 1 && !told[cause] {
				told[cause] = true
				n.log.Warn("no other node answers yet", "join", addresses, "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-n.stop:
			return
		}
	}
}

// form finds out to which cluster the node belongs, and keeps it. A new cluster is formed by as many nodes as are expected: all of them come to the same
// list, by themselves or from the first that has one. To a cluster that others have formed, the node comes as a new one: its coordinator sees it in
// gossip, makes it a member, and gives it replicas. It reports whether this node is one of those that form the cluster and begins its groups.
func (n *Node) form(ctx context.Context) (forming bool, err error) {
	if n.members, forming = n.storage.Members(); len(n.members) > 0 {
		return forming, nil // long since
	}
	if len(n.cfg.Join) == 0 && n.cfg.Expect == 1 {
		n.members = []string{n.cfg.NodeID}
	}
	for len(n.members) == 0 {
		if n.members, err = n.formers(); err != nil {
			return false, err
		}
		if len(n.members) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("%d nodes are there: %w", len(n.gossip.all()), ctx.Err())
		case <-time.After(formEvery):
		}
	}
	forming = slices.Contains(n.members, n.cfg.NodeID)
	if err := n.storage.SetMembers(n.members, forming); err != nil {
		return false, fmt.Errorf("keep who forms the cluster: %w", err)
	}
	if forming {
		n.log.Info("the cluster is formed", "members", len(n.members))
	} else {
		n.log.Info("this node joins a cluster that others have formed")
	}
	n.gossip.formed(n.members)
	return forming, nil
}

// formers returns the nodes that form the cluster, or have formed it; none while they are not all there.
func (n *Node) formers() ([]string, error) {
	var fresh []string
	for _, m := range n.gossip.all() {
		if len(m.Formed) > 0 {
			return m.Formed, nil
		}
		fresh = append(fresh, m.NodeID)
	}
	switch {
	case n.cfg.Expect == 1: // it comes to join, and waits for the others
		return nil, nil
	case len(fresh) < n.cfg.Expect:
		return nil, nil
	case len(fresh) > n.cfg.Expect:
		return nil, fmt.Errorf("%d nodes want to form a cluster of %d: start the others once it is formed", len(fresh), n.cfg.Expect)
	}
	slices.Sort(fresh)
	return fresh, nil
}
