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

func (j joining) call(n int) (*changeCall, <-chan []*changeCall) {
	c, got := &changeCall{changes: make([]crier.Change, n)}, make(chan []*changeCall, 1)
	go func() { got <- j.rounds.join(c) }()
	synctest.Wait()
	return c, got
}

// runs fails the test unless the call is to run these calls now.
func runs(t *testing.T, what string, got <-chan []*changeCall, want ...*changeCall) {
	t.Helper()
	select {
	case calls := <-got:
		if !slices.Equal(calls, want) {
			t.Errorf("%s: a round of %d calls, want %d", what, len(calls), len(want))
		}
	default:
		t.Errorf("%s: waits", what)
	}
}

func waits(t *testing.T, what string, got <-chan []*changeCall) {
	t.Helper()
	select {
	case calls := <-got:
		t.Errorf("%s: a round of %d calls began", what, len(calls))
	default:
	}
}

func TestCallsGatherWhileARoundIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := joining{newChangeRounds()}
		a, first := j.call(1)
		runs(t, "a call by itself", first, a)
		b, second := j.call(1)
		c, joined := j.call(1)
		waits(t, "beside a round", second)
		runs(t, "a call that joined", joined)
		j.rounds.finish()
		synctest.Wait()
		runs(t, "after the round", second, b, c)

		d, third := j.call(1)
		time.Sleep(gatherFor - 1)
		synctest.Wait()
		waits(t, "beside a round that hangs", third)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		runs(t, "beside a round that hangs, at last", third, d)

		j.rounds.finish()
		j.rounds.finish() // nobody gathers
		e, fourth := j.call(1)
		runs(t, "after all rounds", fourth, e)
		_, fifth := j.call(1)
		waits(t, "beside a round, where others have ended before", fifth)
		time.Sleep(gatherFor)
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
