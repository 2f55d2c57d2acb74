package gateway

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

const (
	// closeTimeout bounds how long a connection that is to close may take for what waits.
	closeTimeout = 3 * time.Second
)

// outbox is what waits to be written to one connection, and how the connection
// ends. What the socket takes at once is written by whoever brings it; a goroutine writes the rest and ends with it, so that an
// idle connection has none. Safe for concurrent use; nothing in it waits for the network.
type outbox struct {
	gw   *Gateway
	conn net.Conn
	raw  syscall.RawConn // conn's, for writeNow; nil: it can't be written to at once
	done chan struct{}   // closed when the close frame was written, or can't be

	mu      sync.Mutex
	queue   [][]byte // whole WebSocket frames
	frames  int      // waiting or being written
	bytes   int      // theirs
	opened  bool     // before it nothing is written: the answer to the login comes first
	writing bool     // the goroutine runs
	closing bool     // the close frame is in the queue or was written; nothing comes after it
	broken  bool     // the connection can't be written to
	reason  crier.CloseReason
}

// push queues a frame. Where the queue is full, the receiver is a slow one:
// what waits is dropped and the connection closed, so that nobody else pays for it.
func (o *outbox) push(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return
	}
	l := &o.gw.cfg.Limits
	if o.frames >= l.QueueFrames || o.frames > 0 && o.bytes+len(b) > l.QueueBytes {
		o.cutLocked(crier.CloseSlow)
		return
	}
	o.append(b)
}

// open lets the queue flow, after the frames given.
func (o *outbox) open(first ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.opened {
		return
	}
	o.opened = true
	queue := append(first, o.queue...)
	o.queue, o.frames, o.bytes = nil, 0, 0
	if o.closing {
		_ = o.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	for _, b := range queue {
		o.append(b)
	}
}

// close queues the last frames and a close frame, and wakes the reader. Only
// the first close counts; it reports whether this was it.
func (o *outbox) close(reason crier.CloseReason, code uint16, last ...[]byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return false
	}
	o.closeLocked(reason, code, last...)
	return true
}

// cut closes with the code of the reason, and drops what waits.
func (o *outbox) cut(reason crier.CloseReason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing {
		o.cutLocked(reason)
	}
}

func (o *outbox) cutLocked(reason crier.CloseReason) {
	o.queue = nil
	o.closeLocked(reason, frame.CloseFor(reason).Code)
}

func (o *outbox) closeLocked(reason crier.CloseReason, code uint16, last ...[]byte) {
	o.closing, o.reason = true, reason
	now := time.Now()
	_ = o.conn.SetWriteDeadline(now.Add(closeTimeout)) // a connection that is gone fails on the write
	_ = o.conn.SetReadDeadline(now)                    // the reader ends, and sees to the rest
	for _, b := range last {
		o.append(b)
	}
	text := string(frame.CloseFor(reason).Reason)
	if code == 0 {
		text = ""
	}
	o.append(closeFrame(code, text))
}

// append writes a frame, or queues it and starts the goroutine that does. The caller holds mu.
func (o *outbox) append(b []byte) {
	if o.opened && !o.writing && !o.closing {
		n := writeNow(o.raw, b)
		o.gw.metrics.bytesOut.Add(float64(n))
		if b = b[n:]; len(b) == 0 {
			o.gw.metrics.framesOut.Inc()
			return
		}
	}
	o.queue = append(o.queue, b)
	o.frames++
	o.bytes += len(b)
	if o.opened && !o.writing {
		o.writing = true
		o.gw.running.Add(1) // the connection's reader holds one, so this is never the first
		go o.write()
	}
}

// write writes until nothing waits.
func (o *outbox) write() {
	defer o.gw.running.Done()
	for batch := o.next(); batch != nil; batch = o.next() {
		frames, n, err := len(batch), int64(0), error(nil)
		if frames == 1 {
			var written int
			written, err = o.conn.Write(batch[0])
			n = int64(written)
		} else {
			buffers := net.Buffers(batch)
			n, err = buffers.WriteTo(o.conn) // one system call, unless there is TLS
		}
		o.gw.metrics.bytesOut.Add(float64(n))
		if err != nil {
			o.fail(err)
			return
		}
		o.gw.metrics.framesOut.Add(float64(frames))
		o.wrote(frames, int(n))
	}
}

// next takes what waits; nil: nothing does, and the caller is no longer the writer.
func (o *outbox) next() [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		o.writing = false
		if o.closing {
			close(o.done)
		} else {
			_ = o.conn.SetWriteDeadline(time.Time{}) // writeNow would meet it
		}
		return nil
	}
	if !o.closing {
		_ = o.conn.SetWriteDeadline(time.Now().Add(o.gw.cfg.WriteTimeout))
	}
	batch := o.queue
	o.queue = nil
	return batch
}

func (o *outbox) wrote(frames, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames -= frames
	o.bytes -= n
}

// fail ends a connection that can't be written to. writing stays true, so
// that nobody tries again.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing {
		o.closing, o.reason = true, crier.CloseByClient
		if isTimeout(err) {
			o.reason = crier.CloseSlow
		}
		_ = o.conn.SetReadDeadline(time.Now())
	}
	o.broken, o.queue = true, nil
	close(o.done)
}

// patience sets how long the reader waits from now on, unless it is to end.
func (o *outbox) patience(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing {
		_ = o.conn.SetReadDeadline(time.Now().Add(d))
	}
}

// ending reports whether the connection is to close.
func (o *outbox) ending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closing
}

// outcome returns why the connection has ended, and whether the other end may still be there.
func (o *outbox) outcome() (reason crier.CloseReason, reachable bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reason, !o.broken
}
