package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
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
	// pushPullEvery is how often two nodes compare all that they know: what gossip has not brought, comes then.
	pushPullEvery = 10 * time.Second
	// reclaimAfter is how long a node must have been dead before it may come back at another address: memberlist by itself refuses it until it has forgotten the one before, after 30 s.
	reclaimAfter = time.Second
	// leaveTimeout bounds how long a leaving node waits for the news to spread.
	leaveTimeout = time.Second
	// refusalEvery is how often at most a warning about strangers is repeated.
	refusalEvery = time.Minute
)

var (
	errOtherCluster    = errors.New("it belongs to a cluster that other nodes have formed")
	errOtherPartitions = errors.New("it has another number of partitions: cluster.partitions must be the same on all nodes")
	errOtherKey        = errors.New("it has another gossip key, or only one of the two nodes has one: cluster.gossip_key must be the same on all nodes")
	errHungUp          = errors.New("it hangs up, as nodes do on those of another cluster.name or cluster.gossip_key")
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
	log     *slog.Logger

	mu       sync.RWMutex
	members  map[string]Member
	gone     map[string]string    // addresses of those that were there, by node
	refusals map[string]time.Time // of nodes of other clusters: when they were last told of
}

// openGossip starts gossiping, alone at first.
func openGossip(cfg *Config, table *routingTable, self *clusterv1.NodeMeta, changed func([]Member)) (*gossip, error) {
	g := &gossip{
		table: table, self: self, changed: changed, log: cfg.Logger.With("component", "gossip"),
		members: make(map[string]Member), gone: make(map[string]string), refusals: make(map[string]time.Time),
	}
	g.queue = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: 3}
	host, port, err := net.SplitHostPort(cfg.GossipListen)
	if err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name = cfg.NodeID
	mc.AdvertiseAddr, err = addressOf(cfg.Advertise)
	if err != nil {
		return nil, fmt.Errorf("advertised address: %w", err)
	}
	if mc.BindAddr, err = addressOf(cmp.Or(host, "0.0.0.0")); err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	if mc.BindPort, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	mc.AdvertisePort = mc.BindPort
	mc.Delegate, mc.Events, mc.Alive, mc.Merge, mc.SecretKey, mc.Label = g, g, g, g, cfg.GossipKey, cfg.Name
	mc.UDPBufferSize, mc.PushPullInterval, mc.DeadNodeReclaimTime = gossipBuffer, pushPullEvery, reclaimAfter
	mc.Logger = log.New(&gossipWriter{lineWriter: lineWriter{g.log}}, "", 0)
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("listen for gossip on %s: %w", cfg.GossipListen, err)
	}
	return g, nil
}

// join tries to find other nodes. The error says why those did not answer that did not: one that finds only itself among the addresses has found nobody.
func (g *gossip) join(addresses []string) error {
	var errs []error
	for _, a := range addresses {
		if _, err := g.list.Join([]string{a}); err != nil {
			errs = append(errs, joinError(err))
		}
	}
	return errors.Join(errs...)
}

// addressOf returns the IP address of a host: memberlist takes no names. "" stays as it is.
func addressOf(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	ip, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", err
	}
	return ip.String(), nil
}

func (g *gossip) count() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.members)
}

// announce tells the cluster of a leader that this node has seen elected, or
// step down.
func (g *gossip) announce(p crier.PartitionID, l leader) {
	if g.table.merge(p, l) {
		g.tell(p, l)
	}
}

// tell spreads news.
func (g *gossip) tell(p crier.PartitionID, l leader) {
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

// formed tells others which nodes formed the cluster. It does not wait until they know: memberlist sends the news several times, once a tick, and takes the longer
// the more nodes there are and the more there is to say. That it takes longer than it may wait is its only error.
func (g *gossip) formed(members []string) {
	g.mu.Lock()
	g.self.Formed = members
	g.mu.Unlock()
	_ = g.list.UpdateNode(time.Nanosecond)
}

// NotifyMsg is memberlist's. Who hears news tells them too: memberlist sends a message a few times, to nodes that it draws, and some may
// be left out.
func (g *gossip) NotifyMsg(message []byte) {
	for p, l := range g.table.decode(message) {
		g.tell(p, l)
	}
}

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

// NotifyAlive is memberlist's: what it refuses does not become a member.
func (g *gossip) NotifyAlive(n *memberlist.Node) error {
	var meta clusterv1.NodeMeta
	if proto.Unmarshal(n.Meta, &meta) != nil {
		return nil // update does not take it
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.stranger(&meta)
	if now := time.Now(); err != nil && now.Sub(g.refusals[n.Name]) >= refusalEvery {
		g.refusals[n.Name] = now
		g.log.Warn("a node is turned away", "member", n.Name, "address", n.Address(), "err", err)
	}
	return err
}

// stranger returns why a node can't belong to the same cluster, nil if it can. The caller holds mu.
func (g *gossip) stranger(meta *clusterv1.NodeMeta) error {
	mine := g.self.GetFormed()
	switch {
	case meta.GetPartitions() != g.self.GetPartitions() && meta.GetPartitions() != 0: // 0: of a version that did not tell
		return errOtherPartitions
	case len(meta.GetFormed()) > 0 && len(mine) > 0 && !slices.Equal(meta.GetFormed(), mine):
		return errOtherCluster
	}
	return nil
}

// NotifyMerge is memberlist's: what it refuses is not talked to.
func (g *gossip) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if err := g.NotifyAlive(n); err != nil {
			return err
		}
	}
	return nil
}

// lost returns the addresses of nodes that were there and are not, but of those that are not to come back.
func (g *gossip) lost(nodes []crier.Node) (addresses []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range nodes {
		if n.State.Gone() {
			delete(g.gone, n.ID)
		}
	}
	for _, address := range g.gone {
		addresses = append(addresses, address)
	}
	return addresses
}

// NotifyLeave is memberlist's.
func (g *gossip) NotifyLeave(n *memberlist.Node) {
	g.mu.Lock()
	delete(g.members, n.Name)
	g.gone[n.Name] = n.Address()
	g.mu.Unlock()
	g.changed(g.all())
}

func (g *gossip) update(n *memberlist.Node) {
	var meta clusterv1.NodeMeta
	if proto.Unmarshal(n.Meta, &meta) != nil {
		return // not a node of a version that we can talk to
	}
	g.mu.Lock()
	delete(g.gone, n.Name)
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

// close leaves, and ends gossip. Where the news are not sent in time, the others find out by themselves.
func (g *gossip) close() error {
	if err := g.list.Leave(leaveTimeout); err != nil {
		g.log.Warn("the others may not know that this node leaves", "err", err)
	}
	return g.list.Shutdown()
}
