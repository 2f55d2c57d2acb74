package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// snapshotStep is how much of a snapshot is read and written at a time.
const snapshotStep = 256 << 10

// minSnapshotRate lets a step of each of 100 snapshots through within SnapshotStall.
const minSnapshotRate = 1_000_000

// InstallSnapshot is raft.Transport's. The bytes go over a connection of their own, so that nothing else waits behind them. Like an append it
// waits for the link and for the group there, up to AppendTimeout; from then on progress is what
// bounds it: SnapshotStall between bytes, PeerTimeout between signs of life, SnapshotRestore once all has arrived.
// data must have exactly args.Size bytes: the other node never gets the last of them else.
func (g *group) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	deadline := time.Now().Add(g.mux.cfg.AppendTimeout)
	for pause := firstPause; ; pause = nextPause(pause) {
		s, err := g.offerSnapshot(target, args, deadline)
		if err == nil {
			defer s.end()
			return s.carry(resp, data)
		}
		if !retryable(err) || time.Now().After(deadline) {
			return err
		}
		pause = pauseAfter(err, pause)
		if err := g.sleep(pause, g.ctx.Done()); err != nil {
			return err
		}
	}
}

// sending is the connection on which a snapshot is sent.
type sending struct {
	net.Conn
	ctx     context.Context // the group's
	mux     *Mux
	peer    string
	size    int64
	in      *bufio.Reader
	traffic *traffic
	stop    func() bool // no longer ends the connection with the group
}

func (s *sending) end() {
	s.stop()
	abort(s.Conn)
}

// offerSnapshot connects, and asks the group there to take the snapshot.
func (g *group) offerSnapshot(target raft.ServerAddress, args *raft.InstallSnapshotRequest, deadline time.Time) (*sending, error) {
	m, peer := g.mux, string(target)
	l, err := m.link(peer)
	if err != nil {
		return nil, err
	}
	if _, err := l.wait(deadline, g.ctx.Done()); err != nil {
		return nil, err
	}
	c, err := m.dial(g.ctx, peer, forSnapshot)
	if err != nil {
		return nil, linkDown(peer, err)
	}
	s := &sending{Conn: c, ctx: g.ctx, mux: m, peer: peer, size: args.Size, traffic: l.traffic}
	s.stop = context.AfterFunc(g.ctx, func() { abort(c) })
	s.in = bufio.NewReader(&patientReader{c, m.cfg.PeerTimeout, l.traffic})
	if err := s.offer(g, args); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *sending) offer(g *group, args *raft.InstallSnapshotRequest) error {
	b := appendRequestHead(beginFrame(nil, kindSnapshot), 0, g.id)
	b, err := endFrame(appendMessage(b, s.mux.cfg.NodeID, args), 0)
	if err != nil {
		return err
	}
	if err := s.write(b); err != nil {
		return linkDown(s.peer, err)
	}
	st, text, err := s.status()
	if err != nil {
		return linkDown(s.peer, err)
	}
	if err := st.err(text); err != nil {
		return err
	}
	if st != statusReady {
		return errMalformed
	}
	return nil
}

func (s *sending) write(b []byte) error {
	if err := s.SetWriteDeadline(time.Now().Add(s.mux.cfg.SnapshotStall)); err != nil {
		return err
	}
	n, err := s.Conn.Write(b)
	s.traffic.bytesOut.Add(float64(n))
	s.traffic.writes.Inc()
	return err
}

// status reads the next answer, past all signs of life.
func (s *sending) status() (status, []byte, error) {
	var scratch []byte
	for {
		f, err := readFrame(s.in, &scratch)
		if err != nil {
			return 0, nil, err
		}
		switch f.kind {
		case kindAlive:
		case kindAnswer:
			_, st, rest, err := cutAnswer(f.body)
			return st, rest, err
		default:
			return 0, nil, errMalformed
		}
	}
}

// carry sends the bytes while it listens: for an answer that comes early, and for signs of life.
func (s *sending) carry(resp *raft.InstallSnapshotResponse, data io.Reader) error {
	answered := make(chan error, 1)
	go func() {
		st, text, err := s.status()
		if err == nil {
			err = st.err(text)
		}
		if err == nil {
			err = decodeAnswer([]byte(s.peer), text, resp)
		}
		if err != nil {
			abort(s.Conn) // ends a write that nobody reads
		}
		answered <- err
	}()
	sent := s.stream(data)
	if sent != nil {
		abort(s.Conn)
	}
	err := <-answered // bounded by the signs of life, and by what bounds the other node
	if err == nil || sent != nil && !errors.Is(sent, ErrLinkDown) {
		err = sent
	}
	if err != nil {
		return fmt.Errorf("send a snapshot to node %s: %w", s.peer, err)
	}
	return nil
}

// stream sends exactly size bytes, the last step only when data ends there.
func (s *sending) stream(data io.Reader) error {
	if s.size == 0 {
		return atEnd(data)
	}
	b := make([]byte, min(s.size, snapshotStep))
	for left := s.size; left > 0; {
		n, err := io.ReadFull(data, b[:min(left, snapshotStep)])
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("%w: it ends %d bytes early", ErrSnapshotSize, left-int64(n))
			}
			return err
		}
		if left -= int64(n); left == 0 {
			if err := atEnd(data); err != nil {
				return err
			}
		}
		if err := s.mux.snapshots.WaitN(s.ctx, n); err != nil {
			return err
		}
		if err := s.write(b[:n]); err != nil {
			return linkDown(s.peer, err)
		}
	}
	return nil
}

// atEnd returns an error unless data has ended.
func atEnd(data io.Reader) error {
	switch _, err := io.ReadFull(data, make([]byte, 1)); {
	case err == nil:
		return fmt.Errorf("%w: it is longer", ErrSnapshotSize)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// receiving is the connection on which a snapshot comes, and raft's io.Reader of its bytes.
type receiving struct {
	net.Conn
	mux   *Mux
	peer  string
	in    io.Reader // ends after the size
	count atomic.Int64
}

// Read is io.Reader's.
func (r *receiving) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	r.count.Add(int64(n))
	return n, err
}

// serveSnapshot takes one snapshot.
func (m *Mux) serveSnapshot(c net.Conn, peer string) {
	in := bufio.NewReaderSize(&patientReader{c, m.cfg.SnapshotStall, m.metrics.peer(peer)}, snapshotStep)
	r := &receiving{Conn: c, mux: m, peer: peer}
	g, request, err := r.request(in)
	if err != nil {
		m.log.Warn("a snapshot could not be taken", "peer", peer, "err", err)
		return
	}
	if g == nil {
		_ = r.say(statusNotOpen, nil)
		return
	}
	r.in = io.LimitReader(in, request.Size)
	answer := make(chan raft.RPCResponse, 1)
	if !g.offer(raft.RPC{Command: request, Reader: r, RespChan: answer}) {
		_ = r.say(statusBusy, nil)
		return
	}
	if err := r.await(g, request.Size, answer); err != nil {
		m.log.Warn("a snapshot was given up", "peer", peer, "partition", g.id, "bytes", r.count.Load(), "of", request.Size, "err", err)
	}
}

// request reads what the snapshot is, and finds its group: nil when it is not open here.
func (r *receiving) request(in *bufio.Reader) (*group, *raft.InstallSnapshotRequest, error) {
	var scratch []byte
	f, err := readFrame(in, &scratch)
	if err != nil {
		return nil, nil, err
	}
	_, p, body, err := cutRequest(f.body)
	if err != nil {
		return nil, nil, err
	}
	message, err := decodeRequest(f.kind, []byte(r.peer), body)
	if err != nil {
		return nil, nil, err
	}
	request, ok := message.(*raft.InstallSnapshotRequest)
	if !ok {
		return nil, nil, errMalformed
	}
	return r.mux.group(p), request, nil
}

// await waits for raft's answer, and shows the other node meanwhile that this one lives. It gives up when raft makes no progress. The
// connection ends with it, and raft's reading with that.
func (r *receiving) await(g *group, size int64, answer <-chan raft.RPCResponse) error {
	if err := r.say(statusReady, nil); err != nil {
		return err
	}
	alive := time.NewTicker(r.mux.cfg.PeerTimeout / 4)
	defer alive.Stop()
	moved, last := time.Now(), int64(0)
	for {
		select {
		case a := <-answer:
			return r.answer(a)
		case <-g.ctx.Done():
			return ErrClosed
		case <-alive.C:
		}
		if n := r.count.Load(); n != last {
			moved, last = time.Now(), n
		}
		limit := r.mux.cfg.SnapshotStall
		if last == size {
			limit = r.mux.cfg.SnapshotRestore
		}
		if time.Since(moved) > limit {
			return ErrTimeout
		}
		if err := r.write(beginFrame(nil, kindAlive)); err != nil {
			return err
		}
	}
}

func (r *receiving) answer(a raft.RPCResponse) error {
	if a.Error != nil {
		return errors.Join(a.Error, r.say(statusFailed, []byte(a.Error.Error())))
	}
	return r.say(statusOK, appendMessage(nil, r.mux.cfg.NodeID, a.Response))
}

func (r *receiving) say(s status, text []byte) error {
	return r.write(append(appendAnswer(beginFrame(nil, kindAnswer), 0, s), text...))
}

func (r *receiving) write(b []byte) error {
	b, err := endFrame(b, 0)
	if err != nil {
		return err
	}
	if err := r.SetWriteDeadline(time.Now().Add(r.mux.cfg.PeerTimeout)); err != nil {
		return err
	}
	_, err = r.Conn.Write(b)
	return err
}
