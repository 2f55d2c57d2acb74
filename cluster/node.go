package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/remote"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

const (
	// barrierTimeout bounds how long a new leader may take to apply what was committed before it.
	barrierTimeout = time.Minute
	// startersAtOnce is how many groups start at a time: a start is a few synced writes.
	startersAtOnce = 16
	// packetMost bounds what actors of different nodes send one another at a time, in bytes: a batch of protoactor counts as one, and
	// over gRPC's 4 MB it would be lost without a word.
	packetMost = 64 << 20
	// neverGossip is protoactor's gossip interval.
	neverGossip = 24 * 365 * time.Hour
	// endpointQueue is protoactor's queue to another node; its default allocates 16 MB each.
	endpointQueue = 4096
	// dialPause is how long a node's actors wait before they try again to reach another's, and dialTimeout until what waits for it is dropped.
	dialPause   = 50 * time.Millisecond
	dialTimeout = 8 * time.Second
)

var errRestoring = errors.New("a restore has begun and not ended: end it, or begin another")

var errNoClients = errors.New("every node of Crier is a member")

// Node is this node's part of the cluster. Safe for concurrent use.
type Node struct {
	cfg      Config
	log      *slog.Logger
	host     Host
	metrics  *metrics
	system   *actor.ActorSystem
	cluster  *cluster.Cluster
	provider *provider
	table    *routingTable
	gossip   *gossip
	mux      *transport.Mux
	storage  Storage
	control  *actor.PID
	members  []string // that formed the cluster
	watchers sync.WaitGroup
	asking   sync.WaitGroup // questions to control actors that wait for an answer
	links    *links
	cuts     cuts
	installs installations
	// recovering is held while this node recovers partitions of the cluster.
	recovering sync.Mutex
	stop       chan struct{}
	began      time.Time

	gossiping chan struct{} // closed once gossip is there
	belongs   chan struct{} // closed once the groups that the node begins with are open
	leaving   sync.Once
	left      chan struct{} // closed once the node has left the cluster for ever
	leftErr   error

	mu         sync.RWMutex
	groups     map[crier.PartitionID]*Group
	held       map[crier.PartitionID]bool        // groups that are being opened or deleted
	parked     map[crier.PartitionID]*time.Timer // groups that are held closed for a recovery, and until when
	local      map[crier.PartitionID]*actor.PID  // actors of the groups that this node leads
	terms      map[crier.PartitionID]uint64      // in which it leads them
	reconciler *reconciler                       // nil where this node does not lead the system group
}

// Open starts a node: the actor system, gossip, and every raft group. It returns when all have started;
// WaitForReady tells when they are led. Errors say which part failed.
func Open(ctx context.Context, cfg Config, s Storage, host Host) (*Node, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cluster configuration: %w", err)
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger.With("component", "cluster"), host: host, metrics: newMetrics(cfg.Registerer),
		table: newRoutingTable(), storage: s, links: newLinks(), stop: make(chan struct{}), began: time.Now(), gossiping: make(chan struct{}), belongs: make(chan struct{}),
		left: make(chan struct{}), groups: make(map[crier.PartitionID]*Group), held: make(map[crier.PartitionID]bool),
		local: make(map[crier.PartitionID]*actor.PID), terms: make(map[crier.PartitionID]uint64),
		parked: make(map[crier.PartitionID]*time.Timer), installs: installations{of: make(map[crier.PartitionID]*installation), busy: make(map[crier.PartitionID]*sync.Mutex)},
	}
	if err := n.begin(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) begin(ctx context.Context) error {
	if err := n.openActors(); err != nil {
		return err
	}
	if err := n.openTransport(); err != nil {
		return err
	}
	formed, _ := n.storage.Members()
	self := &clusterv1.NodeMeta{ActorAddress: n.system.Address(), ActorSystem: n.system.ID, RaftAddress: n.cfg.reached(n.mux.Addr()), Formed: formed, Partitions: uint32(n.cfg.Partitions)}
	var err error
	if n.gossip, err = openGossip(&n.cfg, n.table, self, n.provider.update); err != nil {
		return err
	}
	close(n.gossiping)
	n.watchers.Go(n.join)
	forming, err := n.form(ctx)
	if err != nil {
		return err
	}
	if err := n.openGroups(ctx, forming); err != nil {
		return err
	}
	close(n.belongs)
	return nil
}

// openTransport listens for the raft groups of other nodes.
func (n *Node) openTransport() (err error) {
	n.mux, err = transport.Open(transport.Config{
		Cluster: n.cfg.Name, NodeID: n.cfg.NodeID, Listen: n.cfg.RaftListen, TLS: n.cfg.TLS, Dial: n.cfg.Dial,
		HeartbeatTimeout: n.cfg.HeartbeatTimeout, SnapshotRate: n.cfg.SnapshotRate, Resolve: n.raftAddress, Refused: n.standIn, Silent: n.lookForLeaders, Elected: n.elected, Votes: n.votes, Registerer: n.cfg.Registerer, Logger: n.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("listen for raft: %w", err)
	}
	return nil
}

// raftAddress is where a node listens for raft, as far as gossip knows.
func (n *Node) raftAddress(node string) (string, bool) {
	select {
	case <-n.gossiping:
	default:
		return "", false
	}
	m, ok := n.gossip.member(node)
	return m.RaftAddress, ok && m.RaftAddress != ""
}

// openActors starts the actor system and protoactor's cluster on it.
func (n *Node) openActors() error {
	host, text, err := net.SplitHostPort(n.cfg.ActorListen)
	if err != nil {
		return fmt.Errorf("actor address: %w", err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("actor address: %w", err)
	}
	if strings.Contains(host, ":") { // protoactor puts the port behind it as it is
		host = "[" + host + "]"
	}
	n.system = newSystem(n.cfg.Logger)
	n.system.EventStream.Subscribe(n.links.onEvent)
	n.provider = &provider{started: make(chan struct{})}
	rc := remote.Configure(host, port, remote.WithEndpointWriterQueueSize(endpointQueue),
		remote.WithServerOptions(n.serverOptions()...), remote.WithDialOptions(n.dialOptions()...))
	rc.MaxRetryCount = 1 // dial tries again by itself
	if n.cfg.Advertise != "" {
		rc.AdvertisedHost = n.cfg.reached(n.cfg.ActorListen)
	}
	pc := cluster.Configure(n.cfg.Name, n.provider, lookup{n}, rc)
	// memberlist gossips. protoactor's own tells nothing more, has data races between its actor and its connections, and
	// locks a node out for ever that it has not heard of for 20 s.
	pc.GossipInterval, pc.HeartbeatExpiration = neverGossip, 0
	n.cluster = cluster.New(n.system, pc)
	if _, err := n.system.Root.SpawnNamed(actor.PropsFromProducer(func() actor.Actor { return &relay{n} }), relayName); err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	if n.control, err = n.system.Root.SpawnNamed(actor.PropsFromProducer(func() actor.Actor { return newControl(n) }), controlName(n.cfg.NodeID)); err != nil {
		return fmt.Errorf("start the control actor: %w", err)
	}
	failed := make(chan error, 1)
	n.watchers.Go(func() {
		defer func() {
			p := recover()
			err, ok := p.(error)
			switch {
			case p == nil:
			case ok && strings.HasPrefix(err.Error(), "failed to listen"): // protoactor panics; to try before would let others connect to what ends at once
				failed <- fmt.Errorf("listen for actors: %w", err)
			default:
				panic(p)
			}
		}()
		n.cluster.StartMember() // sleeps a second after it has started
	})
	select {
	case <-n.provider.started:
		return nil
	case err := <-failed:
		n.cluster = nil // nothing of it has started
		return err
	}
}

// newSystem makes the actor system of one life of a node. A process id is of that life only: protoactor numbers them from 1 in each, and
// what another node still has for a connection of the life before must not come to whoever has its number now.
func newSystem(log *slog.Logger) *actor.ActorSystem {
	logger := slog.New(quietHandler{log.With("component", "protoactor").Handler()})
	system := actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger })))
	system.ProcessRegistry.SequenceID = rand.Uint64N(1 << 60)
	return system
}

// doorkeeper turns away who has no certificate of the CA for the name that the nodes share, and says so in the log.
type doorkeeper struct {
	credentials.TransportCredentials
	log  *slog.Logger
	tell *rate.Sometimes
}

// ServerHandshake is credentials.TransportCredentials's.
func (d doorkeeper) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := d.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) { // it has connected, and said nothing
		d.tell.Do(func() {
			d.log.Warn("a connection to the actors was turned away", "from", conn.RemoteAddr().String(), "err", err)
		})
	}
	return secure, info, err
}

// serverOptions are those of the actors' listener: with TLS, only nodes get in.
func (n *Node) serverOptions() []grpc.ServerOption {
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(packetMost), grpc.StatsHandler(&n.metrics.traffic)}
	if n.cfg.TLS != nil {
		server := n.cfg.TLS.Clone()
		server.ClientAuth = tls.RequireAndVerifyClientCert
		server.VerifyConnection = func(s tls.ConnectionState) error {
			return s.PeerCertificates[0].VerifyHostname(server.ServerName)
		}
		options = append(options, grpc.Creds(doorkeeper{credentials.NewTLS(server), n.log, &rate.Sometimes{First: 1, Interval: time.Minute}}))
	}
	return options
}

// dialOptions are those of connections to the actors of other nodes.
func (n *Node) dialOptions() []grpc.DialOption {
	secure := insecure.NewCredentials()
	if n.cfg.TLS != nil {
		secure = credentials.NewTLS(n.cfg.TLS.Clone())
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(secure), grpc.WithContextDialer(n.dial), grpc.WithStatsHandler(&n.metrics.traffic),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(packetMost), grpc.MaxCallSendMsgSize(packetMost)),
	}
}

// dial connects to the actors of another node as soon as it is there. protoactor sleeps for 2 s after each attempt that fails, and keeps back
// what a node that has just come back asked for.
func (n *Node) dial(ctx context.Context, address string) (net.Conn, error) {
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return c, nil
		}
		select {
		case <-time.After(dialPause):
		case <-n.stop:
			return nil, errClosing
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (n *Node) allGroups() []crier.PartitionID {
	all := []crier.PartitionID{crier.SystemPartition}
	for i := range n.cfg.Partitions {
		all = append(all, crier.PartitionID(i))
	}
	return all
}

// watch follows the leadership of a group until the node closes or the group is dropped, and starts and
// stops its actor with it.
func (n *Node) watch(g *Group) {
	defer close(g.watched)
	for {
		select {
		case leads := <-g.leads:
			n.metrics.changes.Inc()
			if leads {
				n.lead(g)
			} else if !n.leadsStill(g) {
				n.follow(g)
			}
		case <-g.woken:
			n.look(g)
		case <-n.stop:
			n.follow(g)
			return
		case <-g.dropped:
			n.follow(g)
			return
		}
	}
}

// leadsStill reports whether the group's actor runs in the term in which this node leads now. What was told of a term before comes late then: this node had lost
// the group and won it again while its watcher was busy.
func (n *Node) leadsStill(g *Group) bool {
	n.mu.RLock()
	term, runs := n.terms[g.id]
	n.mu.RUnlock()
	return runs && g.IsLeader() && g.Term() == term
}

// lead starts the group's actor once the state has everything that was
// committed before this term.
func (n *Node) lead(g *Group) {
	term := g.Term()
	if err := g.Barrier(barrierTimeout); err != nil {
		n.log.Debug("leadership passed before its barrier", "partition", g.id, "err", err)
		return
	}
	if !g.IsLeader() || g.Term() != term {
		return // it has passed, and may have come again: then that is told next
	}
	if n.localPID(g.id) != nil {
		return // look has begun it
	}
	if n.quiet(g) { // look begins it when the restore has ended
		n.gossip.announce(g.id, leader{n.cfg.NodeID, term})
		return
	}
	pid, err := n.system.Root.SpawnNamed(n.host.PartitionProps(g.id, g, term), actorName(g.id))
	if err != nil {
		n.log.Error("the actor of a partition did not start", "partition", g.id, "err", err)
		return
	}
	n.mu.Lock()
	n.local[g.id], n.terms[g.id] = pid, term
	if g.id == crier.SystemPartition {
		n.reconciler = startReconciler(n, g)
	}
	n.mu.Unlock()
	n.metrics.leaders.Inc()
	n.gossip.announce(g.id, leader{n.cfg.NodeID, term})
}

// elected takes it from raft who leads a group: at once, where this node has a replica, and by another way than gossip, which may lose it.
func (n *Node) elected(p crier.PartitionID, node string, term uint64) {
	n.gossip.announce(p, leader{node, term})
}

// quiet reports whether the group has no actor although this node leads it: its state is about to be replaced, or has been, and those of others not yet.
func (n *Node) quiet(g *Group) bool {
	return g.id != crier.SystemPartition && n.storage.Restoring() != 0
}

// look ends the actor of a group while a restore is under way, and begins it afterwards. Who leads is still the same, so nothing is announced.
func (n *Node) look(g *Group) {
	pid := n.localPID(g.id)
	switch {
	case pid != nil && n.quiet(g):
		n.mu.Lock()
		delete(n.local, g.id)
		delete(n.terms, g.id)
		n.mu.Unlock()
		n.metrics.leaders.Dec()
		n.end(g, pid)
	case pid == nil && !n.quiet(g) && g.IsLeader():
		n.lead(g)
	}
}

// wakeIdle has the watchers look at groups that are led here and have no actor, once a restore has ended.
func (n *Node) wakeIdle() {
	for _, g := range n.open() {
		if n.localPID(g.id) == nil && g.IsLeader() && !n.quiet(g) {
			g.wake()
		}
	}
}

// end waits for the end of a group's actor.
func (n *Node) end(g *Group, pid *actor.PID) {
	if err := n.system.Root.StopFuture(pid).Wait(); err != nil {
		n.log.Warn("the actor of a partition did not stop in time", "partition", g.id, "err", err)
	}
}

// follow withdraws the group's actor and waits for its end.
func (n *Node) follow(g *Group) {
	n.mu.Lock()
	pid, term := n.local[g.id], n.terms[g.id]
	delete(n.local, g.id)
	delete(n.terms, g.id)
	var r *reconciler
	if g.id == crier.SystemPartition {
		r, n.reconciler = n.reconciler, nil
	}
	n.mu.Unlock()
	if pid == nil {
		return
	}
	if r != nil {
		r.stop()
	}
	n.metrics.leaders.Dec()
	// The term that it led, and not the present one: that may be of a successor who leads already.
	n.gossip.announce(g.id, leader{"", term})
	n.end(g, pid)
}

func actorName(p crier.PartitionID) string { return "partition-" + p.String() }

// localPID returns the actor of a partition that this node leads, nil for another.
func (n *Node) localPID(p crier.PartitionID) *actor.PID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.local[p]
}

// route returns who leads a partition and its actor there, nil if none is known.
func (n *Node) route(p crier.PartitionID) (leader, *actor.PID) {
	l := n.table.leader(p)
	switch l.node {
	case "":
		return l, nil
	case n.cfg.NodeID:
		return l, n.localPID(p)
	}
	m, ok := n.gossip.member(l.node)
	if !ok {
		return l, nil
	}
	return l, actor.NewPID(m.ActorAddress, actorName(p))
}

// ActorSystem returns the node's actor system.
func (n *Node) ActorSystem() *actor.ActorSystem { return n.system }

// Members returns the nodes that gossip believes alive, this one included.
func (n *Node) Members() []Member { return n.gossip.all() }

// Ready returns nil once no restore is under way, this node knows itself to be a member, and every group has a leader with its actor; else what is missing. What
// makes a node a member is an entry of the system group, so what was there before it has come too.
func (n *Node) Ready() error {
	if !n.isMember() {
		return errors.New("the node has not been taken into the cluster yet")
	}
	if n.storage.Restoring() != 0 {
		return errRestoring
	}
	for _, p := range n.allGroups() {
		if _, pid := n.route(p); pid == nil {
			return fmt.Errorf("partition %s has no leader", p)
		}
	}
	return nil
}

// isMember says whether the node knows itself to be a member of the cluster.
func (n *Node) isMember() bool {
	return slices.ContainsFunc(n.storage.Nodes(), func(m crier.Node) bool { return m.ID == n.cfg.NodeID })
}

// WaitForReady blocks until Ready, or ctx ends, or the node has left.
func (n *Node) WaitForReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := n.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-n.left:
			return n.leftErr
		case <-tick.C:
		}
	}
}

// Close hands over what the node leads and stops it: its actors, then gossip, then the raft groups, then the
// actor system. The storage may be closed after it.
func (n *Node) Close() error {
	var errs []error
	n.handOver()
	close(n.stop)
	n.closeCuts()
	n.closeInstalls()
	if n.control != nil { // before the wait: it opens groups, and each has a watcher
		errs = append(errs, n.system.Root.StopFuture(n.control).Wait())
	}
	n.closeParked()
	n.watchers.Wait()
	if n.gossip != nil {
		errs = append(errs, n.gossip.close())
	}
	errs = append(errs, n.closeGroups())
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	n.asking.Wait()
	if n.cluster != nil {
		n.cluster.Gossip.Shutdown()
		n.cluster.Shutdown(false)
	}
	return errors.Join(errs...)
}
