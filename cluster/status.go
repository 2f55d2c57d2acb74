package cluster

import (
	"slices"
	"time"

	"github.com/crier-im/crier"
)

// current returns what the last pass has seen and decided.
func (r *reconciler) current() *crier.ClusterStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &crier.ClusterStatus{Coordinator: r.node.cfg.NodeID, Waiting: "the first look at the nodes"}
	s.Restoring = r.node.storage.Restoring() != 0
	if r.view == nil {
		return s
	}
	s.Waiting, s.Moving, s.Age = r.plan.waiting, r.plan.moving, 1+time.Since(r.view.began).Milliseconds()
	if s.Restoring {
		s.Waiting = errRestoring.Error()
	}
	s.Settled = s.Waiting == ""
	steps := make(map[crier.PartitionID][]string)
	for _, step := range r.plan.steps {
		steps[step.group] = append(steps[step.group], step.String())
	}
	held, leads := make(map[string]int), make(map[string]int)
	for _, p := range r.node.allGroups() {
		g := r.view.groups[p]
		status := crier.PartitionStatus{Partition: p.String(), Leader: g.leader, Steps: steps[p], Replicas: []crier.ReplicaStatus{}}
		for _, n := range slices.Sorted(slices.Values(g.holders())) {
			applied, open := g.open[n]
			replica := crier.ReplicaStatus{Node: n, Votes: slices.Contains(g.voters, n), Alive: open, Lag: g.last - min(g.last, applied), Stuck: slices.Contains(g.stuck, n)}
			status.Replicas = append(status.Replicas, replica)
			if p != crier.SystemPartition {
				held[n]++
			}
		}
		if p != crier.SystemPartition {
			leads[g.leader]++
		}
		s.Partitions = append(s.Partitions, status)
	}
	for _, n := range r.node.storage.Nodes() {
		status := crier.NodeStatus{Node: n, Version: r.versions[n.ID], Replicas: held[n.ID], Leads: leads[n.ID]}
		if at := r.view.nodes[n.ID]; at != nil && at.alive {
			status.Alive, status.Full = true, at.full
		} else if !n.State.Gone() {
			status.Away = int64(time.Since(r.lastSeen(n.ID)) / time.Second)
		}
		if m, ok := r.node.gossip.member(n.ID); ok {
			status.Address = m.Address
		}
		s.Nodes = append(s.Nodes, status)
	}
	return s
}
