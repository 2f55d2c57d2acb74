package actors

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/crier-im/crier"
)

const (
	// gatherFor is how long calls gather for a round at most while another is under way, which holds them up if a partition does
	// not answer. A call by itself never waits. A call over many accounts has one or two in each partition, and what a message to a
	// partition and a command of its log cost hardly depends on how many changes are in them: eight calls that go together cost
	// little more than one.
	gatherFor = 25 * time.Millisecond
	// backWithin is how long after a round the next one waits for its callers to come back with their next calls, as a part of what the round
	// took, and backMost at most: callers that were answered together come together.
	backWithin = 0.5
	backMost   = 10 * time.Millisecond
	// gatherMost is how many changes close a round for more.
	gatherMost = 10_000
)

// changeCall is one call of ChangeAccounts on its way through a round.
type changeCall struct {
	app     crier.AppID
	changes []crier.Change
	parts   int   // partitions that it touches
	open    int   // of them, that have not answered yet
	refused error // of the check: nothing was changed
	failed  error // of a partition, after the check
	done    chan struct{}
}

// part is what one call has for one partition.
type part struct {
	call    *changeCall
	places  []int // of the changes within the call
	changes []crier.Change
}

// changeRounds gathers calls that change accounts, while a round is under way, for the next one. The call that opens a
// round runs it, for itself and for those that have joined.
type changeRounds struct {
	mu      sync.Mutex
	open    *changeRound // takes more calls; nil: the next call opens one
	running int
	ended   chan struct{} // capacity 1: a round has ended
	last    int           // calls of the round that ended last
	back    time.Time     // until when its callers are waited for
}

type changeRound struct {
	calls   []*changeCall
	changes int
	began   time.Time
	want    int           // calls that it waits for
	full    chan struct{} // capacity 1: they are there, or it takes no more
}

func newChangeRounds() *changeRounds { return &changeRounds{ended: make(chan struct{}, 1)} }

// join adds a call to the round that gathers. It returns a round that the caller must run, and then
// finish, or nil where another does.
func (r *changeRounds) join(c *changeCall) *changeRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	if round := r.open; round != nil {
		if round.add(c); round.changes >= gatherMost {
			r.open = nil
		}
		if r.open == nil || len(round.calls) == round.want {
			signal(round.full)
		}
		return nil
	}
	round := &changeRound{full: make(chan struct{}, 1)}
	round.add(c)
	r.gather(round)
	r.running++
	round.began = time.Now()
	return round
}

// gather opens a round: until another one ends, for gatherFor at most, and then until the callers of that are back, or don't come in time. The caller holds
// mu, which is free meanwhile.
func (r *changeRounds) gather(round *changeRound) {
	r.open = round
	beside := 0 // calls that have come while another round was under way
	if r.running > 0 {
		select { // who has waited before may have missed it
		case <-r.ended:
		default:
		}
		r.wait(r.ended, gatherFor)
		beside = len(round.calls)
	}
	round.want = beside + r.last
	if rest := time.Until(r.back); rest > 0 && r.open == round && len(round.calls) < round.want {
		r.wait(round.full, rest)
	}
	if r.open == round {
		r.open = nil
	}
}

// wait waits for a signal, not longer than d. The caller holds mu, which is free meanwhile.
func (r *changeRounds) wait(s <-chan struct{}, d time.Duration) {
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-s:
	case <-time.After(d):
	}
}

// finish ends a round that join has returned: what gathers goes next.
func (r *changeRounds) finish(round *changeRound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	now := time.Now()
	took := time.Duration(backWithin * float64(now.Sub(round.began)))
	r.last, r.back = len(round.calls), now.Add(min(took, backMost))
	signal(r.ended)
}

// signal sets a flag of capacity 1.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *changeRound) add(c *changeCall) {
	r.calls, r.changes = append(r.calls, c), r.changes+len(c.changes)
}

// ChangeAccounts applies changes in order, all or nothing. Within one partition
// that is one command of its log. Over several, all are asked first whether they would take their part, and
// told to do so if all would; an account that another call deletes in between is the one case
// where some partitions have changed when the call fails, and then the error is CodeInternal and says so.
func (s *Service) ChangeAccounts(ctx context.Context, app crier.AppID, changes []crier.Change) error {
	if len(changes) == 0 {
		return nil
	}
	c := &changeCall{app: app, changes: changes, done: make(chan struct{})}
	if round := s.rounds.join(c); round != nil {
		go func() { // this call may have its answers before others of the round
			s.runRound(context.WithoutCancel(ctx), round.calls)
			s.rounds.finish(round)
		}()
	}
	select {
	case <-c.done: // a round takes no longer than the service's timeout
		return c.result()
	case <-ctx.Done():
		return &crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text(), Err: ctx.Err()}
	}
}

// result is what the caller of a call is told.
func (c *changeCall) result() error {
	e := crier.AsError(c.failed)
	switch {
	case c.refused != nil:
		return c.refused
	case e == nil:
		return nil
	case c.parts > 1 && (errors.Is(e, crier.CodeUnknownAccount) || errors.Is(e, crier.CodeAccountTagsFull) || errors.Is(e, crier.CodeBadAccountCount)):
		return crier.Errorf(crier.CodeInternal, "the accounts were changed by another call at the same time; some of this call's changes may stand, send it again (%s)", e.Info)
	}
	return e
}

// runRound brings calls to their partitions, and ends each once all that it touches have answered.
func (s *Service) runRound(ctx context.Context, calls []*changeCall) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	parts := s.parts(calls)
	s.checkRound(ctx, parts)
	for _, c := range calls {
		if c.open = c.parts; c.refused != nil {
			close(c.done)
		}
	}
	messages, named := make(map[crier.PartitionID]any, len(parts)), make(map[crier.PartitionID][]crier.AccountChanges, len(parts))
	for p, some := range parts {
		left := slices.DeleteFunc(some, func(x part) bool { return x.call.refused != nil })
		if parts[p] = left; len(left) > 0 {
			calls := changesOf(left)
			for i := range calls {
				calls[i].ID = s.commands.begin(p)
			}
			named[p], messages[p] = calls, changeAccounts{calls}
		}
	}
	s.dir.RequestEach(ctx, messages, func(p crier.PartitionID, answer any, err error) {
		changed, ok := answer.(changed)
		for i, x := range parts[p] {
			switch {
			case err != nil:
				x.call.failed = err
			case ok && i < len(changed.errs) && changed.errs[i] != nil:
				x.call.failed = changed.errs[i]
			}
			s.commands.end(p, named[p][i].ID)
			if x.call.open--; x.call.open == 0 {
				close(x.call.done)
			}
		}
	})
}

// parts groups the changes of calls by partition.
func (s *Service) parts(calls []*changeCall) map[crier.PartitionID][]part {
	parts := make(map[crier.PartitionID][]part)
	for _, c := range calls {
		for p, places := range s.byPartition(c.app, len(c.changes), func(i int) crier.UserID { return c.changes[i].User }) {
			if parts[p] == nil {
				parts[p] = make([]part, 0, len(calls))
			}
			parts[p] = append(parts[p], part{c, places, pick(c.changes, places)})
			c.parts++
		}
	}
	return parts
}

func changesOf(parts []part) []crier.AccountChanges {
	calls := make([]crier.AccountChanges, len(parts))
	for i, x := range parts {
		calls[i] = crier.AccountChanges{App: x.call.app, Changes: x.changes}
	}
	return calls
}

// checkRound asks the partitions of every call that could be refused by one and taken by another. A
// call is refused with the error of its first change, in the caller's order, that would be.
func (s *Service) checkRound(ctx context.Context, parts map[crier.PartitionID][]part) {
	asked := make(map[crier.PartitionID][]part, len(parts))
	messages := make(map[crier.PartitionID]any, len(parts))
	for p, some := range parts {
		ask := slices.DeleteFunc(slices.Clone(some), func(x part) bool { return x.call.parts == 1 || alwaysTaken(x.changes) })
		if len(ask) > 0 {
			asked[p], messages[p] = ask, checkChanges{changesOf(ask)}
		}
	}
	first := make(map[*changeCall]int)
	s.dir.RequestEach(ctx, messages, func(p crier.PartitionID, answer any, err error) {
		checked, ok := answer.(checked)
		for i, x := range asked[p] {
			switch at, refused := first[x.call]; {
			case err != nil:
				x.call.refused, first[x.call] = err, -1
			case !ok || i >= len(checked.refusals) || checked.refusals[i].err == nil:
			case !refused || x.places[checked.refusals[i].at] < at:
				x.call.refused, first[x.call] = checked.refusals[i].err, x.places[checked.refusals[i].at]
			}
		}
	})
}

// alwaysTaken reports whether no change can be refused.
func alwaysTaken(changes []crier.Change) bool {
	for i := range changes {
		if changes[i].Op != crier.OpImport {
			return false
		}
	}
	return true
}
