package gateway

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/time/rate"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

const (
	// lingerTimeout and lingerBytes bound the wait for the other end to close too. Closing
	// while it still sends would reset the connection, and lose the close frame.
	lingerTimeout = time.Second
	lingerBytes   = 256 << 10
)

// conn is one connection: a crier.Conn for its session's actor, and the
// receiver of its frames. Its goroutine, run, reads and ends it; what is written goes
// through the outbox. The fields below out belong to that goroutine; what the session calls reads what is of the login, which stays.
type conn struct {
	gw       *Gateway
	socket   *socket
	codec    frame.Codec
	compress bool
	admitted bool // no longer counted as waiting for its login
	ip       netip.Addr
	out      outbox

	session  crier.Session // nil before the login, as is what follows of it
	app      crier.AppID
	id       crier.SessionID
	platform crier.Platform
	limiter  *rate.Limiter // nil: unlimited
	answered chan struct{} // closed when the last registration has its answer; nil: there was none
}

func newConn(gw *Gateway, s *socket, codec frame.Codec, compress bool, ip netip.Addr) *conn {
	c := &conn{gw: gw, socket: s, codec: codec, compress: compress, ip: ip}
	c.out = outbox{gw: gw, conn: s.Conn, raw: rawOf(s.Conn), done: make(chan struct{})}
	return c
}

// Deliver queues one message (crier.Conn). A message that can't be encoded is logged
// and left out: it would come again for ever.
func (c *conn) Deliver(d *crier.Delivery) {
	b, err := c.gw.prepared.message(d, c.codec, c.compress)
	if err != nil {
		c.gw.log.Error("a message can't be encoded", "app", d.App, "task", d.Task, "err", err)
		return
	}
	c.gw.metrics.messages.Inc()
	c.out.push(b)
}

// Close ends the connection after what was delivered before (crier.Conn).
func (c *conn) Close(reason crier.CloseReason) {
	end := frame.CloseFor(reason)
	switch end.Reason {
	case crier.CloseReplaced, crier.CloseKicked, crier.CloseDeleted, crier.CloseDisabled:
		c.closeWith(end, end.Code, &frame.Kicked{Reason: end.Reason, Text: end.Text})
	case crier.CloseGoingAway, crier.CloseMoved:
		c.closeWith(end, end.Code, &frame.Bye{Reason: end.Reason, Text: end.Text})
	default:
		c.out.close(end.Reason, end.Code)
	}
}

// Gone asks the kernel whether the client has closed its end (crier.Conn): what it sent before may not be read yet.
func (c *conn) Gone() bool { return peerGone(c.socket.Conn) }

// closeWith ends the connection after a last frame.
func (c *conn) closeWith(end frame.Close, code uint16, last frame.Server) {
	c.out.close(end.Reason, code, c.encode(last))
}

// refuse ends the connection because of what the client sent. code is
// WebSocket's own, or 0 for the one of the reason.
func (c *conn) refuse(reason crier.CloseReason, code uint16, err *crier.Error) {
	end := frame.CloseFor(reason)
	if code == 0 {
		code = end.Code
	}
	c.closeWith(end, code, &frame.Error{Code: err.Code, Text: err.Info})
}

// encode returns the WebSocket frame of a frame that is no message: those always encode.
func (c *conn) encode(f frame.Server) []byte {
	payload, err := c.codec.EncodeServer(f)
	if err == nil {
		var b []byte
		if b, err = dataFrame(c.codec, payload, false); err == nil {
			return b
		}
	}
	c.gw.log.Error("a frame can't be encoded", "type", frame.Type(f), "err", err)
	return nil
}

// run reads until the connection ends, and then takes it down. It is the
// connection's goroutine, parked in readLoop for most of its life: every call and
// every defer above that costs stack, and 100 bytes more than now double it to 8 KB.
func (c *conn) run() {
	c.out.patience(c.gw.cfg.LoginTimeout)
	c.finish(c.socket.readLoop(c))
	c.gw.forget(c)
}

// finish ends the connection, whoever began it, within closeTimeout and lingerTimeout.
func (c *conn) finish(err error) {
	c.closeAfter(err)
	c.out.open()
	reason, _ := c.out.outcome()
	if c.session != nil {
		c.session.Closed(reason)
		c.gw.metrics.connections.WithLabelValues(c.codec.Subprotocol(), string(c.platform)).Dec()
	}
	if !c.admitted {
		c.admit()
	}
	c.gw.metrics.closed(reason)
	<-c.out.done
	reason, reachable := c.out.outcome()
	if reachable {
		c.linger()
	}
	_ = c.out.conn.Close() // it has no more use
	c.gw.log.Debug("connection closed", "ip", c.ip, "app", c.app, "session", c.id, "reason", reason, "err", err)
}

// closeAfter translates why reading ended. If the server has begun to close, this is why.
func (c *conn) closeAfter(err error) {
	if c.out.ending() {
		return
	}
	var closed *peerClosed
	var broke *protocolError
	switch {
	case errors.As(err, &closed):
		c.out.close(crier.CloseByClient, echo(closed.code))
	case errors.As(err, &broke):
		c.refuse(crier.CloseBadFrame, broke.code, protocolText(broke.code))
	case !isTimeout(err):
		c.out.close(crier.CloseByClient, frame.CloseFor(crier.CloseByClient).Code)
	case c.session == nil:
		c.refuse(crier.CloseNoLogin, 0, crier.Errorf(crier.CodeSigMissing, "no login frame came within %s", c.gw.cfg.LoginTimeout))
	default:
		c.Close(crier.CloseHeartbeat)
	}
}

// echo returns the code with which a client's close is answered: its own where it may be sent.
func echo(code uint16) uint16 {
	switch {
	case code == 0, code >= 3000 && code < 5000, code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006:
		return code
	}
	return 1002
}

func protocolText(code uint16) *crier.Error {
	switch code {
	case 1009:
		return crier.Errorf(crier.CodeBodyTooLarge, "a frame is over %d bytes", maxFrame)
	case 1007:
		return crier.Errorf(crier.CodeBadJSON, "a text frame is not UTF-8")
	}
	return crier.Errorf(crier.CodeBadRequest, "the WebSocket protocol was broken")
}

// linger waits for the other end to close, so that it can read the close frame.
func (c *conn) linger() {
	half, ok := c.out.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.out.conn.SetReadDeadline(time.Now().Add(lingerTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, c.out.conn, lingerBytes) // ends with the other end, the deadline or the bound
	}
}

// pinged answers a WebSocket ping.
func (c *conn) pinged(payload []byte) {
	c.heard()
	if c.session != nil { // before the login nothing is queued
		c.out.push(wsFrame(bitFin|opPong, payload))
	}
}

func (c *conn) ponged() { c.heard() }

// heard starts the wait anew. The time for the login is not extended by anything.
func (c *conn) heard() {
	if c.session != nil {
		c.out.patience(time.Duration(heartbeats * float64(c.gw.cfg.Heartbeat)))
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
