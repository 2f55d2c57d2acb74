package actors

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// invoker is an actor, as a mailbox knows it.
type invoker struct {
	user   func(message any)
	system func(message any)
	failed func(reason, message any)
}

func (i *invoker) InvokeUserMessage(message any)       { i.user(message) }
func (i *invoker) InvokeSystemMessage(message any)     { i.system(message) }
func (i *invoker) EscalateFailure(reason, message any) { i.failed(reason, message) }

func newMailbox(d *dispatcher, i *invoker) actor.Mailbox {
	m := d.mailbox()
	m.RegisterHandlers(i, nil)
	m.Start()
	return m
}

// Every message is taken once, by one worker of an actor at a time, in the order that its sender has sent it, and never are more workers under way than there may be.
func TestDispatcher(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 3} {
		d := &dispatcher{most: most}
		const actors, senders, each = 20, 4, 500
		var under, worst atomic.Int32
		var done sync.WaitGroup
		done.Add(actors * senders * each)
		var boxes []actor.Mailbox
		got := make([][senders][]int, actors)
		for a := range actors {
			boxes = append(boxes, newMailbox(d, &invoker{user: func(message any) { // the race detector sees two at a time
				defer done.Done()
				defer under.Add(-1)
				if now := under.Add(1); now > worst.Load() {
					worst.Store(now)
				}
				m := message.([2]int)
				got[a][m[0]] = append(got[a][m[0]], m[1])
			}}))
		}
		for s := range senders {
			go func() {
				for i := range each {
					for _, m := range boxes {
						m.PostUserMessage([2]int{s, i})
					}
				}
			}()
		}
		done.Wait()
		if int(worst.Load()) > most {
			t.Errorf("%d ran at once, with %d workers", worst.Load(), most)
		}
		for a := range got {
			for _, messages := range got[a] {
				if len(messages) != each || !slices.IsSorted(messages) {
					t.Errorf("with %d workers, actor %d took %d of %d, in order: %t", most, a, len(messages), each, slices.IsSorted(messages))
				}
			}
		}
	}
}

// An actor that always has something to do leaves the only worker to others.
func TestTurns(t *testing.T) {
	t.Parallel()
	d := &dispatcher{most: 1}
	var busy actor.Mailbox
	var others atomic.Bool
	taken := make(chan int, 1)
	n := 0
	busy = newMailbox(d, &invoker{user: func(message any) {
		if n++; others.Load() {
			taken <- n
			return
		}
		busy.PostUserMessage(message)
	}})
	hold := make(chan struct{})
	newMailbox(d, &invoker{user: func(any) { <-hold }}).PostUserMessage("hold")
	busy.PostUserMessage("again")
	newMailbox(d, &invoker{user: func(any) { others.Store(true) }}).PostUserMessage("me too")
	close(hold)
	if n := <-taken; n != turn+1 {
		t.Errorf("another had its turn after %d messages", n)
	}
}

// Messages of the system go first. While a failure is being decided about, no others are taken; the one that failed is not taken again.
func TestFailureSuspends(t *testing.T) {
	t.Parallel()
	d := &dispatcher{most: 1}
	var m actor.Mailbox
	var took []any
	failed, empty := make(chan any, 1), make(chan struct{})
	m = newMailbox(d, &invoker{
		user: func(message any) {
			switch took = append(took, message); message {
			case "fail":
				panic(errors.New("no"))
			case "last":
				close(empty)
			}
		},
		system: func(message any) { took = append(took, message) },
		failed: func(_, message any) {
			m.PostSystemMessage(new(actor.SuspendMailbox))
			failed <- message
		},
	})
	hold := make(chan struct{})
	newMailbox(d, &invoker{user: func(any) { <-hold }}).PostUserMessage("hold")
	m.PostUserMessage("first")
	m.PostUserMessage("fail")
	m.PostUserMessage("second")
	m.PostSystemMessage("system")
	if n := m.UserMessageCount(); n != 3 {
		t.Errorf("%d messages wait", n)
	}
	close(hold)
	if message := <-failed; message != "fail" {
		t.Errorf("%v failed", message)
	}
	m.PostSystemMessage("decided")
	m.PostUserMessage("last")
	select {
	case <-empty:
		t.Error("a message was taken before the supervisor had decided")
	case <-time.After(20 * time.Millisecond):
	}
	m.PostSystemMessage(new(actor.ResumeMailbox))
	<-empty
	if want := []any{"system", "first", "fail", "decided", "second", "last"}; !slices.Equal(took, want) {
		t.Errorf("it took %v, and not %v", took, want)
	}
}

// What always has something waiting keeps no more than that.
func TestFifoStaysSmall(t *testing.T) {
	t.Parallel()
	var f fifo[int]
	f.push(0)
	for i := range 100_000 {
		f.push(i + 1)
		if v := f.pop(); v != i {
			t.Fatalf("%d came instead of %d", v, i)
		}
	}
	if f.len() != 1 || cap(f.values) > 16 {
		t.Errorf("%d wait, and there is room for %d", f.len(), cap(f.values))
	}
}
