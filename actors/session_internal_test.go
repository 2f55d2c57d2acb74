package actors

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// deafConn is a connection that takes everything.
type deafConn struct{ crier.Conn }

func (deafConn) Deliver(*crier.Delivery) {}
func (deafConn) Gone() bool              { return false }

// oneUser lets sessions in, and notes it.
type oneUser struct {
	Router
	attached chan attachSession
	open     chan struct{} // closed: it lets in; nil: always
	user     *actor.PID
}

func (o *oneUser) Request(_ context.Context, _, _ string, msg any) (any, error) {
	o.attached <- msg.(attachSession)
	if o.open != nil {
		<-o.open
	}
	return attached{o.user, 1}, nil
}

func (*oneUser) Term(crier.PartitionID) uint64 { return 1 }

// noApps knows no app.
type noApps struct{ SystemReplica }

func (noApps) App(crier.AppID) *crier.App { return nil }

// newSession starts the actor of a session, and the user actor that it has: what that one is told comes out of the channel.
func newSession(t *testing.T) (root *actor.RootContext, pid *actor.PID, dir *oneUser, told chan any) {
	system := actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })))
	t.Cleanup(system.Shutdown)
	told = make(chan any, 16)
	dir = &oneUser{attached: make(chan attachSession, 16), user: system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch ctx.Message().(type) {
		case acknowledge, confirmSession:
			told <- ctx.Message()
		}
	}))}
	m := NewMetrics(nil)
	service := &Service{system: noApps{}, dir: dir, metrics: m, log: slog.New(slog.DiscardHandler), sessions: newAttachments()}
	pid = system.Root.Spawn(crossingProps(m, func() actor.Actor {
		return &session{service: service, login: &crier.Login{Session: "s"}, conn: deafConn{}}
	}))
	return system.Root, pid, dir, told
}

func next[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatalf("not within a minute: %s", what)
	}
	return v
}

// A message that comes again although the client has acknowledged it was acknowledged to another user actor: it is acknowledged again, else the window of the
// session would stay full.
func TestWhatIsAcknowledgedIsAcknowledgedAgain(t *testing.T) {
	t.Parallel()
	root, s, dir, told := newSession(t)
	root.Send(s, begin{dir.user, 1})
	next(t, "the confirmation", told)
	d := &crier.Delivery{Seq: 7, Kept: true, Accepted: time.Now()}
	root.Send(s, d)
	root.Send(s, d) // not acknowledged yet: nothing is said
	root.Send(s, acknowledge{"s", []uint64{7}, false})
	root.Send(s, d)
	for range 2 {
		if ack, ok := next(t, "an acknowledgement", told).(acknowledge); !ok || !slices.Equal(ack.seqs, []uint64{7}) {
			t.Errorf("the user actor is told %+v", ack)
		}
	}
	root.Send(s, acknowledge{"s", []uint64{8}, false})
	if ack, ok := next(t, "the last", told).(acknowledge); !ok || ack.seqs[0] != 8 {
		t.Errorf("the user actor is told %+v before the last", ack)
	}
}

// That a user actor has lost the session may come before its answer that it has let it in: the session attaches again.
func TestASessionThatIsForgottenWhileItIsLetIn(t *testing.T) {
	t.Parallel()
	root, s, dir, _ := newSession(t)
	root.Send(s, sessionForgotten{dir.user})
	root.Send(s, begin{dir.user, 1})
	if m := next(t, "another request to attach", dir.attached); !m.again {
		t.Errorf("it asks %+v", m)
	}
}

// What a client acknowledged while there was no user actor was kept, whatever it was: one that invented thousands, again and again, filled the memory of its node. What
// was sent and is acknowledged in that time must reach the next user actor, although the request to attach names it as not acknowledged.
func TestOnlyWhatWasSentIsAcknowledgedToTheNextUserActor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		acks []acknowledge
		want []uint64
	}{
		"single":     {[]acknowledge{{"s", []uint64{8, 1000}, false}, {"s", []uint64{8, 7}, false}}, []uint64{8, 7, 6}},
		"cumulative": {[]acknowledge{{"s", []uint64{8}, true}, {"s", []uint64{8}, true}}, []uint64{7, 8, 6}},
		"invented":   {[]acknowledge{{"s", []uint64{1, 2, 1000}, false}, {"s", []uint64{3}, true}}, []uint64{6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, s, dir, told := newSession(t)
			dir.open = make(chan struct{})
			root.Send(s, begin{dir.user, 1})
			next(t, "the confirmation", told)
			for seq := uint64(7); seq <= 9; seq++ {
				root.Send(s, &crier.Delivery{Seq: seq, Kept: true, Accepted: time.Now()})
			}
			root.Send(s, sessionForgotten{dir.user})
			if m := next(t, "the request to attach again", dir.attached); !slices.Equal(m.unacked, []uint64{7, 8, 9}) {
				t.Errorf("it asks %+v", m)
			}
			for _, ack := range c.acks {
				root.Send(s, ack)
			}
			root.Send(s, &crier.Delivery{Seq: 6, Kept: true, Accepted: time.Now()}) // again: it was acknowledged before
			close(dir.open)
			if _, ok := next(t, "the second confirmation", told).(confirmSession); !ok {
				t.Error("it is not confirmed first")
			}
			if ack, ok := next(t, "the acknowledgements", told).(acknowledge); !ok || ack.cumulative || !slices.Equal(ack.seqs, c.want) {
				t.Errorf("the user actor is told %+v, want %d", ack, c.want)
			}
			root.Send(s, acknowledge{"s", []uint64{9}, false})
			if ack, ok := next(t, "the last", told).(acknowledge); !ok || !slices.Equal(ack.seqs, []uint64{9}) {
				t.Errorf("the user actor is told %+v before the last", ack)
			}
		})
	}
}
