package cluster

import (
	"fmt"
	"log"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

const (
	// gossipBuffer is the size of a gossip packet.
	gossipBuffer = 1400
	// leaveTimeout bounds how long a leaving node waits for the news to spread.
	leaveTimeout = time.Second
	// updateTimeout bounds how long news about the node itself wait to be sent.
	updateTimeout = time.Second
)

// Member is one node of the cluster, as gossip knows it.
type Member struct {
	NodeID       string
	Address      string // of gossip
	ActorAddress string
	ActorSystem  string
	RaftAddress  string
	Formed       []string // the nodes that formed its cluster; none: it waits for them
}

// gossip is the node's part in memberlist: who is there, and who leads what.
type gossip struct {
	table   *routingTable
	self    *clusterv1.NodeMeta
	changed func([]Member) // called with all members when they change
	list    *memberlist.Memberlist
	queue   *memberlist.TransmitLimitedQueue

	mu      sync.RWMutex
	members map[string]Member
}

// openGossip starts gossiping, alone at first.
func openGossip(cfg *Config, table *routingTable, self *clusterv1.NodeMeta, changed func([]Member)) (*gossip, error) {
	g := &gossip{table: table, self: self, changed: changed, members: make(map[string]Member)}
	g.queue = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: 3}
	host, port, err := net.SplitHostPort(cfg.GossipListen)
	if err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name = cfg.NodeID
	mc.BindAddr = host
	if mc.BindPort, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	mc.AdvertisePort = mc.BindPort
	mc.Delegate, mc.Events, mc.SecretKey, mc.Label = g, g, cfg.GossipKey, cfg.Name
	mc.UDPBufferSize = gossipBuffer
	mc.Logger = log.New(lineWriter{cfg.Logger.With("component", "gossip")}, "", 0)
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("listen for gossip on %s: %w", cfg.GossipListen, err)
	}
	return g, nil
}

func (g *gossip) count() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.members)
}

// announce tells the cluster of a leader that this node has seen elected, or
// step down.
func (g *gossip) announce(p crier.PartitionID, l leader) {
	if !g.table.merge(p, l) {
		return
	}
	news := &clusterv1.Leaders{Leaders: []*clusterv1.Leader{{Partition: uint32(p), Term: l.term, Node: l.node}}}
	g.queue.QueueBroadcast(&leaderNews{p, encode(news)})
}

// leaderNews is a broadcast; one about the same group makes an older one void.
type leaderNews struct {
	partition crier.PartitionID
	message   []byte
}

// Invalidates is memberlist's.
func (n *leaderNews) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*leaderNews)
	return ok && o.partition == n.partition
}

// Message is memberlist's.
func (n *leaderNews) Message() []byte { return n.message }

// Finished is memberlist's.
func (n *leaderNews) Finished() {}

// NodeMeta is memberlist's.
func (g *gossip) NodeMeta(limit int) []byte {
	g.mu.RLock()
	defer g.mu.RUnlock()
	meta := encode(g.self)
	if len(meta) > limit {
		panic("cluster: the node's meta data is over memberlist's limit") // expectMost bounds it
	}
	return meta
}

// formed tells others which nodes formed the cluster.
func (g *gossip) formed(members []string) error {
	g.mu.Lock()
	g.self.Formed = members
	g.mu.Unlock()
	return g.list.UpdateNode(updateTimeout)
}

// NotifyMsg is memberlist's.
func (g *gossip) NotifyMsg(message []byte) { g.table.decode(message) }

// GetBroadcasts is memberlist's.
func (g *gossip) GetBroadcasts(overhead, limit int) [][]byte {
	return g.queue.GetBroadcasts(overhead, limit)
}

// LocalState is memberlist's.
func (g *gossip) LocalState(bool) []byte { return g.table.encode() }

// MergeRemoteState is memberlist's.
func (g *gossip) MergeRemoteState(state []byte, _ bool) { g.table.decode(state) }

// NotifyJoin is memberlist's.
func (g *gossip) NotifyJoin(n *memberlist.Node) { g.update(n) }

// NotifyUpdate is memberlist's.
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.update(n) }

// NotifyLeave is memberlist's.
func (g *gossip) NotifyLeave(n *memberlist.Node) {
	g.mu.Lock()
	delete(g.members, n.Name)
	g.mu.Unlock()
	g.changed(g.all())
}

func (g *gossip) update(n *memberlist.Node) {
	var meta clusterv1.NodeMeta
	if proto.Unmarshal(n.Meta, &meta) != nil {
		return // not a node of a version that we can talk to
	}
	g.mu.Lock()
	g.members[n.Name] = Member{
		NodeID: n.Name, Address: n.Address(), ActorAddress: meta.GetActorAddress(), ActorSystem: meta.GetActorSystem(),
		RaftAddress: meta.GetRaftAddress(), Formed: meta.GetFormed(),
	}
	g.mu.Unlock()
	g.changed(g.all())
}

func (g *gossip) all() []Member {
	g.mu.RLock()
	defer g.mu.RUnlock()
	members := make([]Member, 0, len(g.members))
	for _, m := range g.members {
		members = append(members, m)
	}
	return members
}

// member returns a node that gossip believes alive.
func (g *gossip) member(node string) (Member, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	m, ok := g.members[node]
	return m, ok
}

func (g *gossip) close() error {
	if err := g.list.Leave(leaveTimeout); err != nil {
		return err
	}
	return g.list.Shutdown()
}
