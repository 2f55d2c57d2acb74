package transport

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fullQueue is where a sender of entries waits for the writer: what stands before a heartbeat is this much and a frame.
	fullQueue = 1 << 20
	// keptQueue is the largest buffer that is kept for the next write: a full queue and an append more. Making it anew for
	// each append of a megabyte took five times as long as writing it.
	keptQueue = fullQueue + appendBytesAtOnce + 64<<10
	// overflow is where a connection is given up whose peer reads no answers.
	overflow = 64 << 20
	// writeStep is how much of a write must be through within PeerTimeout.
	writeStep = 256 << 10
)

// conn is one connection to a peer: frames from many goroutines are gathered and written together. Nothing
// on it is waited for longer than timeout without a sign of life of the peer. Safe for concurrent use.
type conn struct {
	net.Conn
	timeout time.Duration
	delay   time.Duration // how long lazy frames wait for company
	traffic *traffic
	done    chan struct{} // closed when the connection has failed
	began   time.Time
	heard   atomic.Int64  // how long after that the last frame came: nanoseconds
	wake    chan struct{} // for the writer

	mu     sync.Mutex
	err    error // why it failed
	out    []byte
	frames int
	urgent bool
	since  time.Time     // when the first of the lazy frames came
	room   chan struct{} // closed when the writer has taken what is in out; nil: nobody waits
}

func newConn(c net.Conn, timeout, delay time.Duration, t *traffic) *conn {
	return &conn{Conn: c, timeout: timeout, delay: delay, traffic: t, done: make(chan struct{}), wake: make(chan struct{}, 1), began: time.Now()}
}

// patientReader gives up when nothing has come for the timeout. Every byte counts, so that a long frame may take its time.
type patientReader struct {
	net.Conn
	timeout time.Duration
	traffic *traffic
}

// Read is io.Reader's.
func (r *patientReader) Read(b []byte) (int, error) {
	if err := r.SetReadDeadline(time.Now().Add(r.timeout)); err != nil {
		return 0, err
	}
	n, err := r.Conn.Read(b)
	r.traffic.bytesIn.Add(float64(n))
	return n, err
}

// fail ends the connection. The first error stays.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
		abort(c.Conn)
	}
}

// failure returns why the connection ended.
func (c *conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// send queues a frame, whose body write appends. It does not block, and does not say whether the frame arrives.
func (c *conn) send(k kind, write func(b []byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue(k, write)
}

// sendInTurn is send for what is large: it waits while the queue is full, until it has
// room, the connection fails, or cancel is closed.
func (c *conn) sendInTurn(k kind, write func(b []byte) []byte, cancel <-chan struct{}) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) >= fullQueue && c.err == nil {
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.done:
		case <-cancel:
			c.mu.Lock()
			return ErrClosed
		}
		c.mu.Lock()
	}
	return c.queue(k, write)
}

// queue appends a frame to what the writer takes next.
func (c *conn) queue(k kind, write func(b []byte) []byte) error {
	if c.err != nil {
		return c.err
	}
	if len(c.out) >= overflow {
		return errBusy
	}
	start := len(c.out)
	out, err := endFrame(write(beginFrame(c.out, k)), start)
	c.out = out
	if err != nil {
		return err
	}
	if c.frames++; k&lazy == 0 {
		c.urgent = true
	}
	if c.frames == 1 {
		c.since = time.Now()
	}
	if c.frames == 1 || c.urgent {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// writeLoop writes what is queued until the connection fails. When it has nothing to write it shows the peer
// that it lives.
func (c *conn) writeLoop() {
	timer := time.NewTimer(c.timeout / 4)
	defer timer.Stop()
	last := time.Now()
	var b []byte
	for {
		select {
		case <-c.done:
			return
		case <-c.wake:
		case <-timer.C:
		}
		if time.Since(last) >= c.timeout/4 {
			_ = c.send(kindAlive, func(b []byte) []byte { return b })
		}
		var wait time.Duration
		if b, wait = c.take(b[:0]); wait == 0 {
			if err := c.writeSteps(b); err != nil {
				c.fail(err)
				return
			}
			last, wait = time.Now(), c.timeout/4
		}
		if cap(b) > keptQueue {
			b = nil
		}
		timer.Reset(wait)
	}
}

// take swaps what is queued for an empty buffer, or tells how long to wait first.
func (c *conn) take(empty []byte) (b []byte, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames == 0 {
		return empty, c.timeout / 4
	}
	if left := c.delay - time.Since(c.since); !c.urgent && left > 0 {
		return empty, left
	}
	b, c.out = c.out, empty
	c.traffic.framesOut.Add(float64(c.frames))
	c.frames, c.urgent = 0, false
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
	return b, 0
}

// writeSteps writes b, each step within the timeout.
func (c *conn) writeSteps(b []byte) error {
	for len(b) > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return err
		}
		n, err := c.Write(b[:min(len(b), writeStep)])
		c.traffic.bytesOut.Add(float64(n))
		c.traffic.writes.Inc()
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// silence returns how long nothing has come.
func (c *conn) silence() time.Duration { return time.Since(c.began) - time.Duration(c.heard.Load()) }

// readLoop calls handle for each frame but signs of life, until the connection fails, and returns why.
func (c *conn) readLoop(handle func(frame) error) error {
	in := bufio.NewReaderSize(&patientReader{c.Conn, c.timeout, c.traffic}, 64<<10)
	var scratch []byte
	for {
		f, err := readFrame(in, &scratch)
		if err == nil {
			c.heard.Store(int64(time.Since(c.began)))
			c.traffic.framesIn.Inc()
			if f.kind != kindAlive {
				err = handle(f)
			}
		}
		if err != nil {
			c.fail(err)
			return c.failure()
		}
	}
}
