package apnssim

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// bodyKept bounds what is kept of a request's body. More is too large anyhow.
	bodyKept = 8 << 10
	// headerMost bounds the headers of a request.
	headerMost = 16 << 10
	// handshakeTimeout bounds the TLS handshake and the client's first frame.
	handshakeTimeout = 10 * time.Second
)

// conn is one HTTP/2 connection (RFC 9113). One goroutine reads; each request
// has its own; what they write is held together by the lock.
type conn struct {
	server *Server
	wire   net.Conn
	framer *http2.Framer
	auth   connAuth
	work   sync.WaitGroup

	mu       sync.Mutex
	room     *sync.Cond // the window grew, or the connection ended
	window   int64      // bytes of DATA that the client still takes on the connection
	encoder  *hpack.Encoder
	encoded  bytes.Buffer
	streams  map[uint32]*stream
	highest  uint32 // stream that was opened
	lastKept uint32 // after a GOAWAY: streams above it are dropped
	leaving  bool
	ended    bool
}

// stream is a request that is not answered yet.
type stream struct {
	id   uint32
	req  request
	gone chan struct{} // closed when the client takes it back
	// decided is whether the notification may have been shown already. Guarded by the connection's mu.
	decided bool
}

// serve speaks with one client until the connection ends.
func (s *Server) serve(wire net.Conn) error {
	_ = wire.SetDeadline(time.Now().Add(handshakeTimeout))
	var peer []*x509.Certificate
	if t, ok := wire.(*tls.Conn); ok {
		if err := t.HandshakeContext(s.ctx); err != nil {
			linger(t.NetConn())
			return err
		}
		state := t.ConnectionState()
		if state.NegotiatedProtocol != http2.NextProtoTLS {
			return errors.New("the client speaks no HTTP/2")
		}
		peer = state.PeerCertificates
	}
	c := &conn{
		server: s, wire: wire, window: 65535, streams: make(map[uint32]*stream),
		auth: connAuth{server: s, peer: peer}, framer: http2.NewFramer(wire, wire),
	}
	c.room = sync.NewCond(&c.mu)
	c.encoder = hpack.NewEncoder(&c.encoded)
	if !s.add(c) {
		return net.ErrClosed
	}
	defer s.remove(c)
	return c.run()
}

// linger reads what the client has sent already, until it has ended the connection too: else that is reset, and the alert that says why is lost.
func linger(wire net.Conn) {
	if half, ok := wire.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil && wire.SetReadDeadline(time.Now().Add(time.Second)) == nil {
		_, _ = io.CopyN(io.Discard, wire, 64<<10)
	}
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.conns[c] = struct{}{}
	s.journal.conns.Add(1)
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

func (c *conn) run() error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.wire, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return errors.New("no HTTP/2 preface")
	}
	_ = c.wire.SetDeadline(time.Time{})
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = headerMost
	err := c.write(func() error {
		return c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.server.options.MaxStreams},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: headerMost},
		)
	})
	for err == nil {
		err = c.readFrame()
	}
	c.end()
	c.work.Wait()
	return err
}

// end lets the requests under way know that nobody waits for them.
func (c *conn) end() {
	_ = c.wire.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for id := range c.streams {
		c.dropLocked(id)
	}
	c.room.Broadcast()
}

func (c *conn) readFrame() error {
	frame, err := c.framer.ReadFrame()
	if e, ok := errors.AsType[http2.StreamError](err); ok {
		return c.reset(e.StreamID, e.Code)
	}
	if e, ok := errors.AsType[http2.ConnectionError](err); ok {
		c.mu.Lock()
		_ = c.framer.WriteGoAway(c.highest, http2.ErrCode(e), nil)
		c.mu.Unlock()
	}
	if err != nil {
		return err
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.onHeaders(f)
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return c.write(func() error { return c.framer.WritePing(true, f.Data) })
	case *http2.WindowUpdateFrame:
		c.onWindow(f)
	case *http2.RSTStreamFrame:
		c.mu.Lock()
		c.dropLocked(f.StreamID)
		c.mu.Unlock()
	}
	return nil
}

func (c *conn) write(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f()
}

// dropLocked forgets a stream that will not be answered.
func (c *conn) dropLocked(id uint32) {
	if st, ok := c.streams[id]; ok {
		delete(c.streams, id)
		close(st.gone)
	}
	c.leaveLocked()
}

// leaveLocked closes a connection that said GOAWAY and has answered all.
func (c *conn) leaveLocked() {
	if c.leaving && len(c.streams) == 0 {
		_ = c.wire.Close()
	}
}

func (c *conn) onHeaders(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	c.mu.Lock()
	_, open := c.streams[id]
	switch {
	case open && f.StreamEnded(): // trailers
		c.mu.Unlock()
		c.start(id)
		return nil
	case c.leaving && id > c.lastKept:
		c.mu.Unlock()
		return nil // the GOAWAY has told the client that it is not looked at
	case open || id%2 == 0 || id <= c.highest:
		c.mu.Unlock()
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.highest = id
	if len(c.streams) >= int(c.server.options.MaxStreams) {
		defer c.mu.Unlock()
		return c.framer.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	}
	c.streams[id] = &stream{id: id, req: decode(f.Fields), gone: make(chan struct{})}
	c.mu.Unlock()
	if f.Truncated {
		return c.reset(id, http2.ErrCodeEnhanceYourCalm)
	}
	if f.StreamEnded() {
		c.start(id)
	}
	return nil
}

// onData keeps the body and opens the windows again, padding included.
func (c *conn) onData(f *http2.DataFrame) error {
	c.mu.Lock()
	st, open := c.streams[f.StreamID]
	var err error
	if f.Length > 0 {
		err = c.framer.WriteWindowUpdate(0, f.Length)
	}
	if open && f.Length > 0 && !f.StreamEnded() && err == nil {
		err = c.framer.WriteWindowUpdate(f.StreamID, f.Length)
	}
	if open {
		st.req.addBody(f.Data())
	}
	c.mu.Unlock()
	if open && f.StreamEnded() && err == nil {
		c.start(f.StreamID)
	}
	return err
}

func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	return c.write(func() error {
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			c.encoder.SetMaxDynamicTableSizeLimit(size)
		}
		return c.framer.WriteSettingsAck()
	})
}

// onWindow counts the connection's window. A stream's holds its answer of less than
// 200 bytes in any case.
func (c *conn) onWindow(f *http2.WindowUpdateFrame) {
	if f.StreamID != 0 {
		return
	}
	c.mu.Lock()
	c.window += int64(f.Increment)
	c.room.Broadcast()
	c.mu.Unlock()
}

// start answers a request that has arrived whole.
func (c *conn) start(id uint32) {
	c.mu.Lock()
	st := c.streams[id]
	c.mu.Unlock()
	if st != nil {
		c.work.Go(func() { c.answer(st) })
	}
}

// answer waits, fails as it was told to, or checks the request and writes the answer.
func (c *conn) answer(st *stream) {
	f := c.server.faultOf(&st.req)
	if !c.sleep(st, c.server.options.Latency+f.Latency) {
		return
	}
	switch {
	case f.Silent:
		c.sleep(st, 24*time.Hour)
	case f.Cut:
		c.server.journal.add(record{Time: c.server.now(), Token: st.req.token(), Fault: "cut"})
		_ = c.wire.Close()
	case f.Reset:
		c.server.journal.add(record{Time: c.server.now(), Token: st.req.token(), Fault: "reset"})
		_ = c.reset(st.id, http2.ErrCodeInternal)
	case f.GoAway:
		c.server.journal.add(record{Time: c.server.now(), Token: st.req.token(), Fault: "goaway", Reason: f.Reason})
		c.mu.Lock()
		c.dropLocked(st.id)
		c.mu.Unlock()
		c.goAway(st.id-1, f.Reason)
	default:
		if c.begin(st) {
			c.reply(st, c.server.decide(c, &st.req, f))
		}
	}
}

// begin reports whether a request is still to be answered. From here on a GOAWAY does not leave it out.
func (c *conn) begin(st *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, open := c.streams[st.id]
	st.decided = open
	return open
}

// sleep waits; ok is false when the client went away in the meantime.
func (c *conn) sleep(st *stream, d time.Duration) (ok bool) {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-st.gone:
	case <-c.server.ctx.Done():
	}
	return false
}

func (c *conn) reset(id uint32, code http2.ErrCode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.framer.WriteRSTStream(id, code)
	c.dropLocked(id)
	return err
}

// goAway drops the streams above last and closes when the others are answered. Later ones that are decided are not dropped: a
// stream that the frame leaves out has not been worked on (RFC 9113, 6.8), and its notification is sent again.
func (c *conn) goAway(last uint32, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	for id, st := range c.streams {
		if st.decided {
			last = max(last, id)
		}
	}
	c.lastKept = min(last, c.highest)
	var debug []byte
	if reason != "" {
		debug, _ = json.Marshal(map[string]string{"reason": reason})
	}
	_ = c.framer.WriteGoAway(c.lastKept, http2.ErrCodeNo, debug)
	c.leaving = true
	for id := range c.streams {
		if id > c.lastKept {
			c.dropLocked(id)
		}
	}
	c.leaveLocked()
}

// reply writes an answer, unless its stream is gone.
func (c *conn) reply(st *stream, r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := r.body()
	for c.window < int64(len(body)) && !c.ended {
		c.room.Wait()
	}
	if _, open := c.streams[st.id]; !open {
		return
	}
	delete(c.streams, st.id)
	c.window -= int64(len(body))
	c.encoded.Reset()
	for _, h := range r.headers(len(body)) {
		_ = c.encoder.WriteField(h) // into memory
	}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: st.id, BlockFragment: c.encoded.Bytes(), EndHeaders: true, EndStream: len(body) == 0,
	})
	if err == nil && len(body) > 0 {
		_ = c.framer.WriteData(st.id, true, body)
	}
	c.leaveLocked()
}

// reply is an answer to a request.
type reply struct {
	status     int
	id         string // apns-id
	uniqueID   string // apns-unique-id, of the sandbox
	reason     string
	timestamp  time.Time
	retryAfter time.Duration
}

func (r *reply) body() []byte {
	if r.reason == "" {
		return nil
	}
	answer := struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp,omitempty"`
	}{Reason: r.reason}
	if !r.timestamp.IsZero() {
		answer.Timestamp = r.timestamp.UnixMilli()
	}
	text, _ := json.Marshal(answer)
	return text
}

func (r *reply) headers(length int) []hpack.HeaderField {
	h := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(r.status)}, {Name: "apns-id", Value: r.id}}
	if r.uniqueID != "" {
		h = append(h, hpack.HeaderField{Name: "apns-unique-id", Value: r.uniqueID})
	}
	if r.retryAfter > 0 {
		h = append(h, hpack.HeaderField{Name: "retry-after", Value: strconv.Itoa(int((r.retryAfter + time.Second - 1) / time.Second))})
	}
	if length > 0 {
		h = append(h, hpack.HeaderField{Name: "content-type", Value: "application/json"}, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(length)})
	}
	return h
}
