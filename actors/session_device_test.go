package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/actors/actorstest"
)

// registration begins to register a device of Apple's, and returns where its outcome comes.
func (d device) registration(token string) <-chan error {
	registered := make(chan error, 1)
	d.RegisterDevice(crier.Device{Vendor: crier.APNs, Token: token}, func(err error) { registered <- err })
	return registered
}

// outcome waits for the end of a registration.
func outcome(t *testing.T, registered <-chan error) error {
	t.Helper()
	select {
	case err := <-registered:
		return err
	case <-time.After(time.Minute):
		t.Fatal("a registration has no end within a minute")
		return nil
	}
}

// devices returns the tokens and badge bases of an account's devices.
func devices(t *testing.T, n *actorstest.Node, user crier.UserID) (all []string) {
	t.Helper()
	accounts, err := n.Service.Accounts(t.Context(), appID, []crier.UserID{user})
	if err != nil || accounts[0] == nil {
		t.Fatalf("%s: %v", user, err)
	}
	for _, d := range accounts[0].Devices {
		all = append(all, fmt.Sprint(d.Token, " ", d.BadgeBase))
	}
	return all
}

// stand moves the app, and waits until the user actor knows: the session has it before.
func stand(t *testing.T, n *actorstest.Node, d device, user crier.UserID, background bool, unread int) {
	t.Helper()
	want := crier.Online
	if background {
		want = crier.PushOnline
		d.Background(unread)
	} else {
		d.Foreground()
	}
	eventually(t, "it is "+string(want), func() bool { return presence(t, n, user).State == want })
}

// An app went to the background while another token was being registered: the token before was registered again beside it, for the badge, and a logout removed that one
// only. The other one went on getting notifications.
func TestALogoutRemovesATokenThatWasUnderWay(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.IPhone)
	if err := outcome(t, d.registration("one")); err != nil {
		t.Fatal(err)
	}
	g := newGate("ChangeAccounts")
	n.Replicas[0].Intercept(g.hold, nil)
	second := d.registration("two")
	g.waitReached(t)
	stand(t, n, d, "a", true, 3)
	stand(t, n, d, "a", false, 0)
	close(g.open)
	if err := outcome(t, second); err != nil {
		t.Fatal(err)
	}
	if got := devices(t, n, "a"); !slices.Equal(got, []string{"two 0"}) {
		t.Errorf("after the second registration: %v", got)
	}
	d.Logout()
	eventually(t, "no device is left", func() bool { return len(devices(t, n, "a")) == 0 })
}

// A logout removed the token of a registration that had failed, and left the one before, which it was to replace.
func TestALogoutRemovesWhatAFailedRegistrationLeft(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"not done": true, "done, as nobody knows": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, 1)
			d := dial(t, n, "a", crier.IPhone)
			if err := outcome(t, d.registration("one")); err != nil {
				t.Fatal(err)
			}
			fail := func(_ context.Context, command string) error {
				if command == "ChangeAccounts" {
					return crier.Errorf(crier.CodeTimeout, "no answer")
				}
				return nil
			}
			if before {
				n.Replicas[0].Intercept(fail, nil)
			} else {
				n.Replicas[0].Intercept(nil, fail)
			}
			if err := outcome(t, d.registration("two")); !errors.Is(err, crier.CodeTimeout) {
				t.Errorf("the second registration: %v", err)
			}
			want := "two 0"
			if before {
				want = "one 0"
			}
			if got := devices(t, n, "a"); !slices.Equal(got, []string{want}) {
				t.Errorf("after the second registration: %v", got)
			}
			n.Replicas[0].Intercept(nil, nil) // its last try may come now
			d.Logout()
			eventually(t, "no device is left", func() bool { return len(devices(t, n, "a")) == 0 })
		})
	}
}

// An app may tell its unread count before it registers its device: that is the base of the badge then.
func TestABadgeOfBeforeTheRegistration(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.IPhone)
	stand(t, n, d, "a", true, 3)
	if err := outcome(t, d.registration("one")); err != nil {
		t.Fatal(err)
	}
	if got := devices(t, n, "a"); !slices.Equal(got, []string{"one 3"}) {
		t.Errorf("registered in the background: %v", got)
	}
}

// Each time that an app told another badge base there was another registration beside those before: the last one to be done counted, and a client that told thousands cost
// as many goroutines.
func TestBadgesAreStoredOneAfterTheOther(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.IPhone)
	if err := outcome(t, d.registration("one")); err != nil {
		t.Fatal(err)
	}
	g := newGate("ChangeAccounts")
	n.Replicas[0].Intercept(g.hold, nil)
	const last = 300
	for unread := 1; unread < last; unread++ {
		d.Background(unread)
	}
	g.waitReached(t)
	stand(t, n, d, "a", true, last)
	close(g.open)
	eventually(t, "the last base is stored", func() bool { return slices.Equal(devices(t, n, "a"), []string{fmt.Sprint("one ", last)}) })
	if got := n.Replicas[0].Commands("ClaimDevice"); got > 20 { // of the client, of the first base and of the last, and maybe of some in between
		t.Errorf("%d registrations", got)
	}
}

// Of registrations that wait the newest has its turn, and every one is answered.
func TestRegistrationsThatWait(t *testing.T) {
	t.Parallel()
	for _, logout := range []bool{false, true} {
		t.Run(fmt.Sprint("logout ", logout), func(t *testing.T) {
			t.Parallel()
			n := newNode(t, 1)
			d := dial(t, n, "a", crier.IPhone)
			g := newGate("ChangeAccounts")
			n.Replicas[0].Intercept(g.hold, nil)
			first := d.registration("one")
			g.waitReached(t)
			second, third := d.registration("two"), d.registration("three")
			if err := outcome(t, second); !errors.Is(err, crier.CodeTimeout) {
				t.Errorf("the second registration, which the third has replaced: %v", err)
			}
			want := []string{"three 0"}
			if logout {
				want = nil
				d.Logout()
				if err := outcome(t, third); !errors.Is(err, crier.CodeTimeout) {
					t.Errorf("the registration that waits at the logout: %v", err)
				}
			} else {
				d.Closed(crier.CloseByClient) // what waits is done all the same
			}
			close(g.open)
			if err := outcome(t, first); err != nil {
				t.Errorf("the first registration: %v", err)
			}
			if !logout {
				if err := outcome(t, third); err != nil {
					t.Errorf("the third registration: %v", err)
				}
			}
			eventually(t, fmt.Sprint(want, " are left"), func() bool { return slices.Equal(devices(t, n, "a"), want) })
		})
	}
}

// A client whose registrations all fail costs no more memory than some tokens, and the one that succeeds is the only one that is left.
func TestTokensOfFailedRegistrationsAreFew(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "a", crier.IPhone)
	if err := outcome(t, d.registration("one")); err != nil {
		t.Fatal(err)
	}
	n.Replicas[0].Intercept(func(_ context.Context, command string) error {
		if command == "ChangeAccounts" {
			return crier.Errorf(crier.CodeInternal, "the disk is full")
		}
		return nil
	}, nil)
	for i := range 40 {
		if err := outcome(t, d.registration(fmt.Sprint("token", i))); !errors.Is(err, crier.CodeInternal) {
			t.Fatalf("registration %d: %v", i, err)
		}
	}
	if got := n.Replicas[0].Commands("ClaimDevice"); got != actors.TokensMost {
		t.Errorf("%d tokens were tried before they were to be removed, want %d", got, actors.TokensMost)
	}
	n.Replicas[0].Intercept(nil, nil)
	if err := outcome(t, d.registration("last")); err != nil {
		t.Error(err)
	}
	if got := devices(t, n, "a"); !slices.Equal(got, []string{"last 0"}) {
		t.Errorf("%v", got)
	}
}
