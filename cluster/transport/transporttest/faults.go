// Package transporttest has a network for tests that can be cut, slowed and made lossy between two nodes, one direction
// or both.
package transporttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/crier-im/crier/cluster/transport"
)

const (
	// poll is how often what is held back by a fault looks whether it is healed.
	poll = time.Millisecond
	// retransmit is after how long TCP sends again what was lost, twice as long each time: Linux begins there.
	retransmit = 200 * time.Millisecond
)

// route is one direction between two nodes.
type route struct{ from, to string }

// fault is what is wrong with a direction.
type fault struct {
	cut   bool
	delay time.Duration
	loss  float64
}

// Faults is the network between nodes of a test. Its dialers see both directions of a
// connection: what the node that dialed writes, and what it reads. Safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	random *rand.Rand
	faults map[route]fault
	conns  map[*conn]struct{}
}

// NewFaults returns a network without faults. The seed decides what is lost.
func NewFaults(seed uint64) *Faults {
	return &Faults{
		random: rand.New(rand.NewPCG(seed, seed)),
		faults: make(map[route]fault), conns: make(map[*conn]struct{}),
	}
}

// Dialer returns the transport.Dialer of a node.
func (f *Faults) Dialer(node string) transport.Dialer {
	return func(ctx context.Context, to, addr string) (net.Conn, error) {
		for f.at(node, to).cut || f.at(to, node).cut { // a handshake needs both directions
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("dial node %s: %w", to, ctx.Err())
			case <-time.After(poll):
			}
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		n := &conn{Conn: c, faults: f, from: node, to: to, done: make(chan struct{})}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.conns[n] = struct{}{}
		return n, nil
	}
}

// Cut loses everything between two nodes, as if the cable were drawn: nothing is closed, and what
// was sent arrives after Heal if the connection still stands.
func (f *Faults) Cut(a, b string) {
	f.CutOneWay(a, b)
	f.CutOneWay(b, a)
}

// CutOneWay loses what goes from one node to another. New connections need both directions.
func (f *Faults) CutOneWay(from, to string) { f.set(from, to, func(x *fault) { x.cut = true }) }

// Isolate cuts a node from all others named.
func (f *Faults) Isolate(node string, others ...string) {
	for _, o := range others {
		if o != node {
			f.Cut(node, o)
		}
	}
}

// Delay holds everything between two nodes up, in each direction.
func (f *Faults) Delay(a, b string, d time.Duration) {
	f.DelayOneWay(a, b, d)
	f.DelayOneWay(b, a, d)
}

// DelayOneWay holds up what goes from one node to another.
func (f *Faults) DelayOneWay(from, to string, d time.Duration) {
	f.set(from, to, func(x *fault) { x.delay = d })
}

// Lose loses a share, 0 to 1, of what goes between two nodes in each direction. TCP sends it again, so it comes late: after
// 200 ms, or 400 if it is lost again, and so on.
func (f *Faults) Lose(a, b string, share float64) {
	f.LoseOneWay(a, b, share)
	f.LoseOneWay(b, a, share)
}

// LoseOneWay loses a share of what goes from one node to another.
func (f *Faults) LoseOneWay(from, to string, share float64) {
	f.set(from, to, func(x *fault) { x.loss = share })
}

// Reset breaks the connections between two nodes; they may make new ones.
func (f *Faults) Reset(a, b string) {
	f.mu.Lock()
	var broken []*conn
	for c := range f.conns {
		if (route{c.from, c.to}) == (route{a, b}) || (route{c.from, c.to}) == (route{b, a}) {
			broken = append(broken, c)
		}
	}
	f.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// Heal ends the faults between two nodes.
func (f *Faults) Heal(a, b string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.faults, route{a, b})
	delete(f.faults, route{b, a})
}

// HealAll ends all faults.
func (f *Faults) HealAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.faults)
}

func (f *Faults) set(from, to string, change func(*fault)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.faults[route{from, to}]
	change(&x)
	f.faults[route{from, to}] = x
}

func (f *Faults) at(from, to string) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults[route{from, to}]
}

// pause is how late something on its way is.
func (f *Faults) pause(from, to string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.faults[route{from, to}]
	d := x.delay
	for again := retransmit; again < time.Minute && f.random.Float64() < x.loss; again *= 2 {
		d += again
	}
	return d
}

// conn is a connection with the faults of its two directions.
type conn struct {
	net.Conn
	faults   *Faults
	from, to string
	once     sync.Once
	done     chan struct{}

	mu          sync.Mutex
	read, write time.Time // deadlines
	held        []byte    // read from the peer, not given out for a fault
}

// Write is net.Conn's.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.pass(c.from, c.to, func() time.Time { return c.write }); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Read is net.Conn's. One goroutine reads at a time.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.held) == 0 {
		n, err := c.Conn.Read(b)
		if err != nil {
			return n, err
		}
		c.held = append(c.held, b[:n]...)
	}
	if err := c.pass(c.to, c.from, func() time.Time { return c.read }); err != nil {
		return 0, err
	}
	n := copy(b, c.held)
	c.held = c.held[n:]
	return n, nil
}

// pass waits as long as the direction has something pass late, and while it is cut.
func (c *conn) pass(from, to string, deadline func() time.Time) error {
	arrives := time.Now().Add(c.faults.pause(from, to))
	for time.Now().Before(arrives) || c.faults.at(from, to).cut {
		c.mu.Lock()
		d := deadline()
		c.mu.Unlock()
		if !d.IsZero() && time.Now().After(d) {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-c.done:
			return net.ErrClosed
		case <-time.After(poll):
		}
	}
	return nil
}

// SetDeadline is net.Conn's.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.write = t, t
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline is net.Conn's.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline is net.Conn's.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}

// Close is net.Conn's.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.done) })
	c.faults.mu.Lock()
	delete(c.faults.conns, c)
	c.faults.mu.Unlock()
	return c.Conn.Close()
}
