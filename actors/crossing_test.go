package actors_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/actors/actorstest"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// peer is an actor system that listens, with a directory of what the home leads. It implements actors.Directory.
type peer struct {
	system   *actor.ActorSystem
	registry *prometheus.Registry
	metrics  *actors.Metrics
	fanout   *actors.Fanout
	leaders  *leaders
}

// leaders are the partitions' actors, for both peers.
type leaders struct {
	mu   sync.Mutex
	pids map[crier.PartitionID]*actor.PID
	n    int
}

func (l *leaders) pid(kind, identity string) *actor.PID {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := crier.PartitionOfIdentity(kind, identity, l.n)
	if pid := l.pids[p]; pid != nil {
		return actor.NewPID(pid.Address, pid.Id) // a PID remembers its process: two systems must not share one
	}
	return nil
}

func (l *leaders) set(p crier.PartitionID, pid *actor.PID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pids[p] = pid
}

// listeners are two systems that listen, for all tests: protoactor sets grpc's logger at each start, without a lock, so that
// a start races with whatever another server does.
type listeners struct {
	systems [2]*actor.ActorSystem
	remotes [2]*remote.Remote

	mu    sync.Mutex
	conns [2][]net.Conn // that each has opened
}

// cut ends the connections that a system has opened, and not those that were opened to it.
func (l *listeners) cut(system int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns[system] {
		_ = c.Close()
	}
	l.conns[system] = nil
}

// dial is the dialer of a system.
func (l *listeners) dial(system int) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.conns[system] = append(l.conns[system], c)
		}
		return c, err
	})
}

var (
	listening   atomic.Pointer[listeners]
	listenersOf = sync.OnceValue(func() *listeners {
		l, quiet := new(listeners), slog.New(slog.DiscardHandler)
		for i := range l.systems {
			l.systems[i] = actor.NewActorSystemWithConfig(actor.Configure(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet })))
			l.remotes[i] = remote.NewRemote(l.systems[i], remote.Configure("127.0.0.1", 0,
				remote.WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials()), l.dial(i))))
			l.remotes[i].Start()
			if err := actors.ServeFanout(l.systems[i], actors.NewMetrics(nil)); err != nil {
				panic(err)
			}
			defer settle(l.systems[i].Address())()
		}
		listening.Store(l)
		return l
	})
)

// settle waits until a server has answered, and returns what ends that connection.
func settle(address string) (end func()) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // of a socket: never fails
	_, _ = c.Read(make([]byte, 1))                         // whatever comes
	return func() {
		_, _ = c.Write([]byte("end\r\n\r\n")) // no preface of HTTP/2: the server gives up
		c.Close()
	}
}

// closing ends the listeners after the tests.
type closing struct{ m *testing.M }

func (c closing) Run() int {
	code := c.m.Run()
	if l := listening.Load(); l != nil {
		for i := range l.systems {
			l.remotes[i].Shutdown(false)
			l.systems[i].Shutdown()
		}
	}
	return code
}

func newPeer(l *leaders, system *actor.ActorSystem) *peer {
	p := &peer{leaders: l, registry: prometheus.NewRegistry(), system: system}
	p.metrics = actors.NewMetrics(p.registry)
	p.fanout = actors.NewFanout(p.metrics, slog.New(slog.DiscardHandler))
	return p
}

// Partitions is actors.Directory's.
func (p *peer) Partitions() int { return p.leaders.n }

// Request is actors.Directory's.
func (p *peer) Request(ctx context.Context, kind, identity string, msg any) (any, error) {
	for {
		err := context.DeadlineExceeded
		if pid := p.leaders.pid(kind, identity); pid != nil {
			var answer any
			answer, err = p.ask(pid, msg)
			if f, ok := answer.(interface{ Failure() error }); ok {
				err = f.Failure()
			}
			if !errors.Is(err, actor.ErrDeadLetter) {
				return answer, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, crier.Errorf(crier.CodeTimeout, "no leader: %s", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ask sends a message to an actor here or there, and returns its answer.
func (p *peer) ask(pid *actor.PID, msg any) (any, error) {
	var codec actors.Codec
	if _, packet := msg.(*actorv1.Packet); !packet && pid.Address != p.system.Address() {
		body, err := codec.Encode(msg)
		if err != nil {
			return nil, err
		}
		msg = &actorv1.Packet{Body: body}
	}
	answer, err := p.system.Root.RequestFuture(pid, msg, 3*time.Second).Result()
	if packet, ok := answer.(*actorv1.Packet); ok && err == nil {
		return codec.Decode(packet.GetBody())
	}
	return answer, err
}

// RequestEach is actors.Directory's.
func (p *peer) RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(crier.PartitionID, any, error)) {
	for id, m := range messages {
		answer, err := p.Request(ctx, crier.KindPartition, id.String(), m)
		take(id, answer, err)
	}
}

// Term and News are actors.Router's: nothing moves that actors are not told of.
func (p *peer) Term(crier.PartitionID) uint64 { return 0 }

func (p *peer) News() <-chan struct{} { return nil }

// unknown returns how many messages were not understood.
func (p *peer) unknown(t *testing.T) float64 { return p.value(t, "crier_unknown_messages_total") }

// value returns the value of a counter.
func (p *peer) value(t *testing.T, name string) (n float64) {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

// pair is a home that leads every partition, and an edge with the connections: every message between the two crosses nodes.
type pair struct {
	home, edge *peer
	service    *actors.Service // of the edge
	replicas   []*actorstest.Replica
	system     *actorstest.System
	vendors    *actorstest.Vendors
}

func newPair(t *testing.T) *pair {
	t.Helper()
	l := &leaders{pids: make(map[crier.PartitionID]*actor.PID), n: 2}
	systems := listenersOf().systems
	x := &pair{
		home: newPeer(l, systems[0]), edge: newPeer(l, systems[1]), system: actorstest.NewSystem(newApp()), vendors: new(actorstest.Vendors),
		replicas: []*actorstest.Replica{actorstest.NewReplica(), actorstest.NewReplica()},
	}
	for p := range x.replicas {
		x.start(crier.PartitionID(p))
	}
	l.set(crier.SystemPartition, x.home.system.Root.Spawn(actors.SystemProps(x.system, x.home.metrics)))
	x.service = actors.NewService("edge", x.edge, x.system, x.vendors, x.edge.system, actors.DefaultCallTimeout, x.edge.metrics, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		for p := range x.replicas {
			x.stop(t, crier.PartitionID(p))
		}
		x.stop(t, crier.SystemPartition)
		x.home.fanout.Close()
	})
	return x
}

func (x *pair) start(p crier.PartitionID) {
	x.home.leaders.set(p, x.home.system.Root.Spawn(actors.PartitionProps(actors.Deps{
		Partition: p, Replica: x.replicas[p], System: x.system, Directory: x.home, Vendors: x.vendors, Fanout: x.home.fanout, Idle: actors.DefaultIdle,
		Metrics: x.home.metrics, Logger: slog.New(slog.DiscardHandler),
	})))
}

func (x *pair) stop(t *testing.T, p crier.PartitionID) {
	t.Helper()
	pid := x.home.leaders.pid(crier.KindPartition, p.String())
	x.home.leaders.set(p, nil)
	if err := x.home.system.Root.StopFuture(pid).Wait(); err != nil {
		t.Error(err)
	}
}

// dial logs an account in at the edge.
func (x *pair) dial(t *testing.T, user crier.UserID) device {
	t.Helper()
	conn := new(actorstest.Conn)
	s, err := x.service.Connect(t.Context(), crier.Login{App: appID, User: user, Platform: crier.IPhone, SigTime: time.Now()}, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Closed(crier.CloseByClient) })
	return device{conn, s}
}

// waiting returns how many messages wait for an account.
func (x *pair) waiting(t *testing.T, user crier.UserID) int {
	t.Helper()
	accounts, err := x.service.Accounts(t.Context(), appID, []crier.UserID{user})
	if err != nil || accounts[0] == nil {
		t.Fatalf("%v, %v", accounts, err)
	}
	mail, err := x.replicas[crier.PartitionOf(appID, user, len(x.replicas))].Mailbox(appID, accounts[0].Ordinal, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return len(mail)
}

// A session on one node and its user's actor on another: attach, delivery, acknowledgement, background, a move of the partition, close.
func TestASessionOfAnotherNode(t *testing.T) {
	x := newPair(t)
	alice := x.dial(t, "alice")
	var tasks []crier.TaskID
	for _, life := range []time.Duration{time.Hour, 0} {
		task, err := x.service.Push(t.Context(), request(life, crier.Condition{}))
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	eventually(t, "both come", func() bool { return slices.Equal(alice.Seqs(), []uint64{1, 2}) })
	if d := alice.Deliveries()[0]; d.Notification.Text != "hi" || !d.Kept || string(d.Elements[0].Content) != `{"Text":"hi"}` {
		t.Errorf("delivered %+v", d)
	}
	if n := x.waiting(t, "alice"); n != 1 {
		t.Errorf("%d wait before the acknowledgement", n)
	}
	alice.Acknowledge([]uint64{1}, false)
	eventually(t, "nothing waits", func() bool { return x.waiting(t, "alice") == 0 })
	e, err := x.service.Explain(t.Context(), appID, tasks[0], "alice")
	if err != nil || len(e.Sendings) != 1 || e.Sendings[0].Node != "edge" || e.Sendings[0].Acked.IsZero() || !slices.Equal(e.Connected, []crier.Place{e.Sendings[0].Place}) {
		t.Errorf("explained %+v, %v", e, err)
	}

	presence := func() crier.Presence {
		all, err := x.service.Presence(t.Context(), appID, []crier.UserID{"alice"})
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	alice.Background(3)
	eventually(t, "the background is seen", func() bool { return presence().State == crier.PushOnline })

	p := crier.PartitionOf(appID, "alice", len(x.replicas))
	x.stop(t, p)
	x.start(p)
	eventually(t, "the session attaches again and is in the background", func() bool { return presence().State == crier.PushOnline })

	again := x.dial(t, "alice")
	eventually(t, "the first is replaced", func() bool { return alice.Reason() == crier.CloseReplaced })
	if err := x.service.ChangeAccounts(t.Context(), appID, []crier.Change{{Op: crier.OpKick, User: "alice"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second is kicked", func() bool { return again.Reason() == crier.CloseKicked })

	bob := x.dial(t, "bob")
	bob.Closed(crier.CloseByClient)
	eventually(t, "bob is gone", func() bool {
		all, err := x.service.Presence(t.Context(), appID, []crier.UserID{"bob"})
		return err == nil && all[0].Exists && len(all[0].Sessions) == 0
	})
	if h, e := x.home.unknown(t), x.edge.unknown(t); h+e != 0 {
		t.Errorf("messages not understood: %v at home, %v at the edge", h, e)
	}
}

// Every call of the Service, with the actors on another node.
func TestCallsToAnotherNode(t *testing.T) {
	x := newPair(t)
	ctx, s := t.Context(), x.service
	if err := s.ChangeAccounts(ctx, appID, append(imports(10), crier.Change{Op: crier.OpAddTags, User: "user3", Tags: []string{"vip"}})); err != nil {
		t.Fatal(err)
	}
	accounts, err := s.Accounts(ctx, appID, []crier.UserID{"user3", "nobody"})
	if err != nil || accounts[0] == nil || !accounts[0].HasTag("vip") || accounts[1] != nil {
		t.Fatalf("accounts %v, %v", accounts, err)
	}
	var changes []crier.Change
	for _, user := range []crier.UserID{"user0", "user1", "user2", "user3", "nobody"} {
		changes = append(changes, crier.Change{Op: crier.OpAddTags, User: user, Tags: []string{"x"}})
	}
	if err := s.ChangeAccounts(ctx, appID, changes); !errors.Is(err, crier.CodeUnknownAccount) || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("a change of nobody: %v", err)
	}

	push := request(time.Hour, crier.Condition{TagsOr: []string{"vip"}})
	task, err := s.Push(ctx, push)
	if err != nil {
		t.Fatal(err)
	}
	push.RequestID = "another"
	if first, err := s.Push(ctx, push); !errors.Is(err, crier.CodePushRepeated) || first != task {
		t.Errorf("repeated: %s, %v", first, err)
	}
	eventually(t, "the report is done", func() bool {
		reports, err := s.Reports(ctx, appID, []crier.TaskID{task})
		return err == nil && reports[0].Status == crier.StatusDone && reports[0].Total == 1 && !reports[0].Started.IsZero()
	})
	if _, err := s.Funnel(ctx, appID, task); err != nil {
		t.Error(err)
	}
	if e, err := s.Explain(ctx, appID, task, "user3"); err != nil || e == nil || e.User != "user3" {
		t.Errorf("explained %+v, %v", e, err)
	}
	if _, err := s.Explain(ctx, appID, crier.NewTaskID(appID, time.Now(), 1, 99), "user3"); !errors.Is(err, crier.CodeUnknownTask) {
		t.Errorf("explain the unknown: %v", err)
	}

	d := crier.Device{Vendor: crier.FCM, Token: strings.Repeat("t", 32), Target: "project", Platform: crier.Android}
	for _, user := range []crier.UserID{"user1", "user2"} {
		if _, err := s.RegisterDevice(ctx, newApp(), user, d); err != nil {
			t.Fatal(err)
		}
	}
	accounts, err = s.Accounts(ctx, appID, []crier.UserID{"user1", "user2"})
	if err != nil || len(accounts[0].Devices) != 0 || len(accounts[1].Devices) != 1 {
		t.Errorf("devices: %v, %v", accounts, err)
	}

	if err := s.CreateApp(ctx, &crier.App{ID: 7, Admins: []crier.UserID{"admin"}}); err != nil {
		t.Error(err)
	}
	if err := s.UpdateApp(ctx, &crier.App{ID: 7, Name: "seven", Admins: []crier.UserID{"admin"}}); err != nil || s.App(7).Name != "seven" {
		t.Errorf("%+v, %v", s.App(7), err)
	}
	if err := s.SetAttrNames(ctx, 7, map[int]string{2: "city"}); err != nil || s.App(7).AttrNames[2] != "city" {
		t.Errorf("%+v, %v", s.App(7), err)
	}
	if h, e := x.home.unknown(t), x.edge.unknown(t); h+e != 0 {
		t.Errorf("messages not understood: %v at home, %v at the edge", h, e)
	}
}

// A packet that can't be read is counted, answered, and breaks nothing.
func TestAPacketThatCanNotBeRead(t *testing.T) {
	x := newPair(t)
	for i, p := range []*actorv1.Packet{{Body: []byte{0xba, 0x3e, 1, '?'}}, {Body: []byte("damaged")}, {}} {
		answer, err := x.edge.Request(t.Context(), crier.KindPartition, "0", p)
		if !errors.Is(err, crier.CodeInternal) {
			t.Errorf("answer %v, %v", answer, err)
		}
		if older := strings.Contains(err.Error(), "older than the sender"); older != (i == 0) {
			t.Error(err)
		}
		if n := x.home.unknown(t); n != float64(i+1) {
			t.Errorf("%v were counted", n)
		}
	}
	if _, err := x.edge.Request(t.Context(), crier.KindPartition, "0", "no message of an actor"); !errors.Is(err, crier.CodeInternal) {
		t.Errorf("got %v", err)
	}
	if _, err := x.service.Accounts(t.Context(), appID, []crier.UserID{"alice"}); err != nil {
		t.Error(err)
	}
}
