package actors_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors/actorstest"
)

const appID crier.AppID = 1400000001

func TestMain(m *testing.M) {
	// protoactor's throttle of dead letters ends by itself, up to a second after the last one.
	goleak.VerifyTestMain(closing{m},
		goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// newApp returns an app without limits on pushes.
func newApp(change ...func(*crier.App)) *crier.App {
	a := &crier.App{ID: appID, Key: "k", Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.DefaultLimits()}
	a.Limits.PushInterval, a.Limits.PushesPerDay, a.Limits.KeptPushes = 0, 0, 0
	for _, c := range change {
		c(a)
	}
	return a
}

// newNode starts a node that ends with the test.
func newNode(t testing.TB, partitions int, change ...func(*crier.App)) *actorstest.Node {
	t.Helper()
	n := actorstest.NewNode(partitions, newApp(change...))
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// device is one connection and its session.
type device struct {
	*actorstest.Conn
	crier.Session
}

// dial logs an account in; the session ends with the test.
func dial(t testing.TB, n *actorstest.Node, user crier.UserID, platform crier.Platform) device {
	t.Helper()
	conn := new(actorstest.Conn)
	s, err := n.Service.Connect(t.Context(), crier.Login{App: appID, User: user, Platform: platform, SigTime: time.Now()}, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Closed(crier.CloseByClient) })
	return device{conn, s}
}

// Close is the connection's, and not the session's Closed.
func (d device) Close(reason crier.CloseReason) { d.Conn.Close(reason) }

var randoms atomic.Uint32

// request makes a push to the condition; a life of zero is for online accounts only.
func request(life time.Duration, cond crier.Condition) *crier.PushRequest {
	random := randoms.Add(1)
	return &crier.PushRequest{
		App: appID, Random: random, LifeTime: life, Condition: cond, RequestID: fmt.Sprint(random),
		Message: crier.Message{From: "admin", Elements: []crier.Element{{Type: crier.TextElement, Content: []byte(`{"Text":"hi"}`)}}},
	}
}

// push pushes to everyone.
func push(t testing.TB, n *actorstest.Node, life time.Duration) crier.TaskID {
	t.Helper()
	task, err := n.Service.Push(t.Context(), request(life, crier.Condition{}))
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// change changes accounts.
func change(t testing.TB, n *actorstest.Node, changes ...crier.Change) {
	t.Helper()
	if err := n.Service.ChangeAccounts(t.Context(), appID, changes); err != nil {
		t.Fatal(err)
	}
}

// imports are the changes that create user0 to user(k-1).
func imports(k int) (changes []crier.Change) {
	for i := range k {
		changes = append(changes, crier.Change{Op: crier.OpImport, User: crier.UserID(fmt.Sprintf("user%d", i))})
	}
	return changes
}

// eventually polls until the condition holds, for a minute.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// report returns the progress of a push.
func report(t testing.TB, n *actorstest.Node, task crier.TaskID) crier.Report {
	t.Helper()
	reports, err := n.Service.Reports(t.Context(), appID, []crier.TaskID{task})
	if err != nil {
		t.Fatal(err)
	}
	return reports[0]
}

// waitDone waits until a push is done, and checks whom it matched.
func waitDone(t testing.TB, n *actorstest.Node, task crier.TaskID, total uint64) {
	t.Helper()
	eventually(t, "the push is done", func() bool { return report(t, n, task).Status == crier.StatusDone })
	if r := report(t, n, task); r.Total != total || r.Finished != total {
		t.Errorf("%+v, want total %d", r, total)
	}
}

// partitionOf returns the partition of an account, and the log behind it.
func partitionOf(n *actorstest.Node, user crier.UserID) (crier.PartitionID, *actorstest.Replica) {
	p := crier.PartitionOf(appID, user, n.Partitions())
	return p, n.Replicas[p]
}

// waiting returns the places of what waits in an account's mailbox.
func waiting(t testing.TB, n *actorstest.Node, user crier.UserID) []uint64 {
	t.Helper()
	_, replica := partitionOf(n, user)
	accounts, err := replica.Accounts(appID, []crier.UserID{user})
	if err != nil || accounts[0] == nil {
		t.Fatalf("%s: %v", user, err)
	}
	mail, err := replica.Mailbox(appID, accounts[0].Ordinal, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	seqs := make([]uint64, len(mail))
	for i, c := range mail {
		seqs[i] = c.Seq
	}
	return seqs
}

// presence returns the presence of one account.
func presence(t testing.TB, n *actorstest.Node, user crier.UserID) crier.Presence {
	t.Helper()
	p, err := n.Service.Presence(t.Context(), appID, []crier.UserID{user})
	if err != nil {
		t.Fatal(err)
	}
	return p[0]
}

// gate holds the commands of one name until it is opened.
type gate struct {
	command string
	reached chan struct{} // gets one for each that waits
	open    chan struct{}
}

func newGate(command string) *gate {
	return &gate{command, make(chan struct{}, 1<<16), make(chan struct{})}
}

// hold is an actorstest.Hook.
func (g *gate) hold(ctx context.Context, command string) error {
	if command != g.command {
		return nil
	}
	g.reached <- struct{}{}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return crier.Errorf(crier.CodeTimeout, "%s", ctx.Err())
	}
}

// waitReached waits until a command stands at the gate.
func (g *gate) waitReached(t testing.TB) {
	t.Helper()
	select {
	case <-g.reached:
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s within 10 s", g.command)
	}
}
