package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	dialTimeout = 10 * time.Second
	// pingAfter and pingTimeout find a connection that died without a word. Apple allows pings.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

// errClosed is the error of what was under way when the pool was closed.
var errClosed = errors.New("the sender is closed")

// pool is the HTTP/2 connections of a sender: one, and another while all are full, up to most.
//
// http2's own pool opens one connection for each request that finds no free stream, and APNs allows a
// single stream until it has seen a provider token: a burst at the start would open hundreds,
// which Apple takes for an attack. It also makes a caller wait for another's dial beyond its own deadline.
type pool struct {
	address   string
	tls       *tls.Config
	most      int
	transport *http2.Transport //nolint:staticcheck // net/http takes no conn but *tls.Conn, which hides GOAWAY frames

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	dials  sync.WaitGroup

	mu      sync.Mutex
	conns   []*conn
	dialing bool
	dialErr error         // of the last dial, for those who wait
	changed chan struct{} // closed when a stream became free or a dial ended
}

// conn is a connection: its streams and the wire below.
type conn struct {
	*http2.ClientConn
	wire *watchedConn
	// busy is how many streams are reserved. The client's own count falls a moment after an answer has come, so
	// whoever was woken by the answer would find no stream, and nothing would wake it again.
	busy int
}

func newPool(address string, config *tls.Config, most int) *pool {
	p := &pool{address: address, tls: config, most: most, changed: make(chan struct{})}
	//nolint:staticcheck // see pool.transport; strict: see conn.busy
	p.transport = &http2.Transport{ReadIdleTimeout: pingAfter, PingTimeout: pingTimeout, DisableCompression: true, StrictMaxConcurrentStreams: true}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// do makes one request on a connection with a free stream, waiting for one
// while ctx lasts. Where err is nil, the caller closes the body and calls release after it.
func (p *pool) do(req *http.Request) (resp *http.Response, c *conn, err error) {
	c, err = p.reserve(req.Context())
	if err != nil {
		return nil, nil, err
	}
	resp, err = c.RoundTrip(req)
	if err != nil {
		p.release(c)
	}
	return resp, c, c.wire.why(err)
}

// release gives a stream back and tells those who wait.
func (p *pool) release(c *conn) {
	p.mu.Lock()
	c.busy--
	p.broadcastLocked()
	p.mu.Unlock()
}

func (p *pool) broadcastLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// reserve returns a connection with a stream set aside for the next RoundTrip.
func (p *pool) reserve(ctx context.Context) (*conn, error) {
	waited := false
	for {
		c, changed, err := p.tryReserve(waited)
		if c != nil || err != nil {
			return c, err
		}
		waited = true
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.ctx.Done():
			return nil, errClosed
		}
	}
}

// tryReserve returns a connection; or what to wait for. A dial that failed is
// the error of those who waited for it; whoever comes later dials anew.
func (p *pool) tryReserve(waited bool) (*conn, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil, nil, errClosed
	}
	p.conns = slices.DeleteFunc(p.conns, func(c *conn) bool { return c.State().Closed })
	live := 0
	for _, c := range p.conns {
		if !c.CanTakeNewRequest() {
			continue // said GOAWAY: its streams are still answered
		}
		if live++; c.busy < int(min(c.State().MaxConcurrentStreams, 1<<20)) {
			c.busy++
			return c, nil, nil
		}
	}
	if waited && !p.dialing && live == 0 && p.dialErr != nil {
		return nil, nil, p.dialErr
	}
	if !p.dialing && live < p.most {
		p.dialing, p.dialErr = true, nil
		p.dials.Go(p.dial)
	}
	return nil, p.changed, nil
}

// dial opens a connection for all who wait, so it ends with the pool and not with one of them.
func (p *pool) dial() {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	c, err := p.connect(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing, p.dialErr = false, err
	if err == nil && p.ctx.Err() != nil {
		_ = c.Close()
	} else if err == nil {
		p.conns = append(p.conns, c)
	}
	p.broadcastLocked()
}

func (p *pool) connect(ctx context.Context) (*conn, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: p.tls}
	wire, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	if s, ok := wire.(*tls.Conn); ok && s.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		_ = wire.Close()
		return nil, errors.New("the server speaks no HTTP/2")
	}
	watched := &watchedConn{Conn: wire}
	streams, err := p.transport.NewClientConn(watched) //nolint:staticcheck // see pool.transport
	if err != nil {
		_ = wire.Close()
		return nil, watched.why(err)
	}
	// The answer to a ping comes after the server's settings. Without it the first burst takes 100 streams
	// for granted, and APNs refuses what is over its limit.
	if err := streams.Ping(ctx); err != nil {
		_ = streams.Close()
		return nil, watched.why(err)
	}
	return &conn{ClientConn: streams, wire: watched}, nil
}

// close ends every connection and what runs on them.
func (p *pool) close() {
	p.cancel()
	p.dials.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
