package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
)

var phone = client.Device{Vendor: crier.APNs, Token: "0a1b", Target: "com.example.app", Sandbox: true, Language: "zh-Hans"}

func wantTokens(t *testing.T, s *gatewaytest.Session, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	devices, err := s.WaitForDevices(ctx, len(want))
	var got []string
	for _, d := range devices {
		got = append(got, d.Token)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("registered %q, %v, want %q", got, err, want)
	}
}

func wantUnread(t *testing.T, s *gatewaytest.Session, state string, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if unread, err := s.WaitForState(ctx, state); err != nil || unread != want {
		t.Errorf("%s with %d, %v, want %d", state, unread, err, want)
	}
}

func TestDeviceIsRegisteredAfterEachLogin(t *testing.T) {
	t.Parallel()
	for _, protocol := range []client.Protocol{client.JSON, client.Proto} {
		hub := gatewaytest.NewHub(gatewaytest.App())
		l := listen(t, gatewaytest.Start(t, hub, nil).URL, func(cfg *client.ListenConfig) { cfg.Protocol, cfg.Device = protocol, &phone })
		first := session(t, hub, 0)
		wantTokens(t, first, "0a1b")
		if got, _ := first.WaitForDevices(t.Context(), 1); got[0] != (crier.Device{
			Vendor: crier.APNs, Token: "0a1b", Target: "com.example.app", Sandbox: true, Language: "zh-Hans", Platform: crier.Web,
		}) {
			t.Errorf("%+v", got[0])
		}
		if err := within(t, "answer", l.devices); err != nil {
			t.Errorf("%v", err)
		}
		first.Conn.Close(crier.CloseMoved)
		wantTokens(t, session(t, hub, 1), "0a1b")
		within(t, "answer", l.devices)
		l.Register(client.Device{Vendor: crier.FCM, Token: "new"})
		wantTokens(t, session(t, hub, 1), "0a1b", "new")
		within(t, "answer", l.devices)
		session(t, hub, 1).Conn.Close(crier.CloseMoved)
		wantTokens(t, session(t, hub, 2), "new")
	}
}

// A refusal is told, and the messages come all the same; only what may go well later is tried again.
func TestRefusedRegistration(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	answers := make(chan error, 10)
	hub.OnRegister = func(_ crier.Device, done func(error)) { done(<-answers) }
	answers <- errors.New("a fault")
	answers <- crier.Errorf(crier.CodeTimeout, "late")
	answers <- crier.Errorf(crier.CodeBadParameter, "the app has no credential")
	l := listen(t, gatewaytest.Start(t, hub, nil).URL, func(cfg *client.ListenConfig) { cfg.Device = &phone })
	for _, want := range []crier.Code{crier.CodeInternal, crier.CodeTimeout, crier.CodeBadParameter} {
		if err := within(t, "answer", l.devices); !errors.Is(err, want) {
			t.Errorf("got %v, want %d", err, int(want))
		}
	}
	s := session(t, hub, 0)
	s.Conn.Deliver(gatewaytest.Message(1, "all the same"))
	within(t, "message", l.messages)
	time.Sleep(50 * time.Millisecond) // more than the pause
	wantTokens(t, s, "0a1b", "0a1b", "0a1b")
	answers <- nil
	l.Register(phone)
	if err := within(t, "answer", l.devices); err != nil {
		t.Errorf("%v", err)
	}
}

func TestBackgroundIsToldAgain(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	l := listen(t, gatewaytest.Start(t, hub, nil).URL, nil)
	first := session(t, hub, 0)
	l.Background(3)
	wantUnread(t, first, "background", 3)
	first.Conn.Close(crier.CloseMoved)
	second := session(t, hub, 1)
	wantUnread(t, second, "background", 3)
	l.Foreground()
	wantUnread(t, second, "foreground", 3)
	l.Background(0)
	wantUnread(t, second, "background", 0)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	l := listen(t, gatewaytest.Start(t, hub, nil).URL, func(cfg *client.ListenConfig) { cfg.Device = &phone })
	within(t, "connection", l.states)
	within(t, "answer", l.devices)
	l.Logout()
	if err := within(t, "end", l.done); err != nil {
		t.Errorf("%v", err)
	}
	if s := within(t, "state", l.states); s.Connected || s.Err != nil || s.Retry != 0 {
		t.Errorf("%+v", s)
	}
	if all := hub.Sessions(); len(all) != 1 || all[0].Logouts() != 1 {
		t.Errorf("%d sessions", len(all))
	}
}

// The device must be registered on the connection for the logout to take it back, so a logout while away
// connects first, and does both.
func TestLogoutWhileAway(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	var l *listening
	ready := make(chan struct{})
	l = listen(t, gatewaytest.Start(t, hub, nil).URL, func(cfg *client.ListenConfig) {
		cfg.Device = &phone
		cfg.OnState = func(s client.State) {
			if <-ready; s.Retry > 0 {
				l.Logout()
			}
		}
	})
	close(ready)
	first := session(t, hub, 0)
	wantTokens(t, first, "0a1b")
	first.Conn.Close(crier.CloseGoingAway)
	if err := within(t, "end", l.done); err != nil {
		t.Errorf("%v", err)
	}
	second := session(t, hub, 1)
	wantTokens(t, second, "0a1b")
	if first.Logouts() != 0 || second.Logouts() != 1 || len(hub.Sessions()) != 2 {
		t.Errorf("%d and %d logouts in %d sessions", first.Logouts(), second.Logouts(), len(hub.Sessions()))
	}
}

// A kick that crosses a logout is told.
func TestKickBeforeTheLogoutIsTaken(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	hub.OnConnect = func(_ context.Context, _ crier.Login, conn crier.Conn) error {
		conn.Close(crier.CloseKicked)
		return nil
	}
	l := listen(t, gatewaytest.Start(t, hub, nil).URL, nil)
	l.Logout()
	var closed *client.CloseError
	if err := within(t, "end", l.done); !errors.As(err, &closed) || closed.Reason != crier.CloseKicked {
		t.Errorf("%v", err)
	}
}

func TestNothingIsHandedOverAfterLogout(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	hub.OnConnect = func(_ context.Context, _ crier.Login, conn crier.Conn) error {
		for i := range uint64(5) { // written with the welcome
			conn.Deliver(gatewaytest.Message(i+1, "x"))
		}
		return nil
	}
	var l *listening
	ready := make(chan struct{})
	l = listen(t, gatewaytest.Start(t, hub, nil).URL, func(cfg *client.ListenConfig) {
		next := cfg.OnMessage
		cfg.OnMessage = func(ctx context.Context, m *client.Message) error {
			<-ready
			l.Logout()
			return next(ctx, m)
		}
	})
	close(ready)
	if err := within(t, "end", l.done); err != nil {
		t.Errorf("%v", err)
	}
	if len(l.messages) != 1 {
		t.Errorf("%d messages, want the one that was under way", len(l.messages))
	}
	if acked := session(t, hub, 0).Acked(); len(acked) > 1 {
		t.Errorf("acknowledged %v", acked)
	}
}
