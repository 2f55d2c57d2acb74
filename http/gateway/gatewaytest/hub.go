// Package gatewaytest has a Hub in memory and a gateway on loopback, for the
// tests of the gateway and of clients.
package gatewaytest

import (
	"context"
	"slices"
	"sync"

	"github.com/crier-im/crier"
)

// Hub is a gateway.Hub without accounts or mailboxes: the test plays the
// actors. Safe for concurrent use.
type Hub struct {
	// OnConnect, if set before the first connection, decides about a login; a
	// nil error accepts it. It may deliver to conn or close it.
	OnConnect func(ctx context.Context, login crier.Login, conn crier.Conn) error
	// OnRegister, if set before the first connection, answers registrations of devices by calling done, then or
	// later; nil: each is accepted at once.
	OnRegister func(d crier.Device, done func(error))

	mu       sync.Mutex
	apps     map[crier.AppID]*crier.App
	sessions []*Session
	changed  chan struct{} // closed at the next change
}

// NewHub makes a hub with some apps.
func NewHub(apps ...*crier.App) *Hub {
	h := &Hub{apps: make(map[crier.AppID]*crier.App), changed: make(chan struct{})}
	for _, a := range apps {
		h.apps[a.ID] = a
	}
	return h
}

// App returns an app, nil where there is none.
func (h *Hub) App(id crier.AppID) *crier.App {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.apps[id]
}

// Connect accepts every login that OnConnect does not refuse.
func (h *Hub) Connect(ctx context.Context, login crier.Login, conn crier.Conn) (crier.Session, error) {
	if h.OnConnect != nil {
		if err := h.OnConnect(ctx, login, conn); err != nil {
			return nil, err
		}
	}
	s := &Session{Login: login, Conn: conn, hub: h}
	h.change(func() { h.sessions = append(h.sessions, s) })
	return s, nil
}

// change runs f and wakes all who wait.
func (h *Hub) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

// waitFor blocks until ok holds, or until ctx ends. ok is called with mu held.
func (h *Hub) waitFor(ctx context.Context, ok func() bool) error {
	for {
		h.mu.Lock()
		done, changed := ok(), h.changed
		h.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// WaitForSession returns the session with the number i, from 0, in the order of
// their logins. It blocks until that one has come, or until ctx ends.
func (h *Hub) WaitForSession(ctx context.Context, i int) (*Session, error) {
	var s *Session
	err := h.waitFor(ctx, func() bool {
		if len(h.sessions) > i {
			s = h.sessions[i]
		}
		return s != nil
	})
	return s, err
}

// Sessions returns every session that there ever was, in the order of their logins.
func (h *Hub) Sessions() []*Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.sessions)
}

// Session records what the gateway tells a session. Safe for concurrent use.
type Session struct {
	Login crier.Login
	Conn  crier.Conn

	hub     *Hub
	acked   []uint64
	states  []string
	devices []crier.Device
	closes  []crier.CloseReason
	unread  int
	logouts int
}

// Acknowledge records the numbers; a cumulative one is recorded as its highest.
func (s *Session) Acknowledge(seqs []uint64, cumulative bool) {
	s.hub.change(func() {
		if cumulative {
			seqs = []uint64{slices.Max(seqs)}
		}
		s.acked = append(s.acked, seqs...)
	})
}

// Foreground records the state.
func (s *Session) Foreground() { s.hub.change(func() { s.states = append(s.states, "foreground") }) }

// Background records the state and the number.
func (s *Session) Background(unread int) {
	s.hub.change(func() { s.states, s.unread = append(s.states, "background"), unread })
}

// RegisterDevice records the device and answers as Hub.OnRegister says.
func (s *Session) RegisterDevice(d crier.Device, done func(error)) {
	s.hub.change(func() { s.devices = append(s.devices, d) })
	if s.hub.OnRegister == nil {
		done(nil)
		return
	}
	s.hub.OnRegister(d, done)
}

// Logout records that the user has logged out.
func (s *Session) Logout() { s.hub.change(func() { s.logouts++ }) }

// Closed records the reason.
func (s *Session) Closed(reason crier.CloseReason) {
	s.hub.change(func() { s.closes = append(s.closes, reason) })
}

// Acked returns the acknowledged numbers in the order in which they came.
func (s *Session) Acked() []uint64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return slices.Clone(s.acked)
}

// WaitForAcks blocks until n numbers are acknowledged, or until ctx ends.
func (s *Session) WaitForAcks(ctx context.Context, n int) error {
	return s.hub.waitFor(ctx, func() bool { return len(s.acked) >= n })
}

// WaitForState blocks until the last state is the one given, "foreground" or
// "background", and returns the unread number that came last.
func (s *Session) WaitForState(ctx context.Context, state string) (unread int, err error) {
	err = s.hub.waitFor(ctx, func() bool {
		unread = s.unread
		return len(s.states) > 0 && s.states[len(s.states)-1] == state
	})
	return unread, err
}

// WaitForDevices blocks until n devices were registered, with or without an answer, or until ctx ends, and returns them.
func (s *Session) WaitForDevices(ctx context.Context, n int) (devices []crier.Device, err error) {
	err = s.hub.waitFor(ctx, func() bool {
		devices = slices.Clone(s.devices)
		return len(devices) >= n
	})
	return devices, err
}

// Logouts returns how often Logout was called: once at most.
func (s *Session) Logouts() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.logouts
}

// WaitForClosed blocks until the gateway has told that the connection has ended, and returns why.
func (s *Session) WaitForClosed(ctx context.Context) (reason crier.CloseReason, err error) {
	err = s.hub.waitFor(ctx, func() bool {
		if len(s.closes) > 0 {
			reason = s.closes[0]
		}
		return len(s.closes) > 0
	})
	return reason, err
}

// Closes returns the reasons of every call of Closed: there must be one at most.
func (s *Session) Closes() []crier.CloseReason {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return slices.Clone(s.closes)
}
