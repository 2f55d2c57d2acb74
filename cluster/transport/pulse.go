package transport

import (
	"slices"
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

// round is the heartbeats that come for one peer between two beats. They go with the pulses of the next beat and of the one after, and return when the
// second leaves, so raft makes half as many. They return with the answer to the first where that is late or a no, or one of them came late.
type round struct {
	beats []heartbeat
	since time.Time // when the heartbeat before returned, of the group that has waited longest
	done  chan struct{}

	// These are good once done is closed, and of the first pulse.
	sent  time.Time
	taken []bool
	err   error
}

func newPulse(beats []heartbeat) *pulse {
	p := &pulse{beats: beats, call: call{done: make(chan struct{})}}
	p.call.into = p
	return p
}

// send sends the pulse, and has then called when there is an answer, or can be none. It does not block.
func (p *pulse) send(o *outbound, timeout time.Duration, then func()) {
	p.sent = time.Now()
	timer := time.AfterFunc(timeout, func() {
		if o.forget(&p.call) {
			p.call.end(ErrTimeout)
		}
	})
	p.call.then = func() {
		timer.Stop()
		then()
	}
	if err := o.launch(&p.call, kindPulse, 0, p, nil); err != nil {
		p.call.end(err)
	}
}

// join adds a heartbeat to the round that begins with the next beat, and returns its place there; the heartbeat before it returned at last. It fails while the link is down.
func (l *link) join(b heartbeat, last time.Time) (*round, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = time.Now()
	if l.out == nil {
		return nil, 0, linkDown(l.peer, l.err)
	}
	if l.gathers == nil {
		l.gathers = &round{since: last, done: make(chan struct{})}
	}
	r := l.gathers
	r.beats = append(r.beats, b)
	if last.Before(r.since) {
		r.since = last
	}
	return r, len(r.beats) - 1, nil
}

// beat sends the heartbeats that have gathered, and once more those of the beat before, which return; or fails them where the link is down.
func (l *link) beat() {
	l.mu.Lock()
	first, second, out, err := l.gathers, l.goesOn, l.out, l.err
	l.gathers, l.goesOn = nil, nil
	l.mu.Unlock()
	if out == nil {
		first.end(linkDown(l.peer, err))
		second.end(linkDown(l.peer, err))
		return
	}
	if first == nil && second == nil {
		return
	}
	var beats []heartbeat
	if second != nil {
		beats = second.beats
	}
	again := len(beats)
	if first != nil {
		beats = slices.Concat(beats, first.beats)
	}
	p := newPulse(beats)
	p.send(out, l.mux.cfg.PeerTimeout, func() {
		if first != nil {
			l.answered(first, p, again)
		}
	})
	second.end(nil)
}

// answered takes the answer to the first pulse of a round, whose places begin at from.
func (l *link) answered(r *round, p *pulse, from int) {
	if p.call.err != nil {
		r.end(p.call.err)
		return
	}
	r.sent, r.taken = p.sent, p.taken[from:]
	beat := l.mux.cfg.beat()
	if p.sent.Sub(r.since) > beat*6/5 || slices.Contains(r.taken, false) || time.Since(p.sent) > beat/2 {
		r.end(nil)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.goesOn.end(nil) // where a beat came soon after a late one
	l.goesOn = r
}

// end has the heartbeats of the round return.
func (r *round) end(err error) {
	if r != nil {
		r.err = err
		close(r.done)
	}
}

// beatWith makes a heartbeat one of the next round, and waits for it. It reports false when the heartbeat has to go by itself: the peer's
// group did not take it so, or somebody is in a hurry.
func (g *group) beatWith(target raft.ServerAddress, term uint64) (bool, error) {
	g.mu.Lock()
	last, hurry := g.confirmed[string(target)], g.hurry
	alone := g.urgent > 0 || g.mux.cfg.Coalesce < 0 || last.term != term
	g.mu.Unlock()
	if alone {
		return false, nil
	}
	l, err := g.mux.link(string(target))
	if err != nil {
		return false, err
	}
	r, place, err := l.join(heartbeat{g.id, term}, last.returned)
	if err != nil {
		return false, err
	}
	select {
	case <-r.done:
	case <-hurry:
		return false, nil
	case <-g.ctx.Done():
		return false, ErrClosed
	}
	if r.err != nil {
		return false, r.err
	}
	if r.taken[place] {
		g.confirm(target, r.sent, term)
	}
	return r.taken[place], nil
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
