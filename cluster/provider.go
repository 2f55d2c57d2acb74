package cluster

import (
	"cmp"
	"net"
	"strconv"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/cluster"

	"github.com/crier-im/crier"
)

// kinds are the virtual actors of every node.
var kinds = []string{crier.KindPartition, crier.KindUser, crier.KindApp, crier.KindCampaign}

// provider feeds protoactor's member list from gossip. It implements
// cluster.ClusterProvider.
type provider struct {
	mu      sync.Mutex
	list    *cluster.MemberList
	ids     map[string]string // of the members that protoactor was told of, by the address of their actors
	started chan struct{}     // closed once protoactor listens
}

// StartMember is protoactor's: it comes when the actor system listens.
func (p *provider) StartMember(c *cluster.Cluster) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = c.MemberList
	close(p.started)
	return nil
}

// StartClient is protoactor's; every node of Crier is a member.
func (p *provider) StartClient(*cluster.Cluster) error { return errNoClients }

// Shutdown is protoactor's; gossip is left by its owner.
func (p *provider) Shutdown(bool) error { return nil }

// update tells protoactor who is there.
func (p *provider) update(members []Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list == nil {
		return
	}
	p.list.UpdateClusterTopology(p.members(members))
}

// members returns the members as protoactor knows them. For protoactor a new id is another member: it ends the connection to the address of
// the old one, and with it what was on its way to the new. The connection to a node that came back before its death was noticed
// has broken by itself, and the node keeps its id. One that was gone gets a new one: protoactor blocks the old.
func (p *provider) members(members []Member) (all cluster.Members) {
	ids := make(map[string]string, len(members))
	for _, m := range members {
		host, port, err := net.SplitHostPort(m.ActorAddress)
		number, errPort := strconv.ParseInt(port, 10, 32)
		if err != nil || errPort != nil {
			continue
		}
		id := cmp.Or(p.ids[m.ActorAddress], m.ActorSystem)
		ids[m.ActorAddress] = id
		all = append(all, &cluster.Member{Host: host, Port: int32(number), Id: id, Kinds: kinds})
	}
	p.ids = ids
	return all
}

// lookup finds a virtual actor: placement is leadership, so there is nothing to
// ask but the routing table. The actor of the partition is the router of everything that
// lives in it. It implements cluster.IdentityLookup.
type lookup struct{ node *Node }

// Get returns the actor of the identity's partition on its leader, nil if no
// leader is known or the identity is none. It does not block.
func (l lookup) Get(id *cluster.ClusterIdentity) *actor.PID {
	p, ok := crier.PartitionOfIdentity(id.GetKind(), id.GetIdentity(), l.node.cfg.Partitions)
	if !ok {
		return nil
	}
	_, pid := l.node.route(p)
	return pid
}

// RemovePid is protoactor's; nothing is cached.
func (l lookup) RemovePid(*cluster.ClusterIdentity, *actor.PID) {}

// Setup is protoactor's.
func (l lookup) Setup(*cluster.Cluster, []string, bool) {}

// Shutdown is protoactor's.
func (l lookup) Shutdown() {}
