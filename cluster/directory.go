package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crier-im/crier"
)

const (
	// firstPause and lastPause bound the wait before a message goes to the same leader again, or a leader is looked up
	// that was not known. News of another leader end it.
	firstPause = 5 * time.Millisecond
	lastPause  = 200 * time.Millisecond
	// linkPause is that wait after the connection to the leader was lost: protoactor takes as long to dial, and keeps what it can't send.
	linkPause = 500 * time.Millisecond
	// askTimeout bounds a request whose context has no deadline.
	askTimeout = 5 * time.Second
)

var errClosing = errors.New("the node is closing")

// failure is an answer that stands for an error.
type failure interface{ Failure() error }

// Request sends msg to the virtual actor and waits for its answer; an answer with
// a method Failure comes back as its error. While that can't be had, which is crier.CodeTimeout, it is sent again: to the leader that
// comes after one that is lost, or after a pause to the same one; until ctx ends. So a message may be taken more than once, and says
// by itself that it is the same (docs/adr/0015). Actors must not call it from Receive, since it blocks.
func (n *Node) Request(ctx context.Context, kind, identity string, msg any) (any, error) {
	p, ok := crier.PartitionOfIdentity(kind, identity, n.cfg.Partitions)
	if !ok {
		return nil, crier.Errorf(crier.CodeInternal, "there is no actor of kind %q named %s", kind, crier.Quote(identity))
	}
	var result any
	var failed error
	open := map[crier.PartitionID]*errand{p: {message: msg}}
	n.run(ctx, open, func(_ crier.PartitionID, answer any, err error) { result, failed = answer, err })
	if failed != nil {
		return nil, failed
	}
	return result, nil
}

// RequestEach sends each partition its message, by one message a node, and calls take once for each, one at a
// time, with the answer or the error. Each is sent again as Request does it. It returns when all are through.
func (n *Node) RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(p crier.PartitionID, answer any, err error)) {
	open := make(map[crier.PartitionID]*errand, len(messages))
	for p, m := range messages {
		open[p] = &errand{message: m}
	}
	n.run(ctx, open, take)
}

// run does the errands, within askTimeout where ctx has no deadline.
func (n *Node) run(ctx context.Context, open map[crier.PartitionID]*errand, take func(p crier.PartitionID, answer any, err error)) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
	}
	r := &request{node: n, take: take, open: open, inbox: inbox{came: make(chan struct{}, 1)}}
	r.run(ctx)
}

// Term returns the raft term in which a group was led last, as far as this node knows.
func (n *Node) Term(p crier.PartitionID) uint64 { return n.table.leader(p).term }

// News returns a channel that is closed by the next news of who leads a group, or does not any more.
func (n *Node) News() <-chan struct{} { return n.table.next() }

// Partitions returns P.
func (n *Node) Partitions() int { return n.cfg.Partitions }

// request is one call of RequestEach.
type request struct {
	node     *Node
	take     func(crier.PartitionID, any, error)
	open     map[crier.PartitionID]*errand // what has no answer yet
	attempts []*attempt
	inbox    inbox
}

// errand is one message of a request.
type errand struct {
	message any
	to      leader        // whom it was sent to last
	attempt *attempt      // which is under way; nil: none
	pause   time.Duration // the last one
	due     time.Time     // the end of the pause; while an attempt is under way, when it is given up if nothing comes
	err     error         // of the last attempt
}

// rest makes an errand wait before it goes to the same leader again.
func (e *errand) rest(least time.Duration) {
	e.attempt = nil
	e.pause = min(max(2*e.pause, firstPause, least), max(lastPause, least))
	e.due = time.Now().Add(jitter(e.pause))
}

// run ends when every errand has its answer, or ctx does.
func (r *request) run(ctx context.Context) {
	defer r.end()
	for len(r.open) > 0 {
		news := r.node.table.next() // asked for first, so that none is missed
		var again <-chan time.Time
		if due := r.send(ctx); !due.IsZero() {
			again = time.After(time.Until(due))
		}
		select {
		case <-r.inbox.came:
			r.receive()
		case <-news:
		case <-again:
		case <-ctx.Done():
			r.receive() // what has come at the last moment
			r.giveUp(ctx.Err())
		case <-r.node.stop:
			r.giveUp(errClosing)
		}
	}
}

// send sends what can go now, in one attempt a node, and returns when it is to be called again; zero: there is nothing that waits.
func (r *request) send(ctx context.Context) (next time.Time) {
	bundles := make(map[string]*attempt) // by the address of the node's actors
	now := time.Now()
	for p, e := range r.open {
		to, pid := r.node.route(p)
		waits := e.attempt != nil && !e.attempt.silent(now)
		switch {
		case waits && (pid == nil || to == e.to): // the answer may come still
			e.due = e.attempt.heard.Add(silentAfter)
		case e.attempt == nil && (pid == nil || to == e.to) && now.Before(e.due):
		case pid == nil:
			e.rest(0)
		default:
			a := bundles[pid.Address]
			if a == nil {
				a = &attempt{inbox: &r.inbox, address: pid.Address, heard: now}
				bundles[pid.Address] = a
			}
			if e.to != (leader{}) {
				r.node.metrics.repeats.Inc()
			}
			e.to, e.attempt, e.due = to, a, now.Add(silentAfter)
			a.partitions, a.messages = append(a.partitions, p), append(a.messages, e.message)
		}
		if next.IsZero() || e.due.Before(next) {
			next = e.due
		}
	}
	for _, a := range bundles {
		r.attempts = append(r.attempts, a)
		if err := r.node.start(a, timeLeft(ctx)); err != nil {
			r.inbox.put(arrival{a, err})
		}
	}
	return next
}

// receive takes the answers that have come.
func (r *request) receive() {
	for _, x := range r.inbox.take() {
		x.attempt.heard = time.Now()
		answers, err := r.node.answersOf(x)
		for i, p := range x.attempt.partitions {
			if e := r.open[p]; e != nil {
				r.answered(p, e, x.attempt, answers[i], err)
			}
		}
	}
}

// answered takes what came of one errand in one attempt. Any attempt may bring the answer; only the last one
// may bring that there is none.
func (r *request) answered(p crier.PartitionID, e *errand, a *attempt, answer any, err error) {
	if err == nil {
		err = failureOf(answer)
	}
	switch {
	case answer == elsewhere{}:
	case answer != nobody{} && !errors.Is(err, crier.CodeTimeout):
		delete(r.open, p)
		r.take(p, answer, err)
	case e.attempt != a:
	case errors.Is(err, errLinkLost):
		e.err = err
		e.rest(linkPause)
	default:
		e.err = err
		e.rest(0)
	}
}

// giveUp ends what is open.
func (r *request) giveUp(why error) {
	for p, e := range r.open {
		delete(r.open, p)
		_, pid := r.node.route(p)
		switch {
		case pid == nil:
			e.err = &crier.Error{Code: crier.CodeTimeout, Info: fmt.Sprintf("%s: partition %s has no leader", crier.CodeTimeout.Text(), p), Err: errors.Join(why, e.err)}
		case e.attempt != nil:
			e.err = unknown(fmt.Errorf("partition %s: no answer of the actors at %s: %w", p, e.attempt.address, why))
		case e.err == nil:
			e.err = unknown(fmt.Errorf("partition %s: %w", p, why))
		}
		r.take(p, nil, e.err)
	}
}

func (r *request) end() {
	for _, a := range r.attempts {
		r.node.forget(a)
	}
}

// failureOf returns the error that an answer stands for.
func failureOf(answer any) error {
	switch a := answer.(type) {
	case failure:
		return a.Failure()
	case nil:
		return unknown(context.DeadlineExceeded)
	}
	return nil
}

// timeLeft is how long a message may take.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return askTimeout
}
