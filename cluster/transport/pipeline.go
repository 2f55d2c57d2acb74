package transport

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// pipelineDepth is how many appends of a pipeline may be without an answer. Raft's own transport found 2 best:
// while one is on its way the next is gathered, and more only wait in the follower (engines.md measured no gain of 8).
const pipelineDepth = 2

// toldFor is how long a follower is taken to know what it was told. It forgets when its raft starts anew, which mostly breaks the link.
const toldFor = 30 * time.Second

// pipeline is raft.AppendPipeline: appends to one follower that do not wait for each other's answers. One goroutine sends them in
// order, and all that are unanswered again, in order, when the link comes back: raft need not notice.
type pipeline struct {
	group    *group
	target   raft.ServerAddress
	places   chan struct{} // one taken by each append without an answer
	requests chan *future
	ready    chan raft.AppendFuture
	ctx      context.Context // ends with Close, or that of the group
	cancel   context.CancelFunc
	ended    chan struct{} // closed when run has ended
	err      error         // why; good once ended is closed

	flights []*flight     // of run: what is on its way, in order
	pause   time.Duration // of run: before the next attempt

	mu   sync.Mutex
	told told
}

// told is what a follower has confirmed last.
type told struct {
	out                *outbound // on which it was told; nil: nothing yet
	at                 time.Time
	term, last, commit uint64
}

// future is raft.AppendFuture.
type future struct {
	started time.Time
	args    *raft.AppendEntriesRequest
	resp    *raft.AppendEntriesResponse
	done    chan struct{}
	err     error
}

// Error is raft.Future's: it blocks until there is an answer.
func (f *future) Error() error {
	<-f.done
	return f.err
}

// Start is raft.AppendFuture's.
func (f *future) Start() time.Time { return f.started }

// Request is raft.AppendFuture's.
func (f *future) Request() *raft.AppendEntriesRequest { return f.args }

// Response is raft.AppendFuture's.
func (f *future) Response() *raft.AppendEntriesResponse { return f.resp }

// AppendEntriesPipeline is raft.Transport's.
func (g *group) AppendEntriesPipeline(_ raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &pipeline{
		group: g, target: target, places: make(chan struct{}, pipelineDepth), requests: make(chan *future, pipelineDepth),
		ready: make(chan raft.AppendFuture, pipelineDepth), ended: make(chan struct{}), pause: firstPause,
	}
	p.ctx, p.cancel = context.WithCancel(g.ctx)
	if !g.mux.start(p.run) {
		p.cancel()
		return nil, ErrClosed
	}
	return p, nil
}

// AppendEntries is raft.AppendPipeline's. It blocks while the pipeline is full: through an outage up to AppendTimeout. What would tell the follower nothing
// new goes nowhere, and does not come out of the pipeline: raft tells the commit index again and again.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &future{started: time.Now(), args: args, resp: resp, done: make(chan struct{})}
	select {
	case <-p.ended:
		return nil, p.err
	default:
	}
	if p.knows(args) {
		close(f.done)
		return f, nil
	}
	select {
	case p.places <- struct{}{}:
		p.requests <- f // has room for as many as there are places
		return f, nil
	case <-p.ended:
		return nil, p.err
	}
}

// knows reports whether the follower has confirmed all that an append says, and nothing else is on its way to it.
func (p *pipeline) knows(args *raft.AppendEntriesRequest) bool {
	if len(args.Entries) > 0 || len(p.places) > 0 {
		return false
	}
	p.mu.Lock()
	t := p.told
	p.mu.Unlock()
	return t.out != nil && t.term == args.Term && t.last == args.PrevLogEntry && t.commit == args.LeaderCommitIndex && time.Since(t.at) < toldFor && t.out.failure() == nil
}

// Consumer is raft.AppendPipeline's. Only appends with an answer come out: raft takes whatever comes for contact with the
// follower, and would go on leading by the failures of a dead link. It hears of those from its next append.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

// Close is raft.AppendPipeline's. It does not block; a second Close does nothing.
func (p *pipeline) Close() error {
	p.cancel()
	return nil
}

// flight is one append of a pipeline on its way: a whole request, or a part of one.
type flight struct {
	future *future
	args   *raft.AppendEntriesRequest
	resp   raft.AppendEntriesResponse
	out    *outbound
	call   *call // nil: not sent
}

// run sends what is asked for until the pipeline or the group closes, or an append fails.
func (p *pipeline) run() {
	p.err = p.fly()
	p.recall()
	close(p.ended)
	p.cancel()
	for _, f := range p.flights {
		f.future.fail(p.err)
	}
	for {
		select {
		case f := <-p.requests: // one that comes after this nobody waits for: raft does not ask the futures of a pipeline
			f.fail(p.err)
		default:
			return
		}
	}
}

// fail ends a future without an answer. The parts of a request share one.
func (f *future) fail(err error) {
	select {
	case <-f.done:
	default:
		f.err = err
		close(f.done)
	}
}

func (p *pipeline) fly() (err error) {
	timer := time.NewTimer(p.group.mux.cfg.AppendTimeout)
	defer timer.Stop()
	for err == nil {
		var answered <-chan struct{}
		if timer.Stop(); len(p.flights) > 0 {
			answered = p.flights[0].call.done
			timer.Reset(time.Until(p.deadline()))
		}
		select {
		case f := <-p.requests:
			for _, part := range cut(f.args) {
				p.flights = append(p.flights, &flight{future: f, args: part})
			}
			err = p.send()
		case <-answered:
			err = p.land()
		case <-timer.C:
			err = ErrTimeout
		case <-p.ctx.Done():
			err = raft.ErrPipelineShutdown
		}
	}
	return err
}

// deadline is that of the first flight.
func (p *pipeline) deadline() time.Time {
	return p.flights[0].future.started.Add(p.group.mux.cfg.AppendTimeout)
}

// send sends what is not on its way yet; after a failure of the link or of the group there, all of it, in order.
func (p *pipeline) send() error {
	for {
		err := p.sendOnce()
		if !retryable(err) {
			return err
		}
		if err := p.retreat(err); err != nil {
			return err
		}
	}
}

func (p *pipeline) sendOnce() (err error) {
	for _, f := range p.flights {
		if f.call == nil {
			f.out, f.call, err = p.group.startAppend(p.target, f.args, &f.resp, p.deadline(), p.ctx.Done())
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// retreat gives up what is on its way and pauses, if there is time for another attempt.
func (p *pipeline) retreat(err error) error {
	p.recall()
	if time.Now().After(p.deadline()) {
		return err
	}
	pause := pauseAfter(err, p.pause)
	p.pause = nextPause(pause)
	return p.group.sleep(pause, p.ctx.Done())
}

// recall makes all flights unsent, so that no answer can come to them.
func (p *pipeline) recall() {
	for _, f := range p.flights {
		if f.call != nil && !f.out.forget(f.call) {
			<-f.call.done
		}
		f.call = nil
	}
}

// land takes the answer to the first flight. Raft hears of a whole request, or of the first part that was turned down.
func (p *pipeline) land() error {
	first := p.flights[0]
	if err := first.call.err; retryable(err) {
		if err := p.retreat(err); err != nil {
			return err
		}
		return p.send()
	} else if err != nil {
		return err
	}
	p.pause = firstPause
	p.flights = slices.Delete(p.flights, 0, 1)
	if more := len(p.flights) > 0 && p.flights[0].future == first.future; more && first.resp.Success {
		return nil
	}
	p.flights = slices.DeleteFunc(p.flights, func(f *flight) bool { // what stood behind a part that was turned down
		if f.future == first.future {
			f.out.forget(f.call)
		}
		return f.future == first.future
	})
	f := first.future
	*f.resp = first.resp
	if f.resp.Success {
		p.mu.Lock()
		p.told = told{first.out, time.Now(), f.args.Term, f.args.PrevLogEntry + uint64(len(f.args.Entries)), f.args.LeaderCommitIndex}
		p.mu.Unlock()
	}
	close(f.done)
	<-p.places
	select {
	case p.ready <- f:
		return nil
	case <-p.ctx.Done():
		return raft.ErrPipelineShutdown
	}
}
