package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
)

// said is what a command prints, to be read while it runs.
type said struct {
	mu   sync.Mutex
	text string
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(b)
	return len(b), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// waitFor blocks until the words were printed, or until ctx ends.
func (s *said) waitFor(ctx context.Context, words string) bool {
	for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if strings.Contains(s.String(), words) {
			return true
		}
	}
	return false
}

// listenUntil runs listen against a gateway until use returns, and returns what it said on standard error.
func listenUntil(t *testing.T, hub *gatewaytest.Hub, use func(context.Context, *gatewaytest.Session, *said), args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var errs said
	root := newRoot()
	root.SetOut(io.Discard)
	root.SetErr(&errs)
	root.SetArgs(append([]string{
		"listen", "--url", gatewaytest.Start(t, hub, nil).URL, "--sdkappid", gatewaytest.App().ID.String(), "--key", gatewaytest.Key, "--identifier", "x", "--user", "alice",
	}, args...))
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(running) }()
	s, err := hub.WaitForSession(ctx, 0)
	if err != nil {
		t.Error(err)
	} else {
		use(ctx, s, &errs)
	}
	stop()
	err = <-ended
	return errs.String(), err
}

func TestListenRegistersAndLogsOut(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	want := crier.Device{Vendor: crier.APNs, Token: "0a1b", Target: "com.example.app", Sandbox: true, Language: "zh-Hans", Platform: crier.IPhone}
	text, err := listenUntil(t, hub, func(ctx context.Context, s *gatewaytest.Session, errs *said) {
		if got, err := s.WaitForDevices(ctx, 1); err != nil || got[0] != want {
			t.Errorf("%+v, %v", got, err)
		}
		if unread, err := s.WaitForState(ctx, "background"); err != nil || unread != 3 {
			t.Errorf("%d unread, %v", unread, err)
		}
		if !errs.waitFor(ctx, "\ndevice registered with apns\n") {
			t.Error("the answer is not shown")
		}
	}, "--platform", "iPhone", "--device-vendor", "apns", "--device-token", "0a1b", "--device-target", "com.example.app", "--device-sandbox",
		"--language", "zh-Hans", "--background", "3", "--logout")
	if err != nil || !strings.HasSuffix(text, "\nlogged out\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if n := hub.Sessions()[0].Logouts(); n != 1 {
		t.Errorf("%d logouts", n)
	}
}

func TestListenSaysWhyADeviceIsNotRegistered(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	text, err := listenUntil(t, hub, func(ctx context.Context, _ *gatewaytest.Session, errs *said) { errs.waitFor(ctx, "(code 70402)\n") },
		"--device-vendor", "pager", "--device-token", "0a1b")
	if !errors.Is(err, context.Canceled) || !strings.Contains(text, `device not registered: vendor "pager" is`) {
		t.Errorf("%v\n%s", err, text)
	}
	if n := hub.Sessions()[0].Logouts(); n != 0 {
		t.Errorf("%d logouts", n)
	}
}
