package actors_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/actors/actorstest"
)

// disable updates the app of the tests.
func disable(t *testing.T, s *actors.Service, disabled bool) {
	t.Helper()
	if err := s.UpdateApp(t.Context(), newApp(func(a *crier.App) { a.Disabled = disabled })); err != nil {
		t.Fatal(err)
	}
}

// The sessions of an app lived on when it was disabled, though each login was refused.
func TestADisabledAppHasNoSessions(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	const otherID = appID + 1
	if err := n.Service.CreateApp(t.Context(), newApp(func(a *crier.App) { a.ID = otherID })); err != nil {
		t.Fatal(err)
	}
	other := new(actorstest.Conn)
	s, err := n.Service.Connect(t.Context(), crier.Login{App: otherID, User: "a", Platform: crier.Android, SigTime: time.Now()}, other)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Closed(crier.CloseByClient)
	for range 2 {
		devices := []device{dial(t, n, "a", crier.Android), dial(t, n, "a", crier.Web), dial(t, n, "b", crier.PC)}
		disable(t, n.Service, true)
		begin := time.Now()
		for _, d := range devices {
			eventually(t, "the session ends", func() bool { return d.Reason() == crier.CloseDisabled })
		}
		if took := time.Since(begin); took > 10*time.Second { // a second, and what a busy machine adds
			t.Errorf("it took %s", took)
		}
		eventually(t, "nobody is connected", func() bool {
			return presence(t, n, "a").State == crier.Offline && presence(t, n, "b").State == crier.Offline
		})
		if _, err := n.Service.Connect(t.Context(), crier.Login{App: appID, User: "a", Platform: crier.Android, SigTime: time.Now()}, new(actorstest.Conn)); !errors.Is(err, crier.CodeAppDisabled) {
			t.Errorf("a login: %v", err)
		}
		disable(t, n.Service, false)
	}
	d := dial(t, n, "a", crier.Android)
	waitDone(t, n, push(t, n, time.Hour), 2)
	eventually(t, "the message", func() bool { return len(d.Seqs()) == 1 })
	if reason := d.Reason() + other.Reason(); reason != "" {
		t.Errorf("a session of an app that is not disabled was closed: %s", reason)
	}
}

// The node of a connection ends the sessions on it, wherever their accounts are, and one that a node has let in which does not know yet that the app is disabled.
func TestADisabledAppHasNoSessionsOfOtherNodes(t *testing.T) {
	x := newPair(t)
	follow, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	following.Go(func() { x.service.FollowApps(follow) })
	d := x.dial(t, "a")
	disable(t, x.service, true)
	eventually(t, "the session ends", func() bool { return d.Reason() == crier.CloseDisabled })
	disable(t, x.service, false)
	ahead := actorstest.NewSystem(newApp(func(a *crier.App) { a.Disabled = true }))
	edge := actors.NewService("edge", x.edge, ahead, x.vendors, x.edge.system, actors.DefaultCallTimeout, x.edge.metrics, slog.New(slog.DiscardHandler))
	conn := new(actorstest.Conn)
	if _, err := edge.Connect(t.Context(), crier.Login{App: appID, User: "a", Platform: crier.IPhone, SigTime: time.Now()}, conn); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session that was let in ends", func() bool { return conn.Reason() == crier.CloseDisabled })
	eventually(t, "nobody is connected", func() bool {
		p, err := x.service.Presence(t.Context(), appID, []crier.UserID{"a"})
		return err == nil && p[0].State == crier.Offline
	})
}
