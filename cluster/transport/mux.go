package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/time/rate"

	"github.com/crier-im/crier"
)

// maxHandshakes bounds the connections that have not said yet who they are.
const maxHandshakes = 64

// Mux is a node's end of the transport: its listener, and its links to the other nodes.
// Safe for concurrent use.
type Mux struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	listener net.Listener
	client   *tls.Config // for dials; nil without TLS
	server   *tls.Config
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	running  sync.WaitGroup
	strange  chan struct{} // a place for each handshake of a caller
	refusals refusals

	snapshots *rate.Limiter // bytes of snapshots that are sent

	mu      sync.Mutex
	closed  bool
	groups  map[crier.PartitionID]*group
	links   map[string]*link    // to peers
	inbound map[string]net.Conn // from peers
	conns   map[net.Conn]struct{}
}

// Open listens, and returns at once: links are made when they are first needed.
func Open(cfg Config) (*Mux, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("transport configuration: %w", err)
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	listener, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for nodes on %s: %w", cfg.Listen, err)
	}
	m := &Mux{
		cfg: cfg, log: cfg.Logger.With("component", "transport"), metrics: newMetrics(cfg.Registerer), listener: listener,
		strange: make(chan struct{}, maxHandshakes), groups: make(map[crier.PartitionID]*group), links: make(map[string]*link),
		inbound: make(map[string]net.Conn), conns: make(map[net.Conn]struct{}),
		snapshots: rate.NewLimiter(rate.Limit(cfg.SnapshotRate), snapshotStep),
	}
	m.client, m.server = mutual(cfg.TLS)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.running.Go(m.accept)
	m.running.Go(m.beats)
	return m, nil
}

// beats sends the heartbeats that have gathered to each peer.
func (m *Mux) beats() {
	ticker := time.NewTicker(m.cfg.beat())
	defer ticker.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
			m.mu.Lock()
			links := slices.Collect(maps.Values(m.links))
			m.mu.Unlock()
			for _, l := range links {
				l.beat()
			}
		}
	}
}

// Addr returns the address that the node listens on.
func (m *Mux) Addr() string { return m.listener.Addr().String() }

// Group returns the transport of a group: the same one for every call, until it is closed. It implements raft.WithPreVote and
// raft.WithClose. Requests of other nodes for a group that nobody has asked for are answered with "not open", and tried again.
//
// Close it before waiting for raft's shutdown: raft waits for its appends, and those wait for links that are down.
//
//	future := r.Shutdown()
//	transport.(raft.WithClose).Close()
//	err := future.Error()
func (m *Mux) Group(p crier.PartitionID) raft.Transport {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[p]
	if g == nil {
		g = newGroup(m, p)
		if m.closed {
			g.cancel()
			return g
		}
		m.groups[p] = g
	}
	return g
}

// Close stops listening, ends every connection, and closes the transports of all groups. It blocks until
// what was under way has ended. A second Close does nothing.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.running.Wait()
		return nil
	}
	m.closed = true
	groups := m.groups
	m.groups = make(map[crier.PartitionID]*group)
	conns := make([]net.Conn, 0, len(m.conns))
	for c := range m.conns {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, g := range groups {
		g.cancel()
	}
	m.cancel()
	err := m.listener.Close()
	for _, c := range conns {
		c.Close()
	}
	m.running.Wait()
	return err
}

// group returns the transport of a group that is open here, nil for another.
func (m *Mux) group(p crier.PartitionID) *group {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.groups[p]
}

// drop forgets a group's transport.
func (m *Mux) drop(g *group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups[g.id] == g {
		delete(m.groups, g.id)
	}
}

// link returns the link to a peer, and makes it if there is none.
func (m *Mux) link(peer string) (*link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	l := m.links[peer]
	if l == nil {
		l = newLink(m, peer)
		m.links[peer] = l
		m.running.Go(func() { l.run(m.ctx) })
	}
	return l, nil
}

// start runs f on a goroutine that Close waits for. It returns false when the node has closed.
func (m *Mux) start(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.running.Go(f)
	return true
}

// met tells the link to a peer that it has shown up.
func (m *Mux) met(peer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.links[peer]; l != nil {
		l.poke()
	}
}

// hold notes a connection, so that Close ends it. It returns false when the node has closed.
func (m *Mux) hold(c net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.conns[c] = struct{}{}
	return true
}

// release closes a connection and forgets it.
func (m *Mux) release(c net.Conn) {
	c.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
}

// dial connects to a peer and shakes hands. The connection ends with the caller's release.
func (m *Mux) dial(ctx context.Context, peer string, p purpose) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.PeerTimeout)
	defer cancel()
	addr, ok := m.cfg.Resolve(peer)
	if !ok {
		return nil, errNoAddress
	}
	c, err := m.cfg.Dial(ctx, peer, addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	secure, err := m.greet(ctx, c, peer, p)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	return secure, nil
}

// greet is the dialing end of the handshake.
func (m *Mux) greet(ctx context.Context, c net.Conn, peer string, p purpose) (net.Conn, error) {
	if m.client != nil {
		t := tls.Client(c, named(m.client, peer))
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c = t
	}
	if _, err := c.Write(hello{version, p, m.cfg.Cluster, m.cfg.NodeID, peer}.encode()); err != nil {
		return nil, err
	}
	return c, readWelcome(c)
}

// accept takes connections until the listener closes.
func (m *Mux) accept() {
	for {
		c, err := m.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no file descriptors, most likely
			m.refuse("no connection was accepted", err)
			select {
			case <-m.ctx.Done():
			case <-time.After(firstPause):
			}
			continue
		}
		select {
		case m.strange <- struct{}{}:
			m.running.Go(func() { m.take(c) })
		default:
			m.metrics.refused.Inc()
			c.Close()
		}
	}
}

// take shakes hands with a caller, and serves it until its connection ends.
func (m *Mux) take(c net.Conn) {
	if !m.hold(c) {
		c.Close()
		<-m.strange
		return
	}
	defer m.release(c)
	secure, h, err := m.receive(c)
	<-m.strange
	if err != nil {
		m.metrics.refused.Inc()
		m.refuse("a connection was turned away", err, "remote", c.RemoteAddr().String())
		return
	}
	if h.purpose == forSnapshot {
		m.serveSnapshot(secure, h.from)
	} else {
		m.serveLink(secure, h.from)
	}
}

// receive is the accepting end of the handshake.
func (m *Mux) receive(c net.Conn) (net.Conn, hello, error) {
	if err := c.SetDeadline(time.Now().Add(m.cfg.PeerTimeout)); err != nil {
		return nil, hello{}, err
	}
	var state *tls.ConnectionState
	if m.server != nil {
		t := tls.Server(c, m.server)
		if err := t.HandshakeContext(m.ctx); err != nil {
			return nil, hello{}, fmt.Errorf("TLS: %w", err)
		}
		s := t.ConnectionState()
		c, state = t, &s
	}
	h, err := readHello(c)
	if err != nil {
		return nil, h, err
	}
	refused := h.check(m.cfg.Cluster, m.cfg.NodeID)
	if refused == nil && state != nil {
		refused = checkName(state, m.server, h.from)
	}
	if _, err := c.Write(encodeWelcome(refused)); err != nil && refused == nil {
		return nil, h, err
	}
	if refused != nil {
		return nil, h, refused
	}
	return c, h, c.SetDeadline(time.Time{})
}

var errNoAddress = errors.New("its address is not known")

// refuse logs a refusal: the first of its kind, and then one a minute.
func (m *Mux) refuse(message string, err error, attrs ...any) {
	if m.ctx.Err() == nil && m.refusals.first(err.Error(), time.Now()) {
		m.log.Warn(message, append(attrs, "err", err)...) //nolint:sloglint // both messages are constant
	}
}

const (
	refusalEvery = time.Minute
	maxRefusals  = 64
)

// refusals remembers what was logged lately.
type refusals struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (r *refusals) first(text string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.seen[text]; ok && now.Sub(last) < refusalEvery {
		return false
	}
	if r.seen == nil || len(r.seen) >= maxRefusals {
		r.seen = make(map[string]time.Time)
	}
	r.seen[text] = now
	return true
}
