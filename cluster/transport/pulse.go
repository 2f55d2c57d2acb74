package transport

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// pulseWait is how long the answer to a pulse waits for a group that does not take its heartbeat at once: others must not.
const pulseWait = 50 * time.Millisecond

// heartbeat is one of a group in a pulse.
type heartbeat struct {
	group crier.PartitionID
	term  uint64
}

// pulse is the heartbeats of many groups to one peer, which has confirmed each in its term before. They share a frame, and so do the answers. An answer
// is no more than whether the peer's group has taken the heartbeat; what else there is to say comes of one that goes by itself.
type pulse struct {
	beats []heartbeat
	sent  time.Time
	taken []bool // by beats; good once call.done is closed without an error
	call  call
}

func newPulse() *pulse {
	p := &pulse{call: call{done: make(chan struct{})}}
	p.call.into = p
	return p
}

// send sends the pulse. It does not block.
func (p *pulse) send(o *outbound, timeout time.Duration) {
	p.sent = time.Now()
	if err := o.launch(&p.call, kindPulse, 0, p, nil); err != nil {
		p.call.end(err)
		return
	}
	time.AfterFunc(timeout, func() {
		if o.forget(&p.call) {
			p.call.end(ErrTimeout)
		}
	})
}

// join adds a heartbeat to the pulse that goes with the next beat, and returns its place there. It fails while the link is down.
func (l *link) join(b heartbeat) (*pulse, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = time.Now()
	if l.out == nil {
		return nil, 0, linkDown(l.peer, l.err)
	}
	if l.pulse == nil {
		l.pulse = newPulse()
	}
	l.pulse.beats = append(l.pulse.beats, b)
	return l.pulse, len(l.pulse.beats) - 1, nil
}

// beat sends the heartbeats that have gathered, or fails them where the link is down.
func (l *link) beat() {
	l.mu.Lock()
	p, out, err := l.pulse, l.out, l.err
	l.pulse = nil
	l.mu.Unlock()
	switch {
	case p == nil:
	case out == nil:
		p.call.end(linkDown(l.peer, err))
	default:
		p.send(out, l.mux.cfg.PeerTimeout)
	}
}

// beatWith makes a heartbeat one of the next pulse, and waits for its answer. It reports false when the heartbeat has to go by itself: the peer's
// group did not take it so, or somebody is in a hurry.
func (g *group) beatWith(target raft.ServerAddress, term uint64) (bool, error) {
	g.mu.Lock()
	alone, hurry := g.urgent > 0 || g.mux.cfg.Coalesce < 0 || g.confirmed[string(target)].term != term, g.hurry
	g.mu.Unlock()
	if alone {
		return false, nil
	}
	l, err := g.mux.link(string(target))
	if err != nil {
		return false, err
	}
	p, place, err := l.join(heartbeat{g.id, term})
	if err != nil {
		return false, err
	}
	select {
	case <-p.call.done:
	case <-hurry:
		return false, nil
	case <-g.ctx.Done():
		return false, ErrClosed
	}
	if p.call.err != nil {
		return false, p.call.err
	}
	if p.taken[place] {
		g.confirm(target, confirmation{p.sent, term})
	}
	return p.taken[place], nil
}

// pulse has groups take the heartbeats of a pulse, and answers for all of them once they have, or pulseWait is over.
func (in *inbound) pulse(id uint32, body []byte) error {
	beats, err := decodePulse(body)
	if err != nil {
		return err
	}
	taken, done := make([]atomic.Bool, len(beats)), make(chan struct{})
	in.waiting.Go(func() { // one may have to wait for a disk, after an election that was lost
		defer close(done)
		for i, b := range beats {
			taken[i].Store(in.take(b))
		}
	})
	in.waiting.Go(func() {
		timer := time.NewTimer(pulseWait)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		case <-in.done:
			return
		}
		_ = in.send(kindAnswer, func(b []byte) []byte {
			b = appendAnswer(b, id, statusOK)
			for i := range taken {
				b = append(b, flagIf(yes, taken[i].Load()))
			}
			return b
		})
	})
	return nil
}

// take has a group take a heartbeat of its leader. It reports false where that is not to be said in a word: the group is not open or in
// another term, so raft may have something to write or to tell.
func (in *inbound) take(b heartbeat) bool {
	g := in.mux.group(b.group)
	if g == nil || g.term.Load() != b.term {
		return false
	}
	handle := g.handler()
	if handle == nil {
		return false
	}
	answer := make(chan raft.RPCResponse, 1)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: in.peer, Addr: in.peer}
	handle(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: header, Term: b.term}, RespChan: answer})
	select {
	case r := <-answer:
		m, ok := r.Response.(*raft.AppendEntriesResponse)
		return r.Error == nil && ok && m.Success
	default:
		return false
	}
}
