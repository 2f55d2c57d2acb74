package actors

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crier-im/crier"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// Over the bound a session is closed once, in the place of what it misses; one that misses nothing goes on.
func TestASessionThatWouldMissSomethingIsClosed(t *testing.T) {
	t.Parallel()
	n := &outgoing{waiting: make([]addressed, fanoutMost-1)}
	d, user := new(crier.Delivery), actor.NewPID("here", "user")
	for _, session := range []string{"a", "b", "a", "b", "a", "c"} {
		n.add(user, session, d)
	}
	slow := closeSession{crier.CloseSlow}
	want := []addressed{{user, "a", d}, {user, "b", slow}, {user, "a", slow}, {user, "c", slow}}
	if got := n.waiting[fanoutMost-1:]; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A packet has one body of what is equal, ends where it is large, and leaves out what can't be sent.
func TestPack(t *testing.T) {
	t.Parallel()
	large := func(task string) *crier.Delivery {
		return &crier.Delivery{Task: crier.TaskID(task), Elements: []crier.Element{{Type: crier.TextElement, Content: []byte(strings.Repeat("x", fanoutBytes/2))}}}
	}
	slow := closeSession{crier.CloseSlow}
	waiting := []addressed{
		{nil, "a", large("1")},
		{nil, "b", slow},
		{nil, "c", large("1")},
		{nil, "d", &crier.Delivery{Task: "\xff"}},
		{nil, "e", slow},
		{nil, "f", large("2")},
		{nil, "g", large("1")},
		{nil, "h", large("3")},
		{nil, "i", &crier.Delivery{Task: "3", FromMailbox: true}},
	}
	f := NewFanout(NewMetrics(nil), slog.New(slog.DiscardHandler))
	var got []string
	for _, want := range []struct{ bodies, rest int }{{3, 3}, {2, 1}, {1, 0}} {
		var p *actorv1.Packet
		p, waiting = f.pack(waiting)
		msg, err := Codec{}.Decode(p.GetBody())
		if err != nil {
			t.Fatal(err)
		}
		m := msg.(fanout)
		if len(m.bodies) != want.bodies || len(waiting) != want.rest {
			t.Errorf("%d bodies, and %d wait; want %+v", len(m.bodies), len(waiting), want)
		}
		for _, l := range m.letters {
			switch x, err := (Codec{}).Decode(m.bodies[l.body]); x := x.(type) {
			case *crier.Delivery:
				got = append(got, fmt.Sprint(l.session, " ", x.Task, " ", x.FromMailbox))
			case closeSession:
				got = append(got, fmt.Sprint(l.session, " ", x.reason))
			default:
				t.Error(x, err)
			}
		}
	}
	if want := []string{"a 1 false", "b slow", "c 1 false", "e slow", "f 2 false", "g 1 false", "h 3 false", "i 3 true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A body that can't be read, and a session that is gone, keep nothing from the others.
func TestAPacketWithABodyOfANewerNode(t *testing.T) {
	t.Parallel()
	system := actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })))
	defer system.Shutdown()
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	if err := ServeFanout(system, m); err != nil {
		t.Fatal(err)
	}
	if err := ServeFanout(system, m); err == nil {
		t.Error("there are two")
	}
	got := make(chan any, 4)
	session := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if _, ok := ctx.Message().(closeSession); ok {
			got <- ctx.Message()
		}
	}))
	slow, err := Codec{}.Encode(closeSession{crier.CloseSlow})
	if err != nil {
		t.Fatal(err)
	}
	newer := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("?"))
	body, err := Codec{}.Encode(fanout{[][]byte{newer, slow}, []letter{{session.Id, 0}, {"gone", 1}, {session.Id, 2}, {session.Id, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := system.Root.RequestFuture(actor.NewPID(system.Address(), fanoutName), &actorv1.Packet{Body: body}, time.Minute).Result()
	if err != nil || !reflect.DeepEqual(answer, fanoutTaken{[]string{"gone"}}) {
		t.Errorf("answered %v, %v", answer, err)
	}
	select {
	case msg := <-got:
		if msg != (closeSession{crier.CloseSlow}) {
			t.Errorf("got %v", msg)
		}
	case <-time.After(time.Minute):
		t.Error("nothing came")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "crier_unknown_messages_total" && n != 1 {
			t.Errorf("%v were counted", n)
		}
	}
	for _, pid := range []*actor.PID{session, actor.NewPID(system.Address(), fanoutName)} {
		if err := system.Root.StopFuture(pid).Wait(); err != nil {
			t.Error(err)
		}
	}
}
