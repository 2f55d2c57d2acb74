package actors_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// barrier stands before the actor of the edge that takes packets.
type barrier struct {
	to     *actor.PID // that actor
	closed atomic.Bool
	came   atomic.Int32 // packets
	deaf   int32        // so many packets are not answered
	lossy  bool         // what comes while it is closed is lost
	held   []*actor.MessageEnvelope
}

// open lets through what is held.
type open struct{}

// Receive is actor.Actor's.
func (g *barrier) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actorv1.Packet:
		sender := ctx.Sender()
		if g.came.Add(1) <= g.deaf {
			sender = nil
		}
		switch {
		case g.closed.Load() && g.lossy:
			return
		case g.closed.Load():
			g.held = append(g.held, &actor.MessageEnvelope{Message: m, Sender: sender})
			return
		}
		ctx.RequestWithCustomSender(g.to, m, sender)
	case open:
		g.closed.Store(false)
		for _, e := range g.held {
			ctx.RequestWithCustomSender(g.to, e.Message, e.Sender)
		}
		g.held = nil
	}
}

// behind puts a barrier between the nodes.
func behind(t *testing.T, x *pair, g *barrier, wait time.Duration) *actor.PID {
	t.Helper()
	edge := x.edge.system
	g.to = edge.NewLocalPID(actors.FanoutName)
	pid := edge.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return g }))
	t.Cleanup(func() {
		if err := edge.Root.StopFuture(pid).Wait(); err != nil {
			t.Error(err)
		}
	})
	x.home.fanout.Through(pid.Id, wait)
	return pid
}

// Of a push to many sessions of another node, what gathers while a packet is under way has the body once, and they share it.
func TestABodyCrossesOnce(t *testing.T) {
	const users = 40
	x, g := newPair(t), new(barrier)
	pid := behind(t, x, g, time.Hour)
	var all []device
	for i := range users {
		all = append(all, x.dial(t, crier.UserID(fmt.Sprint("user", i))))
	}
	change := []crier.Change{{Op: crier.OpAddTags, User: "user0", Tags: []string{"first"}}}
	if err := x.service.ChangeAccounts(t.Context(), appID, change); err != nil {
		t.Fatal(err)
	}
	g.closed.Store(true)
	for _, cond := range []crier.Condition{{TagsOr: []string{"first"}}, {}} {
		if _, err := x.service.Push(t.Context(), request(0, cond)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first is under way", func() bool { return x.home.value(t, "crier_fanout_messages_total") == 1 })
	}
	eventually(t, "the others wait for its answer", func() bool { return x.home.fanout.Waiting() == users })
	x.edge.system.Root.Send(pid, open{})
	var second *crier.Delivery
	for i, d := range all {
		want := []uint64{2}
		if i == 0 {
			want = []uint64{1, 2}
		}
		eventually(t, "everybody has theirs", func() bool { return slices.Equal(d.Seqs(), want) })
		got := d.Deliveries()[len(want)-1]
		if second == nil {
			second = got
		}
		if got != second {
			t.Errorf("user%d has a copy of its own", i)
		}
	}
	if m, b := x.home.value(t, "crier_fanout_messages_total"), x.home.value(t, "crier_fanout_bodies_total"); m != users+1 || b != 2 {
		t.Errorf("%v bodies crossed for %v messages", b, m)
	}
}

// A node that has a packet and does not say so gets it again, takes it once, and gets the next one.
func TestANodeThatDoesNotAnswer(t *testing.T) {
	x := newPair(t)
	behind(t, x, &barrier{deaf: 10}, 5*time.Millisecond)
	alice := x.dial(t, "alice")
	var want []uint64
	for seq := range uint64(10) {
		if _, err := x.service.Push(t.Context(), request(0, crier.Condition{})); err != nil {
			t.Fatal(err)
		}
		want = append(want, seq+1)
	}
	eventually(t, "all come", func() bool { return slices.Equal(alice.Seqs(), want) })
}

// A node that hangs gets the packet again and again; afterwards everybody has everything once.
func TestANodeThatHangs(t *testing.T) {
	x, g := newPair(t), new(barrier)
	pid := behind(t, x, g, 5*time.Millisecond)
	alice := x.dial(t, "alice")
	g.closed.Store(true)
	var want []uint64
	for seq := range uint64(10) {
		if _, err := x.service.Push(t.Context(), request(0, crier.Condition{})); err != nil {
			t.Fatal(err)
		}
		want = append(want, seq+1)
	}
	eventually(t, "the packet comes again and again", func() bool { return g.came.Load() > 10 })
	if seqs := alice.Seqs(); len(seqs) > 0 {
		t.Fatalf("%v came", seqs)
	}
	x.edge.system.Root.Send(pid, open{})
	eventually(t, "all come", func() bool { return slices.Equal(alice.Seqs(), want) })
}

// A node that hangs for so long that packets to it are given up has sessions with a gap in their messages: none of them goes on. Their clients come again and have
// missed nothing.
func TestANodeThatHangsTooLong(t *testing.T) {
	x, g := newPair(t), &barrier{lossy: true}
	pid := behind(t, x, g, time.Millisecond)
	alice := x.dial(t, "alice")
	g.closed.Store(true)
	for range 3 {
		if _, err := x.service.Push(t.Context(), request(time.Hour, crier.Condition{})); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the messages are given up", func() bool { return g.came.Load() > 2*actors.FanoutTries })
	x.edge.system.Root.Send(pid, open{})
	eventually(t, "the session is closed", func() bool { return alice.Reason() == crier.CloseSlow })
	if seqs := alice.Seqs(); len(seqs) > 0 {
		t.Errorf("%v came after a gap", seqs)
	}
	alice = x.dial(t, "alice")
	eventually(t, "all come with the next login", func() bool { return slices.Equal(alice.Seqs(), []uint64{1, 2, 3}) })
}

// login is one connection of an account that was connected several times.
type login struct {
	device
	acked int
}

// acknowledge acknowledges what has come since.
func (l *login) acknowledge() {
	if seqs := l.Seqs(); len(seqs) > l.acked {
		l.Acknowledge(seqs[l.acked:], true)
		l.acked = len(seqs)
	}
}

// Pushes follow one another, and accounts connect anew in the middle of them, each time evicting themselves. Every connection has its messages in
// order, and leaves out only what an earlier one has acknowledged.
func TestOrderAcrossNodes(t *testing.T) {
	const users, pushers, pushes = 16, 4, 60
	x := newPair(t)
	logins := make([][]*login, users)
	enter := func(i int) {
		logins[i] = append(logins[i], &login{device: x.dial(t, crier.UserID(fmt.Sprint("user", i)))})
	}
	for i := range users {
		enter(i)
	}
	var pushing sync.WaitGroup
	for range pushers {
		pushing.Go(func() {
			for range pushes {
				if _, err := x.service.Push(t.Context(), request(time.Hour, crier.Condition{})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { pushing.Wait(); close(done) }()
	for pushed := false; !pushed; {
		select {
		case <-done:
			pushed = true
		default:
		}
		enter(rand.N(users))
		for _, all := range logins {
			for _, l := range all {
				l.acknowledge()
			}
		}
	}
	for i, all := range logins {
		last := all[len(all)-1]
		eventually(t, fmt.Sprintf("nothing waits for user%d", i), func() bool { // an earlier connection may have had the last, and acknowledged it before this one read the mailbox
			last.acknowledge()
			user := crier.UserID(fmt.Sprint("user", i))
			all := x.replicas[crier.PartitionOf(appID, user, len(x.replicas))].LastCampaign(appID) == pushers*pushes
			return all && x.waiting(t, user) == 0
		})
		has := make([]bool, pushers*pushes+1)
		for n, l := range all {
			next := uint64(1)
			for _, seq := range l.Seqs() {
				if seq < next {
					t.Errorf("user%d, connection %d: %d came after %d", i, n, seq, next-1)
				}
				for ; next < seq; next++ {
					if !has[next] { // else an earlier connection has acknowledged it
						t.Errorf("user%d, connection %d: %d came, and %d never did", i, n, seq, next)
					}
				}
				next = seq + 1
			}
			for _, seq := range l.Seqs() {
				has[seq] = true
			}
			if n < len(all)-1 {
				eventually(t, "an earlier connection is replaced", func() bool { return l.Reason() == crier.CloseReplaced })
			}
		}
		for seq := uint64(1); seq <= pushers*pushes; seq++ {
			if !has[seq] {
				t.Errorf("user%d: %d came to no connection", i, seq)
			}
		}
	}
	if h, e := x.home.unknown(t), x.edge.unknown(t); h+e != 0 {
		t.Errorf("messages not understood: %v at home, %v at the edge", h, e)
	}
}

// A connection between nodes that only the user actors' side has lost, or given up: the sessions are told, attach again, and have missed nothing.
func TestALinkThatOneSideHasLost(t *testing.T) {
	for name, lose := range map[string]func(*pair){
		"lost": func(*pair) { listenersOf().cut(0) },
		"given up": func(x *pair) { // protoactor ends it twice then, and with it what was sent in between
			x.home.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: x.edge.system.Address()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPair(t)
			alice := x.dial(t, "alice")
			home := actors.NewService("home", x.home, x.system, x.vendors, x.home.system, actors.DefaultCallTimeout, x.home.metrics, slog.New(slog.DiscardHandler))
			lose(x)
			for range 20 { // some while nobody knows the session
				if _, err := home.Push(t.Context(), request(time.Hour, crier.Condition{})); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all have come", func() bool { return len(alice.Seqs()) == 20 })
			if seqs := alice.Seqs(); !slices.IsSorted(seqs) || seqs[19] != 20 || alice.Reason() != "" {
				t.Errorf("%v came, closed: %q", seqs, alice.Reason())
			}
		})
	}
}

// silent is a session of which nobody tells that it has ended: what would have told was lost with a connection.
type silent struct{}

func (silent) SendUserMessage(*actor.PID, any)   {}
func (silent) SendSystemMessage(*actor.PID, any) {}
func (silent) Stop(*actor.PID)                   {}

// A session whose end was never told is found out by the next message for it: its account is not connected any more.
func TestASessionThatIsMissingIsForgotten(t *testing.T) {
	x := newPair(t)
	pid, _ := x.edge.system.ProcessRegistry.Add(silent{}, x.edge.system.ProcessRegistry.NextId())
	login := crier.Login{App: appID, User: "alice", Node: "edge", Platform: crier.Android, Session: "old", SigTime: time.Now()}
	if _, err := x.edge.Request(t.Context(), crier.KindUser, crier.UserIdentity(appID, "alice"), actors.Attach(login, pid, false)); err != nil {
		t.Fatal(err)
	}
	sessions := func() int {
		all, err := x.service.Presence(t.Context(), appID, []crier.UserID{"alice"})
		if err != nil {
			t.Fatal(err)
		}
		return len(all[0].Sessions)
	}
	x.edge.system.ProcessRegistry.Remove(pid)
	if n := sessions(); n != 1 {
		t.Fatalf("%d sessions before", n)
	}
	if _, err := x.service.Push(t.Context(), request(time.Hour, crier.Condition{})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is forgotten", func() bool { return sessions() == 0 })
	alice := x.dial(t, "alice")
	eventually(t, "the next login gets the message", func() bool { return slices.Equal(alice.Seqs(), []uint64{1}) })
}
