package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/lxzan/gws"

	"github.com/crier-im/crier/http/gateway/frame"
)

// readBuffer is what a connection holds to read through, in bytes: client frames
// are small, and a longer one is read past it.
const readBuffer = 128

// receiver takes what a socket reads, on the goroutine of readLoop. data is
// only valid during the call.
type receiver interface {
	received(binary bool, data []byte)
	pinged(payload []byte)
	ponged()
}

// protocolError says that the peer broke RFC 6455; code is for the close frame.
type protocolError struct {
	code  uint16
	cause error
}

func (e *protocolError) Error() string { return fmt.Sprintf("WebSocket error %d: %v", e.code, e.cause) }
func (e *protocolError) Unwrap() error { return e.cause }

// peerClosed says that the peer sent a close frame. code is 0 where that had none.
type peerClosed struct{ code uint16 }

func (e *peerClosed) Error() string { return fmt.Sprintf("closed by the peer with %d", e.code) }

// upgrader is the one place that knows the WebSocket library. The library shakes hands and
// reads. It writes nothing after the handshake: its write queue has no bound,
// and its close would wait behind a receiver that has stopped reading.
type upgrader struct {
	gws *gws.Upgrader
}

func newUpgrader(compress bool, log *slog.Logger) *upgrader {
	var names []string
	for _, codec := range frame.Codecs() {
		names = append(names, codec.Subprotocol())
	}
	return &upgrader{gws.NewUpgrader(events{}, &gws.ServerOption{
		ReadMaxPayloadSize: maxFrame,
		ReadBufferSize:     readBuffer,
		ParallelGolimit:    1,
		CheckUtf8Enabled:   true,
		SubProtocols:       names,
		PermessageDeflate:  gws.PermessageDeflate{Enabled: compress},
		NewSession:         func() gws.SessionStorage { return nil }, // a socket finds its own
		Logger:             libraryLog{log},
	})}
}

type libraryLog struct{ *slog.Logger }

func (l libraryLog) Error(v ...any) { l.Debug("WebSocket library", "err", fmt.Sprint(v...)) }

// upgrade answers the handshake with one of the subprotocols of the request, already
// chosen. After an error the connection is closed.
func (u *upgrader) upgrade(w http.ResponseWriter, r *http.Request, codec frame.Codec) (*socket, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	if rw.Reader.Buffered() > 0 { // RFC 6455, 4.1: a client waits for the answer
		return nil, errors.Join(errors.New("the client sent data before the handshake was over"), conn.Close())
	}
	s := &socket{Conn: conn}
	// The library reads the first of several headers only. Nobody else reads the request now.
	r.Header.Set("Sec-WebSocket-Protocol", codec.Subprotocol())
	s.gws, err = u.gws.UpgradeFromConn(s, bufio.NewReaderSize(conn, readBuffer), r)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	s.upgraded = true
	return s, nil
}

// socket is the connection as the library sees it: what the library writes
// after the handshake, and its close, go nowhere. The embedded Conn is the real one.
type socket struct {
	net.Conn
	gws      *gws.Conn
	receiver receiver
	upgraded bool
	ended    error // set by OnClose
}

// Write writes only what belongs to the handshake.
func (s *socket) Write(p []byte) (int, error) {
	if s.upgraded {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

// Close closes only a connection whose handshake failed.
func (s *socket) Close() error {
	if s.upgraded {
		return nil
	}
	return s.Conn.Close()
}

// readLoop hands what is read to r until the connection ends, and returns why: a
// *peerClosed, a *protocolError, or an error of the network. It closes nothing.
func (s *socket) readLoop(r receiver) (err error) {
	// A length of 2^63 and more makes the library (1.8.9) slice with a negative bound.
	defer func() {
		if p := recover(); p != nil {
			err = &protocolError{1002, fmt.Errorf("panic while reading: %v", p)}
		}
	}()
	s.receiver = r
	s.gws.ReadLoop()
	return s.verdict()
}

// verdict translates the library's errors.
func (s *socket) verdict() error {
	var closed *gws.CloseError
	var status interface{ Uint16() uint16 } // the library's own error codes
	var network net.Error
	switch {
	case errors.As(s.ended, &closed):
		if closed.Code < 1000 {
			closed.Code = 0
		}
		return &peerClosed{closed.Code}
	case errors.As(s.ended, &status):
		return &protocolError{status.Uint16(), s.ended}
	case errors.As(s.ended, &network), errors.Is(s.ended, io.EOF), errors.Is(s.ended, io.ErrUnexpectedEOF), errors.Is(s.ended, net.ErrClosed):
		return s.ended
	case errors.Is(s.ended, gws.ErrTextEncoding):
		return &protocolError{1007, s.ended}
	}
	return &protocolError{1002, s.ended}
}

// events passes the library's events on. The library knows a socket by its connection.
type events struct{}

func of(c *gws.Conn) *socket { return c.NetConn().(*socket) }

func (events) OnOpen(*gws.Conn)                   {}
func (events) OnClose(c *gws.Conn, err error)     { of(c).ended = err }
func (events) OnPing(c *gws.Conn, payload []byte) { of(c).receiver.pinged(payload) }
func (events) OnPong(c *gws.Conn, _ []byte)       { of(c).receiver.ponged() }
func (events) OnMessage(c *gws.Conn, m *gws.Message) {
	of(c).receiver.received(m.Opcode == gws.OpcodeBinary, m.Bytes())
	_ = m.Close() // gives the buffer back
}
