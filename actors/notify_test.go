package actors_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors/actorstest"
)

// phone registers an APNs device for an account, which must exist.
func phone(t testing.TB, n *actorstest.Node, user crier.UserID, token string) {
	t.Helper()
	register(t, n, user, crier.Device{Vendor: crier.APNs, Token: token, Target: "com.example", Platform: crier.IPhone})
}

func register(t testing.TB, n *actorstest.Node, user crier.UserID, d crier.Device) {
	t.Helper()
	if _, err := n.Service.RegisterDevice(t.Context(), n.Service.App(appID), user, d); err != nil {
		t.Fatal(err)
	}
}

// fallback makes accounts that do not acknowledge fall back to the vendor after d.
func fallback(d time.Duration) func(*crier.App) {
	return func(a *crier.App) { a.Limits.FallbackAfter = d }
}

func told(n *actorstest.Node, tokens ...string) func() bool {
	return func() bool { return slices.Equal(n.Vendors.Tokens(), tokens) }
}

func TestWhoIsAwayIsToldByTheVendor(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2, fallback(time.Hour))
	change(t, n, imports(3)...)
	for i := range 2 {
		phone(t, n, crier.UserID(fmt.Sprint("user", i)), fmt.Sprint("token", i))
	}
	online := dial(t, n, "user0", crier.IPhone)
	waitDone(t, n, push(t, n, time.Hour), 3)
	eventually(t, "only who is away and has a device is told", told(n, "token1"))
	eventually(t, "the message", func() bool { return len(online.Seqs()) == 1 })
	waitDone(t, n, push(t, n, 0), 3) // for online accounts only
	quiet := request(time.Hour, crier.Condition{})
	quiet.Message.Offline.NoVendor = true
	task, err := n.Service.Push(t.Context(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	waitDone(t, n, task, 3)
	waitDone(t, n, push(t, n, time.Hour), 3)
	eventually(t, "one more", told(n, "token1", "token1"))
}

func TestTheBackgroundOfApplesIsToldByBothWays(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1, fallback(time.Hour))
	change(t, n, imports(2)...)
	phone(t, n, "user0", "iphone")
	register(t, n, "user1", crier.Device{Vendor: crier.FCM, Token: "android", Target: "p", Platform: crier.Android})
	iphone, android := dial(t, n, "user0", crier.IPhone), dial(t, n, "user1", crier.Android)
	iphone.Background(3)
	android.Background(0)
	eventually(t, "both are in the background", func() bool {
		return presence(t, n, "user0").State == crier.PushOnline && presence(t, n, "user1").State == crier.PushOnline
	})
	waitDone(t, n, push(t, n, time.Hour), 2)
	eventually(t, "both have it over the connection", func() bool { return len(iphone.Seqs()) == 1 && len(android.Seqs()) == 1 })
	eventually(t, "the iPhone is told by APNs", told(n, "iphone"))
}

func TestNoAcknowledgementFallsBackToTheVendor(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1, fallback(300*time.Millisecond))
	change(t, n, imports(2)...)
	phone(t, n, "user0", "silent")
	phone(t, n, "user1", "answers")
	dial(t, n, "user0", crier.IPhone)
	answers := dial(t, n, "user1", crier.IPhone)
	waitDone(t, n, push(t, n, time.Hour), 2)
	eventually(t, "the message", func() bool { return len(answers.Seqs()) == 1 })
	answers.Acknowledge([]uint64{1}, true)
	eventually(t, "who is silent is told", told(n, "silent"))
	eventually(t, "nothing is to be done", func() bool {
		_, replica := partitionOf(n, "user0")
		work, err := replica.VendorWork()
		return err == nil && len(work) == 0
	})
	if got := n.Vendors.Tokens(); !slices.Equal(got, []string{"silent"}) {
		t.Errorf("told: %v", got)
	}
}

// The vendor is down, then throttles, then takes everything: nobody is lost, and nobody is told twice who was taken.
func TestAVendorThatIsDown(t *testing.T) {
	t.Parallel()
	const users = 150
	n := newNode(t, 2)
	change(t, n, imports(users)...)
	for i := range users {
		phone(t, n, crier.UserID(fmt.Sprint("user", i)), fmt.Sprintf("token%03d", i))
	}
	var mu sync.Mutex
	accepted, down := make(map[string]int), true
	n.Vendors.Answer(func(p *crier.DevicePush) crier.Outcome {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case down:
			return crier.Outcome{Class: crier.OutcomeUnavailable, Reason: "Shutdown"}
		case accepted[p.Device.Token] == 0 && p.Device.Token[7] == '7':
			accepted[p.Device.Token]--
			return crier.Outcome{Class: crier.OutcomeThrottled, Reason: "TooManyRequests"}
		}
		accepted[p.Device.Token] = max(accepted[p.Device.Token], 0) + 1
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	task := push(t, n, time.Hour)
	waitDone(t, n, task, users)
	eventually(t, "the vendor is tried again", func() bool { return len(n.Vendors.Pushes()) > 2*64 })
	if got := len(n.Vendors.Pushes()); got > 1000 {
		t.Errorf("%d tries while the vendor was down", got)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	eventually(t, "everybody is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(accepted) == users && !slices.ContainsFunc(slices.Collect(valuesOf(accepted)), func(k int) bool { return k != 1 })
	})
}

func valuesOf(m map[string]int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func TestDevicesThatAreGoneAreRemoved(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	change(t, n, imports(3)...)
	for i := range 3 {
		phone(t, n, crier.UserID(fmt.Sprint("user", i)), fmt.Sprint("token", i))
	}
	n.Vendors.Answer(func(p *crier.DevicePush) crier.Outcome {
		switch p.Device.Token {
		case "token0":
			return crier.Outcome{Class: crier.OutcomeGone, Reason: "Unregistered", GoneSince: time.Now().Add(time.Minute)}
		case "token1": // gone before it was registered again
			return crier.Outcome{Class: crier.OutcomeGone, Reason: "Unregistered", GoneSince: time.Now().Add(-time.Hour)}
		}
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	waitDone(t, n, push(t, n, time.Hour), 3)
	_, replica := partitionOf(n, "user0")
	eventually(t, "it is removed", func() bool {
		accounts, err := replica.Accounts(appID, []crier.UserID{"user0", "user1", "user2"})
		return err == nil && len(accounts[0].Devices) == 0 && len(accounts[1].Devices) == 1 && len(accounts[2].Devices) == 1
	})
}

func TestATokenMovesWithItsDevice(t *testing.T) {
	t.Parallel()
	n := newNode(t, 4)
	change(t, n, imports(2)...)
	phone(t, n, "user0", "shared")
	phone(t, n, "user1", "shared")
	accounts, err := n.Service.Accounts(t.Context(), appID, []crier.UserID{"user0", "user1"})
	if err != nil || len(accounts[0].Devices) != 0 || len(accounts[1].Devices) != 1 {
		t.Errorf("%+v, %v", accounts, err)
	}
	waitDone(t, n, push(t, n, time.Hour), 2)
	eventually(t, "told once", told(n, "shared"))
}

// An app that went to the background while its device was being registered had a badge that began at none.
func TestTheBadgeBeginsAtWhatIsUnread(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.IPhone)
	held := newGate("ChangeAccounts")
	_, replica := partitionOf(n, "a")
	replica.Intercept(held.hold, nil)
	registered := make(chan error, 1)
	d.RegisterDevice(crier.Device{Vendor: crier.APNs, Token: "token"}, func(err error) { registered <- err })
	held.waitReached(t)
	d.Background(3)
	eventually(t, "it is in the background", func() bool { return presence(t, n, "a").State == crier.PushOnline })
	close(held.open)
	if err := <-registered; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the base is stored", func() bool {
		accounts, err := replica.Accounts(appID, []crier.UserID{"a"})
		return err == nil && len(accounts[0].Devices) == 1 && accounts[0].Devices[0].BadgeBase == 3
	})
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the badge", func() bool {
		pushes := n.Vendors.Pushes()
		return len(pushes) == 1 && pushes[0].Badge != nil && *pushes[0].Badge == 4
	})
}

func TestAfterLogoutOrKickNothingComes(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	for _, user := range []crier.UserID{"leaves", "kicked", "stays"} {
		d := dial(t, n, user, crier.IPhone)
		registered := make(chan error, 1)
		d.RegisterDevice(crier.Device{Vendor: crier.APNs, Token: string(user)}, func(err error) { registered <- err })
		if err := <-registered; err != nil {
			t.Fatal(err)
		}
		switch user {
		case "leaves":
			presence(t, n, user)
			d.Logout()
		case "kicked":
			change(t, n, crier.Change{Op: crier.OpKick, User: user})
		default:
			d.Closed(crier.CloseByClient)
		}
		eventually(t, "it is offline", func() bool { return presence(t, n, user).State == crier.Offline })
	}
	eventually(t, "the device of the logout is removed", func() bool {
		accounts, err := n.Service.Accounts(t.Context(), appID, []crier.UserID{"leaves"})
		return err == nil && len(accounts[0].Devices) == 0
	})
	waitDone(t, n, push(t, n, time.Hour), 3)
	eventually(t, "who stayed is told", told(n, "stays"))
}

// Leadership moves in the middle: everybody is told, and at most a chunk twice.
func TestNotificationsGoOnAfterAMove(t *testing.T) {
	t.Parallel()
	const users = 300
	n := newNode(t, 1)
	change(t, n, imports(users)...)
	for i := range users {
		phone(t, n, crier.UserID(fmt.Sprint("user", i)), fmt.Sprintf("token%03d", i))
	}
	var mu sync.Mutex
	count := 0
	half, hold := make(chan struct{}), make(chan struct{})
	n.Vendors.Answer(func(*crier.DevicePush) crier.Outcome {
		mu.Lock()
		count++
		if count == users/2 {
			close(half)
		}
		late := count > users/2
		mu.Unlock()
		if late {
			<-hold
		}
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	waitDone(t, n, push(t, n, time.Hour), users)
	select {
	case <-half:
	case <-time.After(10 * time.Second):
		t.Fatal("not half of them within 10 s")
	}
	time.AfterFunc(50*time.Millisecond, func() { close(hold) })
	move(t, n, 0)
	distinct := func() int {
		seen := make(map[string]bool)
		for _, token := range n.Vendors.Tokens() {
			seen[token] = true
		}
		return len(seen)
	}
	eventually(t, "everybody is told", func() bool { return distinct() == users })
	if repeats := len(n.Vendors.Pushes()) - users; repeats > 64 {
		t.Errorf("%d were told twice", repeats)
	}
}

// Sessions have their time to come back before a new leader thinks them away.
func TestGraceAfterAMove(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1, fallback(time.Hour))
	n.Grace = time.Second
	change(t, n, imports(1)...)
	phone(t, n, "user0", "token")
	d := dial(t, n, "user0", crier.IPhone)
	move(t, n, 0)
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the message comes over the connection", func() bool { return len(d.Seqs()) == 1 })
	eventually(t, "the session is back", func() bool { return presence(t, n, "user0").State == crier.Online })
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	<-ctx.Done() // past the grace
	if got := n.Vendors.Tokens(); len(got) != 0 {
		t.Errorf("a connected account was told by the vendor: %v", got)
	}
}

// alternate makes users of which the first half has an FCM device and the second half an APNs one.
func alternate(t *testing.T, n *actorstest.Node, users int) {
	t.Helper()
	change(t, n, imports(users)...)
	for i := range users {
		if user := crier.UserID(fmt.Sprint("user", i)); i < users/2 {
			register(t, n, user, crier.Device{Vendor: crier.FCM, Token: fmt.Sprintf("fcm%03d", i), Target: "p", Platform: crier.Android})
		} else {
			phone(t, n, user, fmt.Sprintf("apns%03d", i))
		}
	}
}

// What the operator has to mend waits, and goes as soon as the app is changed.
func TestAWrongCredentialCostsNothing(t *testing.T) {
	t.Parallel()
	const users = 300
	n := newNode(t, 1)
	alternate(t, n, users)
	var mended atomic.Bool
	n.Vendors.Answer(func(p *crier.DevicePush) crier.Outcome {
		if p.Device.Vendor == crier.FCM && !mended.Load() {
			return crier.Outcome{Class: crier.OutcomeConfiguration, Reason: "Paused", RetryAfter: 5 * time.Minute}
		}
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	_, replica := partitionOf(n, "user0")
	waitDone(t, n, push(t, n, time.Hour), users)
	accepted := func(want uint64) func() bool {
		return func() bool {
			f, err := replica.Funnel(appID, 1)
			return err == nil && f.Vendor.Accepted == want
		}
	}
	eventually(t, "those with the right credential are told", accepted(users/2))
	if got := len(n.Vendors.Tokens()); got > users/2+64 {
		t.Errorf("%d tries", got)
	}
	mended.Store(true)
	app := *n.Service.App(appID)
	if err := n.Service.UpdateApp(t.Context(), &app); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everybody is told", accepted(users))
}

// A push that was accepted before its app was disabled went on notifying phones.
func TestADisabledAppNotifiesNobody(t *testing.T) {
	t.Parallel()
	const users = 300
	n := newNode(t, 1)
	change(t, n, imports(users)...)
	for i := range users {
		phone(t, n, crier.UserID(fmt.Sprint("user", i)), fmt.Sprintf("token%03d", i))
	}
	first, proceed := make(chan struct{}, users), make(chan struct{})
	n.Vendors.Answer(func(*crier.DevicePush) crier.Outcome {
		first <- struct{}{}
		<-proceed
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	task := push(t, n, time.Hour)
	<-first // in the middle of the first chunk
	disable(t, n.Service, true)
	close(proceed)
	_, replica := partitionOf(n, "user0")
	accepted := func() uint64 {
		f, err := replica.Funnel(appID, 1)
		if err != nil {
			t.Fatal(err)
		}
		return f.Vendor.Accepted
	}
	eventually(t, "the chunk is recorded", func() bool { return accepted() > 0 })
	time.Sleep(100 * time.Millisecond) // for another one
	if got := accepted(); got > 64 {
		t.Errorf("%d were told after the app was disabled", got)
	}
	disable(t, n.Service, false)
	eventually(t, "the rest is told", func() bool { return accepted() == users })
	waitDone(t, n, task, users)
}

// A refusal that is of one device alone is the last.
func TestADeviceOfAnotherApp(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	change(t, n, imports(1)...)
	phone(t, n, "user0", "token")
	n.Vendors.Answer(func(*crier.DevicePush) crier.Outcome {
		return crier.Outcome{Class: crier.OutcomeConfiguration, Reason: "DeviceTokenNotForTopic", DeviceOnly: true}
	})
	_, replica := partitionOf(n, "user0")
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "nothing is to be done", func() bool {
		work, err := replica.VendorWork()
		return err == nil && len(work) == 0 && len(n.Vendors.Pushes()) == 1
	})
}

// One vendor is out of order; what another asked to try again is tried all the same.
func TestAVendorThatIsDownHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	const users = 300
	n := newNode(t, 1)
	alternate(t, n, users)
	var mu sync.Mutex
	throttled, accepted := make(map[string]bool), 0
	n.Vendors.Answer(func(p *crier.DevicePush) crier.Outcome {
		mu.Lock()
		defer mu.Unlock()
		switch token := p.Device.Token; {
		case p.Device.Vendor == crier.FCM:
			return crier.Outcome{Class: crier.OutcomeUnavailable, Reason: "UNAVAILABLE"}
		case !throttled[token]:
			throttled[token] = true
			return crier.Outcome{Class: crier.OutcomeThrottled, Reason: "TooManyRequests"}
		}
		accepted++
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	waitDone(t, n, push(t, n, time.Hour), users)
	eventually(t, "APNs' are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return accepted == users/2
	})
}

// What is tried again for days does not fill the explanation.
func TestAttemptsAreFew(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	change(t, n, imports(1)...)
	phone(t, n, "user0", "token")
	_, replica := partitionOf(n, "user0")
	var tries atomic.Int32
	n.Vendors.Answer(func(*crier.DevicePush) crier.Outcome {
		if tries.Add(1) < 4 {
			return crier.Outcome{Class: crier.OutcomeUnavailable, Reason: "Shutdown"}
		}
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the first, the second and the last are in the log", func() bool {
		return tries.Load() == 4 && replica.Commands("VendorProgress") == 3
	})
}

// A login is noted on the device that it must be of, once a day; on none where it may be one of two.
func TestALoginIsSeen(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	_, replica := partitionOf(n, "user0")
	replica.SetBehind(48 * time.Hour)
	change(t, n, imports(1)...)
	phone(t, n, "user0", "iphone")
	for _, token := range []string{"one", "two"} {
		register(t, n, "user0", crier.Device{Vendor: crier.FCM, Token: token, Target: "p", Platform: crier.Android})
	}
	replica.SetBehind(0)
	before := replica.Commands("ChangeAccounts")
	dial(t, n, "user0", crier.Android)
	dial(t, n, "user0", crier.IPhone)
	seen := func() (fresh []string) {
		accounts, err := replica.Accounts(appID, []crier.UserID{"user0"})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range accounts[0].Devices {
			if time.Since(d.LastSeen) < time.Hour {
				fresh = append(fresh, d.Token)
			}
			if time.Since(d.Registered) < time.Hour {
				t.Errorf("%s is registered anew", d.Token)
			}
		}
		return fresh
	}
	eventually(t, "the iPhone is seen", func() bool { return slices.Equal(seen(), []string{"iphone"}) })
	dial(t, n, "user0", crier.IPhone)
	presence(t, n, "user0")
	if got := replica.Commands("ChangeAccounts") - before; got != 1 {
		t.Errorf("%d commands for three logins", got)
	}
}

// While a chunk waits for its vendor, a push to who is connected is not held up at all, in the same partition and for the same app.
func TestABroadcastHoldsUpNoOnlineDelivery(t *testing.T) {
	t.Parallel()
	const users = 100
	n := newNode(t, 1)
	change(t, n, imports(users)...)
	for i := 1; i < users; i++ {
		phone(t, n, crier.UserID(fmt.Sprint("user", i)), fmt.Sprintf("token%03d", i))
	}
	online := dial(t, n, "user0", crier.Web)
	hold := make(chan struct{})
	n.Vendors.Answer(func(*crier.DevicePush) crier.Outcome {
		<-hold
		return crier.Outcome{Class: crier.OutcomeAccepted}
	})
	waitDone(t, n, push(t, n, time.Hour), users)
	eventually(t, "a chunk is under way", func() bool { return len(n.Vendors.Pushes()) == 64 })
	for i := range 10 {
		waitDone(t, n, push(t, n, 0), users)
		eventually(t, "the push over the connection", func() bool { return len(online.Seqs()) == i+2 })
	}
	if got := len(n.Vendors.Pushes()); got != 64 {
		t.Errorf("%d notifications were under way", got)
	}
	close(hold)
	eventually(t, "everybody is told", func() bool { return len(n.Vendors.Pushes()) == users-1 })
}
