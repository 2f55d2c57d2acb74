package transport

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// answerDelay is how long the answer to a heartbeat waits for those to the others that came with it.
const answerDelay = time.Millisecond

// inbound is a connection that a peer has dialed: its requests come in on it, and the answers go back.
type inbound struct {
	*conn
	mux     *Mux
	peer    []byte
	waiting sync.WaitGroup // for raft's answers
}

// serveLink serves a peer until its connection ends. A new connection takes the place of an
// older one of the same peer.
func (m *Mux) serveLink(c net.Conn, peer string) {
	in := &inbound{conn: newConn(c, m.cfg.PeerTimeout, answerDelay, m.metrics.peer(peer)), mux: m, peer: []byte(peer)}
	m.mu.Lock()
	older := m.inbound[peer]
	m.inbound[peer] = c
	m.mu.Unlock()
	if older != nil {
		abort(older)
	}
	m.met(peer)
	var others sync.WaitGroup
	others.Go(in.writeLoop)
	if m.cfg.Silent != nil {
		others.Go(in.watch)
	}
	if err := in.readLoop(in.handle); m.ctx.Err() == nil {
		m.log.Debug("a node's connection has ended", "peer", peer, "err", err)
	}
	others.Wait()
	in.waiting.Wait()
	m.mu.Lock()
	last := m.inbound[peer] == c
	if last {
		delete(m.inbound, peer)
	}
	m.mu.Unlock()
	if last {
		if l, err := m.link(peer); err == nil {
			l.lost()
		}
	}
}

// watch tells when nothing has come for long.
func (in *inbound) watch() {
	patience := in.mux.cfg.HeartbeatTimeout * 3 / 2
	told, wait := false, patience
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for armed := time.Now(); ; armed = time.Now() {
		select {
		case <-in.done:
			return
		case <-timer.C:
		}
		silence := in.silence()
		switch {
		case time.Since(armed) > wait+patience/4: // this process stood still itself: what came meanwhile has not been read
			wait = patience / 4
		case silence < patience:
			told, wait = false, patience-silence
		default:
			if !told {
				in.mux.cfg.Silent(string(in.peer))
			}
			told, wait = true, patience/4
		}
		timer.Reset(wait)
	}
}

// handle takes one request. It never waits: the groups of a connection are independent of each other.
func (in *inbound) handle(f frame) error {
	id, p, body, err := cutRequest(f.body)
	if err != nil {
		return err
	}
	if f.kind == kindPulse {
		return in.pulse(id, body)
	}
	if f.kind < kindHeartbeat || f.kind > kindTimeoutNow {
		return errMalformed
	}
	message, err := decodeRequest(f.kind, in.peer, body)
	if err != nil {
		return err
	}
	g := in.mux.group(p)
	if g == nil || (f.kind == kindVote || f.kind == kindPreVote) && in.mux.cfg.Votes != nil && !in.mux.cfg.Votes(p) {
		in.decline(id, statusNotOpen, "")
		return nil
	}
	if a, ok := message.(*raft.AppendEntriesRequest); ok && g.firstOf(a.Term) && in.mux.cfg.Elected != nil {
		in.mux.cfg.Elected(p, string(in.peer), a.Term)
	}
	in.deliver(g, f, id, message)
	return nil
}

// deliver gives a request to its group, and has a goroutine wait for the answer.
func (in *inbound) deliver(g *group, f frame, id uint32, message any) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: message, RespChan: answer}
	// A heartbeat passes by what waits for a disk. Raft may write its term first, so it is not for this goroutine.
	var handle func(raft.RPC)
	if f.kind == kindHeartbeat {
		handle = g.handler()
	}
	if handle == nil && !g.offer(rpc) {
		in.decline(id, statusBusy, "")
		return
	}
	in.waiting.Go(func() {
		if handle != nil {
			handle(rpc)
		}
		select {
		case r := <-answer:
			in.respond(f.lazy, id, r)
		case <-g.ctx.Done():
			in.decline(id, statusNotOpen, "")
		case <-in.done:
		}
	})
}

func (in *inbound) respond(late bool, id uint32, r raft.RPCResponse) {
	if r.Error != nil {
		in.decline(id, statusFailed, r.Error.Error())
		return
	}
	k := kindAnswer
	if late {
		k |= lazy
	}
	_ = in.send(k, func(b []byte) []byte { // a connection that has failed has told its peer
		return appendMessage(appendAnswer(b, id, statusOK), in.mux.cfg.NodeID, r.Response)
	})
}

func (in *inbound) decline(id uint32, s status, text string) {
	_ = in.send(kindAnswer, func(b []byte) []byte { return append(appendAnswer(b, id, s), text...) })
}
