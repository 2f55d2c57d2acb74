package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// joinEvery is how often a node that knows of no other tries those that it is to join.
	joinEvery = time.Second
	// formEvery is how often a node that waits for the others looks who is there.
	formEvery = 50 * time.Millisecond
)

// errNotExpected is the error of a node that came to a cluster which others have formed.
var errNotExpected = errors.New("the cluster was formed by other nodes; a node can't be added to it yet")

// join finds the other nodes, and finds them again after all have been lost from sight.
func (n *Node) join() {
	if len(n.cfg.Join) == 0 {
		return
	}
	told := false
	for tick := time.NewTicker(joinEvery); ; {
		if len(n.gossip.all()) == 1 {
			if _, err := n.gossip.list.Join(n.cfg.Join); err != nil && !told {
				told = true
				n.log.Warn("no other node answers yet", "join", n.cfg.Join, "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-n.stop:
			tick.Stop()
			return
		}
	}
}

// form waits until the nodes that are to form the cluster are there, and keeps who they are. All of them come to the same list: by
// themselves, from as many as are expected, or from the first that has one.
func (n *Node) form(ctx context.Context, s Storage) error {
	if len(s.Members()) > 0 {
		return nil // long since
	}
	for len(n.members) == 0 {
		members, err := n.formers()
		if err != nil {
			return err
		}
		if n.members = members; len(members) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d nodes are there: %w", len(n.gossip.all()), n.cfg.Expect, ctx.Err())
		case <-time.After(formEvery):
		}
	}
	if err := s.SetMembers(n.members); err != nil {
		return fmt.Errorf("keep who forms the cluster: %w", err)
	}
	n.log.Info("the cluster is formed", "members", len(n.members))
	return n.gossip.formed(n.members)
}

// formers returns the nodes that form the cluster, none while they are not all there.
func (n *Node) formers() ([]string, error) {
	var fresh []string
	for _, m := range n.gossip.all() {
		switch {
		case len(m.Formed) == 0:
			fresh = append(fresh, m.NodeID)
		case slices.Contains(m.Formed, n.cfg.NodeID):
			return m.Formed, nil
		default:
			return nil, errNotExpected
		}
	}
	switch {
	case len(fresh) < n.cfg.Expect:
		return nil, nil
	case len(fresh) > n.cfg.Expect:
		return nil, fmt.Errorf("%d nodes want to form a cluster of %d: start the others when nodes can be added", len(fresh), n.cfg.Expect)
	}
	slices.Sort(fresh)
	return fresh, nil
}
