package actors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crier-im/crier"
)

// joining lets calls of n changes join rounds, each in its own goroutine: what join returns comes on the channel.
type joining struct{ rounds *changeRounds }

func (j joining) call(n int) (*changeCall, <-chan *changeRound) {
	c, got := &changeCall{changes: make([]crier.Change, n)}, make(chan *changeRound, 1)
	go func() { got <- j.rounds.join(c) }()
	synctest.Wait()
	return c, got
}

// runs fails the test unless the call is to run these calls now.
func runs(t *testing.T, what string, got <-chan *changeRound, want ...*changeCall) *changeRound {
	t.Helper()
	select {
	case round := <-got:
		if round == nil {
			round = new(changeRound) // another call runs it
		}
		if !slices.Equal(round.calls, want) {
			t.Errorf("%s: a round of %d calls, want %d", what, len(round.calls), len(want))
		}
		return round
	default:
		t.Fatalf("%s: waits", what)
		return nil
	}
}

func waits(t *testing.T, what string, got <-chan *changeRound) {
	t.Helper()
	select {
	case <-got:
		t.Errorf("%s: a round began", what)
	default:
	}
}

func TestCallsGatherWhileARoundIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := joining{newChangeRounds()}
		a, first := j.call(1)
		ra := runs(t, "a call by itself", first, a)
		b, second := j.call(1)
		c, joined := j.call(1)
		waits(t, "beside a round", second)
		runs(t, "a call that joined", joined)
		j.rounds.finish(ra)
		synctest.Wait()
		rb := runs(t, "after the round", second, b, c)

		d, third := j.call(1)
		time.Sleep(gatherFor - 1)
		synctest.Wait()
		waits(t, "beside a round that hangs", third)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		rd := runs(t, "beside a round that hangs, at last", third, d)

		j.rounds.finish(rb)
		j.rounds.finish(rd) // nobody gathers
		time.Sleep(backMost)
		e, fourth := j.call(1)
		runs(t, "after all rounds", fourth, e)
		_, fifth := j.call(1)
		waits(t, "beside a round, where others have ended before", fifth)
		time.Sleep(gatherFor)
	})
}

func TestARoundWaitsForTheCallersOfTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const took = 8 * time.Millisecond
		j := joining{newChangeRounds()}
		a, first := j.call(1)
		ra := runs(t, "a call by itself", first, a)
		b, second := j.call(1)
		time.Sleep(took)
		j.rounds.finish(ra)
		synctest.Wait()
		waits(t, "until the first caller is back", second)
		c, joined := j.call(1)
		runs(t, "a call that joined", joined)
		rb := runs(t, "when it is", second, b, c)

		time.Sleep(took)
		j.rounds.finish(rb)
		d, third := j.call(1)
		waits(t, "one of two is back", third)
		time.Sleep(took/2 - 1)
		synctest.Wait()
		waits(t, "one of two is back, for a while", third)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		rd := runs(t, "the other does not come", third, d)

		time.Sleep(took)
		j.rounds.finish(rd)
		e, fourth := j.call(1)
		re := runs(t, "it was one, and one is back", fourth, e)
		time.Sleep(time.Second) // of a partition that does not answer
		_, fifth := j.call(1)
		j.rounds.finish(re)
		synctest.Wait()
		waits(t, "after a long round", fifth)
		time.Sleep(backMost + 1)
		synctest.Wait()
		if len(fifth) == 0 {
			t.Error("after a long round: waits for long")
		}
	})
}

func TestAFullRoundTakesNoMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := joining{newChangeRounds()}
		j.call(1)
		a, full := j.call(gatherMost - 1)
		b, _ := j.call(1)
		c, next := j.call(1)
		time.Sleep(gatherFor)
		synctest.Wait()
		runs(t, "a full round", full, a, b)
		runs(t, "the next one", next, c)
	})
}

// silent is a Directory of two partitions, of which the second answers only when ctx ends.
type silent struct{ Router }

func (silent) Partitions() int { return 2 }

func (silent) Request(context.Context, string, string, any) (any, error) { return nil, nil }

func (silent) RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(crier.PartitionID, any, error)) {
	if m, ok := messages[0]; ok {
		take(0, changed{make([]error, len(m.(changeAccounts).calls))}, nil)
	}
	if _, ok := messages[1]; ok {
		<-ctx.Done()
		take(1, nil, crier.CodeTimeout)
	}
}

// A partition that does not answer holds up the calls that touch it, and no others of their round.
func TestACallWaitsForItsOwnPartitions(t *testing.T) {
	t.Parallel()
	users := make(map[crier.PartitionID]crier.UserID)
	for i := 0; len(users) < 2; i++ {
		user := crier.UserID(strconv.Itoa(i))
		users[crier.PartitionOf(1, user, 2)] = user
	}
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		s := NewService("n", silent{}, nil, nil, nil, timeout, nil, slog.New(slog.DiscardHandler))
		call := func(in ...crier.PartitionID) (took time.Duration, err error) {
			began := time.Now()
			var changes []crier.Change
			for _, p := range in {
				changes = append(changes, crier.Change{Op: crier.OpImport, User: users[p]})
			}
			err = s.ChangeAccounts(t.Context(), 1, changes)
			return time.Since(began), err
		}
		var all sync.WaitGroup
		all.Go(func() { call(1) }) // by itself; the others gather meanwhile
		synctest.Wait()
		for _, in := range [][]crier.PartitionID{{1}, {0, 1}, {0}, {0, 0}} {
			all.Go(func() {
				took, err := call(in...)
				if waits := slices.Contains(in, 1); waits != errors.Is(err, crier.CodeTimeout) || waits != (took >= timeout) {
					t.Errorf("a call to %v: %v after %v", in, err, took)
				}
			})
		}
		all.Wait()
		time.Sleep(timeout) // the round ends
	})
}
