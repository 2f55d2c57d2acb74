package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// changeTimeout bounds how long a change of a group's configuration may wait to be taken. From then on it takes as long as its commit does,
// or until leadership is lost.
const changeTimeout = 2 * time.Second

var errBadStep = errors.New("a step that this node does not know: is it older?")

// report is what the node tells of its replica.
func (g *Group) report() *clusterv1.Replica {
	r := &clusterv1.Replica{Partition: uint32(g.id), Leads: g.IsLeader(), Applied: g.raft.AppliedIndex(), Term: g.Term()}
	if !r.GetLeads() {
		return r
	}
	r.Last = g.raft.LastIndex()
	index, committed := g.storage.Configuration(g.id)
	latest := g.raft.GetConfiguration().Configuration()
	if sameServers(committed, latest) { // else a change is under way
		r.ConfigurationIndex = index
	}
	for _, s := range latest.Servers {
		r.Servers = append(r.Servers, &clusterv1.Server{Node: string(s.ID), Votes: s.Suffrage == raft.Voter})
	}
	return r
}

func sameServers(a, b raft.Configuration) bool {
	if len(a.Servers) != len(b.Servers) {
		return false
	}
	for i, s := range a.Servers {
		if s != b.Servers[i] {
			return false
		}
	}
	return true
}

// change takes a step of a group that this node leads. Raft refuses it where the configuration is another than that of the index. It blocks until
// it is committed.
func (g *Group) change(s *clusterv1.Step) error {
	id, address, index := raft.ServerID(s.GetNode()), raft.ServerAddress(s.GetNode()), s.GetConfigurationIndex()
	if index == 0 {
		return errors.New("a change of an unknown configuration")
	}
	var f raft.Future
	switch s.GetKind() {
	case clusterv1.StepKind_STEP_KIND_ADD:
		f = g.raft.AddNonvoter(id, address, index, changeTimeout)
	case clusterv1.StepKind_STEP_KIND_PROMOTE:
		f = g.raft.AddVoter(id, address, index, changeTimeout)
	case clusterv1.StepKind_STEP_KIND_DEMOTE:
		f = g.raft.DemoteVoter(id, index, changeTimeout)
	case clusterv1.StepKind_STEP_KIND_REMOVE:
		f = g.raft.RemoveServer(id, index, changeTimeout)
	case clusterv1.StepKind_STEP_KIND_HAND_OVER:
		f = g.raft.LeadershipTransferToServer(id, address)
	default:
		return errBadStep
	}
	return f.Error()
}

// handOver has another node lead the group, if this one does and there is another that votes. It blocks until that is so, or has failed: two
// election timeouts at most.
func (g *Group) handOver() {
	others := slices.ContainsFunc(g.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && s.Address != g.transport.LocalAddr()
	})
	if g.IsLeader() && others {
		_ = g.raft.LeadershipTransfer().Error() // then the others elect one, as if this node had died
	}
}

// confirmOut returns nil if the node is in no configuration of the group, as its leader knows for certain.
func (g *Group) confirmOut(node string) error {
	if err := g.Barrier(changeTimeout); err != nil {
		return err
	}
	index, committed := g.storage.Configuration(g.id)
	latest := g.raft.GetConfiguration().Configuration()
	if index == 0 || !sameServers(committed, latest) {
		return errors.New("the configuration is changing")
	}
	for _, s := range latest.Servers {
		if string(s.ID) == node {
			return fmt.Errorf("node %s belongs to partition %s", node, g.id)
		}
	}
	return nil
}
