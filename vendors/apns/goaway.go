package apns

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"sync/atomic"
)

const (
	frameHeader = 9 // bytes: length 3, type 1, flags 1, stream 4 (RFC 9113, 4.1)
	frameGoAway = 7
	// goAwayMost bounds what is kept of a GOAWAY frame: 8 bytes and a short JSON.
	goAwayMost = 1024
)

// watchedConn is a connection that remembers the reason that a GOAWAY frame gave. APNs tells a wrong
// environment there and nowhere else, and the HTTP/2 client gives it to no caller whose
// stream it did not take.
type watchedConn struct {
	net.Conn
	frames frameReader
	reason atomic.Value // string
	alert  atomic.Pointer[net.OpError]
}

// Read is called by one goroutine, as the HTTP/2 client does.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.frames.feed(p[:n], func(goAway []byte) {
		if reason := goAwayReason(goAway); reason != "" {
			c.reason.Store(reason)
		}
	})
	if e, ok := errors.AsType[*net.OpError](err); ok && isAlert(e) {
		c.alert.Store(e)
	}
	return n, err
}

// isAlert reports whether an error is a TLS alert of the other side.
func isAlert(e *net.OpError) bool { return e.Op == "remote error" }

// why returns the TLS alert that has ended the connection, if one has: what a request is told may only be that the connection is closed.
func (c *watchedConn) why(err error) error {
	if e := c.alert.Load(); e != nil && err != nil {
		return e
	}
	return err
}

// goAway returns the reason of the last GOAWAY frame, "" where there was none.
func (c *watchedConn) goAway() string {
	reason, _ := c.reason.Load().(string)
	return reason
}

// goAwayReason reads the payload of a GOAWAY frame: the last stream, an error
// code, and the JSON of an answer.
func goAwayReason(b []byte) string {
	var answer struct{ Reason string }
	if len(b) < 8 || json.Unmarshal(b[8:], &answer) != nil {
		return ""
	}
	return answer.Reason
}

// frameReader follows the frames of a byte stream and hands over GOAWAY payloads.
type frameReader struct {
	header []byte // of the next frame, as far as it has come
	left   int    // bytes of the current payload still to come
	kept   []byte // of a GOAWAY payload
	goAway bool
}

func (f *frameReader) feed(b []byte, found func(goAway []byte)) {
	for len(b) > 0 {
		if f.left == 0 {
			b = f.readHeader(b)
		}
		n := min(len(b), f.left)
		if f.goAway && len(f.kept) < goAwayMost {
			f.kept = append(f.kept, b[:min(n, goAwayMost-len(f.kept))]...)
		}
		f.left -= n
		b = b[n:]
		if f.left == 0 && f.goAway {
			found(f.kept)
			f.goAway, f.kept = false, nil
		}
	}
}

func (f *frameReader) readHeader(b []byte) (rest []byte) {
	n := min(len(b), frameHeader-len(f.header))
	f.header = append(f.header, b[:n]...)
	if len(f.header) == frameHeader {
		f.left = int(binary.BigEndian.Uint32(f.header) >> 8)
		f.goAway = f.header[3] == frameGoAway
		f.header = f.header[:0]
	}
	return b[n:]
}
