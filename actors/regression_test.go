package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/actors/actorstest"
)

// Each of these tests names a fault that the actors once had.

// More campaigns than a partition parks came before the one that they all waited for;
// that one was refused for want of room, and none could ever go.
func TestAFullParkLetsThePredecessorIn(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	const last = actors.ParkedMost + 1
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := func(seq uint64) error {
		c := &crier.Campaign{App: appID, Seq: seq, Task: crier.NewTaskID(appID, time.Now(), uint32(seq), seq), Accepted: time.Now()}
		_, err := n.Request(ctx, crier.KindPartition, "0", actors.StartCampaign(c))
		return err
	}
	var group sync.WaitGroup
	var parked atomic.Int32
	for seq := uint64(2); seq <= last; seq++ {
		group.Go(func() {
			parked.Add(1)
			for start(seq) != nil && ctx.Err() == nil {
				time.Sleep(time.Millisecond) // as a campaign actor does
			}
		})
	}
	eventually(t, "all have been sent", func() bool { return parked.Load() == last-1 })
	// A request behind them in the partition's mailbox: they are parked when it is answered.
	presence(t, n, "user0")
	for start(1) != nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	group.Wait()
	if got := n.Replicas[0].LastCampaign(appID); got != last {
		t.Errorf("the partition stands at campaign %d, want %d", got, last)
	}
}

// A user actor that had been replaced told the partition that its last session was gone;
// the partition took the account of its successor offline.
func TestAReplacedUserActorDoesNotSpeakForItsSuccessor(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	if p := presence(t, n, "a"); p.State != crier.Online {
		t.Fatalf("%+v", p)
	}
	partition := n.PID(crier.KindPartition, "0")
	stranger := n.PID(crier.KindPartition, crier.SystemPartition.String())
	n.Root().Send(partition, actors.Gone(appID, "a", stranger, 0))
	if p := presence(t, n, "a"); p.State != crier.Online {
		t.Errorf("%+v", p)
	}
	waitDone(t, n, push(t, n, 0), 1)
	eventually(t, "the message", func() bool { return len(d.Seqs()) == 1 })
}

// The window of unacknowledged messages began anew with every move.
func TestTheWindowOutlastsAMove(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1, func(a *crier.App) { a.Limits.InFlightMessages = 4 })
	d := dial(t, n, "a", crier.Android)
	for range 10 {
		waitDone(t, n, push(t, n, time.Hour), 1)
	}
	eventually(t, "four in flight", func() bool { return len(d.Seqs()) == 4 })
	move(t, n, 0)
	eventually(t, "attached again", func() bool { return presence(t, n, "a").State == crier.Online })
	presence(t, n, "a")
	waitDone(t, n, push(t, n, time.Hour), 1)
	d.Acknowledge([]uint64{1}, true)
	eventually(t, "one more", func() bool { return len(d.Seqs()) >= 5 })
	waitDone(t, n, push(t, n, time.Hour), 1)
	if got := d.Seqs(); len(got) != 5 {
		t.Errorf("%d were sent and one is acknowledged, with a window of 4: %v", len(got), got)
	}
}

// Partitions that could not take a campaign held up others that could: 32 of them, all.
func TestPartitionsThatRefuseHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	n := newNode(t, 40)
	for _, r := range n.Replicas[:32] {
		r.Intercept(func(_ context.Context, command string) error {
			if command == "StartCampaign" {
				return crier.Errorf(crier.CodeInternal, "the disk is full")
			}
			return nil
		}, nil)
	}
	task := push(t, n, time.Hour)
	for p, r := range n.Replicas[32:] {
		eventually(t, fmt.Sprint("partition ", 32+p, " has the push"), func() bool { return r.Commands("StartCampaign") > 0 })
	}
	for _, r := range n.Replicas[:32] {
		r.Intercept(nil, nil)
	}
	waitDone(t, n, task, 0)
}

// A partition that was recovered, and has lost campaigns that were done, waited for them for ever, and with it all later pushes.
func TestAPartitionThatHasLostCampaigns(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	change(t, n, imports(20)...)
	for range 3 {
		waitDone(t, n, push(t, n, 0), 20)
	}
	lost := 1 - crier.HomePartition(appID, 2)
	if err := n.Stop(lost); err != nil {
		t.Fatal(err)
	}
	n.Replicas[lost] = actorstest.NewReplica()
	n.Start(lost)
	task := push(t, n, 0)
	eventually(t, "the push is done", func() bool { return report(t, n, task).Status == crier.StatusDone })
}

// A window that is larger than the queue of a connection closes every connection for being slow: the mailbox never empties.
func TestTheWindowFitsIntoTheQueue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		messages, body, want int
	}{
		"unlimited":    {0, 10 << 10, 51},
		"small bodies": {0, 100, 256},
		"large bodies": {32, 100 << 10, 5},
		"huge bodies":  {32, 1 << 20, 1},
		"default":      {32, 10 << 10, 32},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, 1, func(a *crier.App) { a.Limits.InFlightMessages, a.Limits.PushBodyBytes = c.messages, c.body })
			change(t, n, crier.Change{Op: crier.OpImport, User: "a"})
			for range 300 {
				push(t, n, time.Hour)
			}
			eventually(t, "all wait", func() bool { return len(waiting(t, n, "a")) == 300 })
			d := dial(t, n, "a", crier.Android)
			eventually(t, "a window full", func() bool { return len(d.Seqs()) >= c.want })
			presence(t, n, "a")
			if got := d.Seqs(); len(got) != c.want {
				t.Errorf("%d are in flight, want %d", len(got), c.want)
			}
		})
	}
}

// A disk that was full at some partitions was told as "changed by another call at the
// same time".
func TestAFailedCallOverPartitionsSaysWhy(t *testing.T) {
	t.Parallel()
	n := newNode(t, 4)
	for _, r := range n.Replicas {
		r.Intercept(func(context.Context, string) error {
			return crier.Errorf(crier.CodeInternal, "the disk is full")
		}, nil)
	}
	err := n.Service.ChangeAccounts(t.Context(), appID, imports(20))
	if !errors.Is(err, crier.CodeInternal) || !strings.Contains(err.Error(), "the disk is full") || strings.Contains(err.Error(), "another call") {
		t.Errorf("got %v", err)
	}
}

// A push looked as if it had begun anew when its campaign's actor had moved.
func TestTheStartOfACampaignStays(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	home := crier.HomePartition(appID, 2)
	held := newGate("StartCampaign")
	n.Replicas[1-home].Intercept(held.hold, nil)
	task := push(t, n, time.Hour)
	held.waitReached(t)
	eventually(t, "running", func() bool { return report(t, n, task).Status == crier.StatusRunning })
	began := report(t, n, task).Started
	eventually(t, "the clock has moved on", func() bool { return time.Since(began) > 10*time.Millisecond })
	move(t, n, home)
	recorded := n.Replicas[home].Commands("RecordProgress")
	eventually(t, "taken up again", func() bool { return n.Replicas[home].Commands("RecordProgress") > recorded })
	close(held.open)
	waitDone(t, n, task, 0)
	if got := report(t, n, task).Started; !got.Equal(began) {
		t.Errorf("began at %v, then at %v", began, got)
	}
}

// move ends the leadership of a partition and begins the next one.
func move(t testing.TB, n *actorstest.Node, p crier.PartitionID) {
	t.Helper()
	if err := n.Stop(p); err != nil {
		t.Fatal("partition "+strconv.Itoa(int(p)), err)
	}
	n.Start(p)
}

// A login that had failed, since it could not reach the account's node, came there late and displaced the one that had been made in its place.
// The receiver was told that it had logged in elsewhere, and did not come back.
func TestALoginThatComesLateDisplacesNobody(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	gone := actor.NewPID(n.PID(crier.KindPartition, "0").Address, "a session that has ended")
	late := crier.Login{App: appID, User: "a", Platform: crier.Android, Session: "late", SigTime: time.Now()}
	if _, err := n.Request(t.Context(), crier.KindUser, crier.UserIdentity(appID, "a"), actors.Attach(late, gone, false)); err != nil {
		t.Fatal(err)
	}
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the message", func() bool { return len(d.Seqs()) == 1 })
	if reason := d.Reason(); reason != "" {
		t.Errorf("the session was closed: %s", reason)
	}
	eventually(t, "the late one is gone", func() bool { return len(presence(t, n, "a").Sessions) == 1 })
}

// A login that took long displaced the next one, which the client had made since, having closed the connection of the first.
func TestALoginWhoseClientHasGoneDisplacesNobody(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	left := new(actorstest.Conn)
	left.Leave()
	if _, err := n.Service.Connect(t.Context(), crier.Login{App: appID, User: "a", Platform: crier.Android, SigTime: time.Now()}, left); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has ended", func() bool { return len(presence(t, n, "a").Sessions) == 1 })
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the message", func() bool { return len(d.Seqs()) == 1 })
	if reason := d.Reason(); reason != "" {
		t.Errorf("the session was closed: %s", reason)
	}
}

// A session that had lost its user actor attached again, and displaced a login that had been made meanwhile.
func TestASessionThatAttachesAgainDoesNotDisplaceALaterLogin(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	eventually(t, "it is there", func() bool { return presence(t, n, "a").State == crier.Online })
	reasons := make(chan crier.CloseReason, 1)
	old := n.Root().Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if reason, ok := actors.CloseReasonOf(ctx.Message()); ok {
			reasons <- reason
		}
	}))
	login := crier.Login{App: appID, User: "a", Platform: crier.Android, Session: "old", SigTime: time.Now()}
	answer, err := n.Request(t.Context(), crier.KindUser, crier.UserIdentity(appID, "a"), actors.Attach(login, old, true))
	if err != nil {
		t.Fatal(err)
	}
	n.Root().Send(actors.UserOf(answer), actors.Confirm("old"))
	select {
	case reason := <-reasons:
		if reason != crier.CloseReplaced {
			t.Errorf("the old session is closed: %s", reason)
		}
	case <-time.After(time.Minute):
		t.Error("the old session is not closed")
	}
	if reason := d.Reason(); reason != "" {
		t.Errorf("the later login is closed: %s", reason)
	}
}

// A login that was made earlier and came later, since it had waited on its way, displaced the later one of the same client: which came first tells the client alone.
func TestLoginsOfOneClientStandInItsOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	connect := func(instance string, attempt uint64) device {
		t.Helper()
		conn := new(actorstest.Conn)
		s, err := n.Service.Connect(t.Context(), crier.Login{
			App: appID, User: "a", Platform: crier.Android, SigTime: time.Now(), Instance: instance, Attempt: attempt,
		}, conn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Closed(crier.CloseByClient) })
		return device{conn, s}
	}
	replaced := func(what string, d device) {
		t.Helper()
		eventually(t, what+" is replaced", func() bool { return d.Reason() == crier.CloseReplaced })
	}
	third := connect("phone", 3)
	second := connect("phone", 2)
	replaced("the second login, which came after the third,", second)
	if reason := third.Reason(); reason != "" {
		t.Errorf("the third login was closed: %s", reason)
	}
	fourth := connect("phone", 4)
	replaced("the third login", third)
	other := connect("another", 1)
	replaced("the login of the one client, by another's,", fourth)
	if reason := other.Reason(); reason != "" {
		t.Errorf("the last login was closed: %s", reason)
	}
}

// A session whose user actor had ended was not told, since the connection from that one's node had broken: it believed itself attached, and
// nothing was delivered any more until its client came again.
func TestSessionsFollowTheLeader(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the first message", func() bool { return len(d.Seqs()) == 1 })
	n.Start(0) // the actors before go on: sessions are not told
	eventually(t, "the successor knows the session", func() bool { return presence(t, n, "a").State == crier.Online })
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "what came after the move", func() bool { return len(d.Seqs()) == 2 })
	d.Acknowledge([]uint64{2}, true)
	eventually(t, "it is taken", func() bool { return len(waiting(t, n, "a")) == 0 })
	if reason := d.Reason(); reason != "" {
		t.Errorf("the session was closed: %s", reason)
	}
}

// A registration that was under way when its account was kicked was done after the kick: the phone that was to be shut out went on getting notifications.
func TestAKickHoldsAgainstARegistrationUnderWay(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.IPhone)
	g := newGate("ClaimDevice")
	n.Replicas[0].Intercept(g.hold, nil)
	registered := make(chan error, 1)
	d.RegisterDevice(crier.Device{Vendor: crier.APNs, Token: "kicked"}, func(err error) { registered <- err })
	g.waitReached(t)
	change(t, n, crier.Change{Op: crier.OpKick, User: "a"})
	close(g.open)
	if err := <-registered; !errors.Is(err, crier.CodeSigRevoked) {
		t.Errorf("the registration: %v", err)
	}
	phone(t, n, "a", "the operator's")
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the device of the operator's API is told", told(n, "the operator's"))
}

// An account that was deleted while its session had no user actor was made anew when that one attached again.
func TestASessionDoesNotBringBackADeletedAccount(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	eventually(t, "it is there", func() bool { return presence(t, n, "a").State == crier.Online })
	if err := n.Stop(0); err != nil {
		t.Fatal(err)
	}
	if err := n.Replicas[0].ChangeAccounts(t.Context(), appID, []crier.Change{{Op: crier.OpDelete, User: "a"}}); err != nil {
		t.Fatal(err)
	}
	n.Start(0)
	eventually(t, "the session is closed", func() bool { return d.Reason() != "" })
	if reason := d.Reason(); reason != crier.CloseDeleted {
		t.Errorf("the session is closed: %s", reason)
	}
	if presence(t, n, "a").Exists {
		t.Error("the account is back")
	}
}

// A node that does not lead any more may never have learned of an account: its session is not told that it was deleted, and goes on looking for the leader.
func TestWhoDoesNotLeadKnowsOfNoDeletion(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.Replicas[0].Intercept(func(_ context.Context, command string) error {
		if command == "Verify" {
			return crier.Errorf(crier.CodeTimeout, "another leads")
		}
		return nil
	}, nil)
	session := actor.NewPID(n.PID(crier.KindPartition, "0").Address, "a session")
	login := crier.Login{App: appID, User: "a", Platform: crier.Android, Session: "one", SigTime: time.Now()}
	attach := func(cursor uint64) error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := n.Request(ctx, crier.KindUser, crier.UserIdentity(appID, "a"), actors.AttachAt(login, session, cursor))
		return err
	}
	if err := attach(0); !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("by a node that does not lead: %v", err)
	}
	n.Replicas[0].Intercept(nil, nil)
	if err := attach(1); !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("by a partition that has lost what the session was sent: %v", err)
	}
	if err := attach(0); !errors.Is(err, crier.CodeAccountMissing) {
		t.Errorf("by the leader: %v", err)
	}
}

// The request of a session to attach may be sent twice, and the second come late: what it says was acknowledged since. It filled the window of the session for ever.
func TestAnOldRequestToAttachChangesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1, func(a *crier.App) { a.Limits.InFlightMessages = 1 })
	conn := new(actorstest.Conn)
	login := crier.Login{App: appID, User: "a", Platform: crier.Android, Session: "one", SigTime: time.Now()}
	s, err := n.Service.Connect(t.Context(), login, conn)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Closed(crier.CloseByClient)
	d := device{conn, s}
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the first", func() bool { return len(d.Seqs()) == 1 })
	d.Acknowledge([]uint64{1}, false)
	eventually(t, "it is taken", func() bool { return len(waiting(t, n, "a")) == 0 })
	late := actors.AttachAt(login, actors.SessionsOf(n.Service, 0)[0], 1, 1)
	if _, err := n.Request(t.Context(), crier.KindUser, crier.UserIdentity(appID, "a"), late); err != nil {
		t.Fatal(err)
	}
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the second", func() bool { return len(d.Seqs()) == 2 })
}

// A session that was sent what its partition does not know any more, since it was recovered from a replica that lacked it, would pass over what comes under the same
// numbers now. It is not let in, so that its client logs in anew.
func TestASessionThatIsAheadIsNotLetIn(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.Android)
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the first", func() bool { return len(d.Seqs()) == 1 })
	login := crier.Login{App: appID, User: "a", Platform: crier.Web, Session: "ahead", SigTime: time.Now()}
	session := actors.SessionsOf(n.Service, 0)[0]
	for cursor, ok := range map[uint64]bool{1: true, 2: false} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := n.Request(ctx, crier.KindUser, crier.UserIdentity(appID, "a"), actors.AttachAt(login, session, cursor))
		cancel()
		if (err == nil) != ok || err != nil && !errors.Is(err, crier.CodeTimeout) {
			t.Errorf("with a cursor of %d: %v", cursor, err)
		}
	}
}
