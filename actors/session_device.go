package actors

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crier-im/crier"
)

// tokensMost is how many tokens a session keeps that may be registered: more than one where registrations have failed. Before another one all of them are removed.
const tokensMost = 16

// sessionDevice registers the device of one session: one step after the other, so that the last word counts, and to the end although the session has
// ended meanwhile. One registration by the client and one update of the badge wait at most. Safe for concurrent use.
type sessionDevice struct {
	service *Service
	login   *crier.Login

	mu         sync.Mutex
	running    bool            // a step is under way
	waiting    *registerDevice // by the client
	background bool            // where the app is
	unread     int             // what it said when it went to the background
	badge      bool            // that is to be stored
	left       bool            // the client has logged out

	// Of the step that is under way; while there is none, of who holds mu.
	device *crier.Device  // registered last
	tokens []crier.Device // that may be registered
	unsure time.Time      // until when a registration that has failed may still be done
}

// register registers the device of the connection, in place of what it gave before. Of registrations that wait the newest counts: the one before is answered
// with CodeTimeout. The gateway has a second one only when it has given up the first.
func (s *sessionDevice) register(m registerDevice) {
	s.mu.Lock()
	refused := &m
	if !s.left {
		refused, s.waiting = s.waiting, &m
		s.start()
	}
	s.mu.Unlock()
	refused.refuse()
}

// move keeps the unread count of an app in the background as the base of its device's badge. Only the last one waits. The app may have gone there while its
// device is being registered.
func (s *sessionDevice) move(background bool, unread int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.background, s.badge, s.unread = background, background, unread
	s.start()
}

// leave removes every token that the session has registered, also the one that is under way.
func (s *sessionDevice) leave() {
	s.mu.Lock()
	refused := s.waiting
	s.waiting, s.left = nil, true
	s.start()
	s.mu.Unlock()
	refused.refuse()
}

// refuse tells the client that its registration has not had its turn; nil is none.
func (m *registerDevice) refuse() {
	if m != nil {
		m.done(crier.Errorf(crier.CodeTimeout, "another registration or a logout came before this one had its turn"))
	}
}

// start begins with what waits, unless a step is under way. The caller holds mu.
func (s *sessionDevice) start() {
	if s.running {
		return
	}
	if step := s.next(); step != nil {
		s.running = true
		go s.run(step) // ends with what waits: once the session has ended, within the time of four steps
	}
}

func (s *sessionDevice) run(step func()) {
	for step != nil {
		step()
		s.mu.Lock()
		step = s.next()
		s.running = step != nil
		s.mu.Unlock()
	}
}

// next returns the next step, nil where nothing waits. The caller holds mu, and no step is under way.
func (s *sessionDevice) next() func() {
	switch {
	case s.left && len(s.tokens) > 0:
		return s.removeAll
	case s.left:
	case s.waiting != nil:
		m := s.waiting
		s.waiting = nil
		if s.background {
			m.device.BadgeBase = s.unread
		}
		return func() { m.done(s.try(m.device)) }
	case s.badge && s.device != nil:
		s.badge = false // tried once: the app tells again when it goes there again
		if d := *s.device; d.BadgeBase != s.unread {
			d.BadgeBase = s.unread
			return func() { s.tryBadge(d) }
		}
	}
	return nil
}

// try registers a device in place of all others that the session has given. A registration that fails may be done all the same, so its token is kept.
func (s *sessionDevice) try(d crier.Device) error {
	app := s.service.App(s.login.App)
	if app == nil {
		return crier.Errorf(crier.CodeUnknownApp, "there is no app %d", s.login.App)
	}
	d.Platform = s.login.Platform
	d, err := s.service.vendors.CheckDevice(app, d)
	if err != nil {
		return err
	}
	if len(s.tokens) >= tokensMost {
		if err := s.service.removeDevices(context.Background(), app.ID, s.login.User, s.tokens); err != nil {
			return err
		}
		s.device, s.tokens = nil, nil
	}
	others := slices.DeleteFunc(slices.Clone(s.tokens), func(o crier.Device) bool { return o.Same(&d) })
	s.tokens = append(slices.Clone(others), crier.Device{Vendor: d.Vendor, Token: d.Token})
	if err := s.service.register(context.Background(), app, s.login.User, d, s.login.SigTime, others); err != nil {
		s.unsure = time.Now().Add(s.service.timeout) // it goes on with other calls of its round
		return err
	}
	s.device, s.tokens = &d, s.tokens[len(others):]
	return nil
}

func (s *sessionDevice) tryBadge(d crier.Device) {
	if err := s.try(d); err != nil {
		s.service.log.Debug("the base of a badge could not be stored", "err", err)
	}
}

// removeAll is the logout. It waits for what may still be done, which would come after it.
func (s *sessionDevice) removeAll() {
	time.Sleep(time.Until(s.unsure))
	if err := s.service.removeDevices(context.Background(), s.login.App, s.login.User, s.tokens); err != nil {
		s.service.log.Warn("the devices of a logout could not be removed", "app", s.login.App, "err", err)
	}
	s.device, s.tokens = nil, nil
}
