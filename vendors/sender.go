package vendors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/fcm"
	"github.com/crier-im/crier/vendors/webpush"
)

// badDeviceToken is what APNs answers to a token that is not one, and to every token of the other environment.
const badDeviceToken = "BadDeviceToken"

// sender sends with one credential of one app, and pauses while that does not work.
type sender struct {
	pool   *Pool
	place  place
	sealed crier.Credential // as it stands in the app

	// Guarded by the pool's mu.
	users   int
	used    time.Time
	retired bool

	once   sync.Once    // opens
	opened crier.Sender // nil: failed says why
	failed crier.Outcome

	// Until works is closed, which is when the vendor has taken a notification, streak sends are under way at a time: a vendor
	// must not be asked a thousand times with a credential that does not work.
	trial chan struct{}
	works chan struct{}

	mu     sync.Mutex // guards what follows
	proven bool       // works is closed
	lanes  map[string]*breaker
}

// send sends through the breaker of the push's lane.
func (s *sender) send(ctx context.Context, push *crier.DevicePush) crier.Outcome {
	lane := laneOf(push.Device)
	pass, o := s.admit(lane)
	if pass == nil {
		return o
	}
	s.once.Do(s.open)
	if s.opened == nil {
		return s.judge(lane, pass, push.Device, s.failed)
	}
	start := time.Now()
	o = s.opened.Send(ctx, push)
	s.pool.metrics.seconds.WithLabelValues(string(s.place.vendor)).Observe(time.Since(start).Seconds())
	return s.judge(lane, pass, push.Device, o)
}

// laneOf names what of a vendor stands for itself: of Web Push each push service, since anyone can run one.
func laneOf(d *crier.Device) string {
	if d.Vendor == crier.WebPush {
		return webpush.Origin(d.Token)
	}
	return ""
}

// open makes the sender from the credential. The first user does it, without a lock of the pool: to open a
// .p12 file takes long by intent.
func (s *sender) open() {
	c, err := s.pool.options.Vault.Open(s.place.app, s.sealed)
	if err == nil {
		s.opened, err = s.pool.options.open(c)
	}
	if err != nil {
		s.opened, s.failed = nil, outcomes.Outcome(reasonBadCredential, words(err))
		s.log().Error("a credential can't be used", "err", err)
	}
}

// words are what an error says to the operator: of a coded one without the code.
func words(err error) string {
	if e, ok := errors.AsType[*crier.Error](err); ok {
		return e.Info
	}
	return err.Error()
}

// open makes a vendor's sender.
func (o *Options) open(c crier.Credential) (crier.Sender, error) {
	switch c.Vendor {
	case crier.APNs:
		return apns.New(c, apns.Options{Endpoint: o.APNsEndpoint, RootCAs: o.RootCAs, Logger: o.Logger, Now: o.Now})
	case crier.FCM:
		return fcm.New(c, fcm.Options{Endpoint: o.FCMEndpoint, TokenURL: o.FCMTokenURL, RootCAs: o.RootCAs, Logger: o.Logger, Now: o.Now})
	case crier.WebPush:
		return webpush.New(c, o.webPush())
	}
	return nil, unknownVendor(c.Vendor)
}

// close ends the connections. Nobody uses the sender any more.
func (s *sender) close() {
	if s.opened == nil {
		return
	}
	if err := s.opened.Close(); err != nil {
		s.log().Warn("a sender does not close", "err", err)
	}
}

// admit returns the pass of a push, nil where its lane is paused: then the outcome says until when.
func (s *sender) admit(lane string) (*pass, crier.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.lanes[lane]
	if b == nil {
		return new(pass), crier.Outcome{}
	}
	p, wait := b.admit(s.pool.options.Now())
	if p != nil {
		return p, crier.Outcome{}
	}
	o := outcomes.Outcome(reasonPaused, b.last.Reason+": "+b.last.Info)
	o.RetryAfter = wait
	return nil, o
}

// judge counts an outcome, and returns it as it is to be believed.
func (s *sender) judge(lane string, p *pass, d *crier.Device, o crier.Outcome) crier.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.lanes[lane]
	bad := o.Class == crier.OutcomeGone && o.Reason == badDeviceToken && s.place.vendor == crier.APNs
	switch {
	case o.Class == crier.OutcomeAccepted:
		if !s.proven {
			s.proven = true
			close(s.works)
		}
		if b != nil && b.pause > 0 {
			s.log().Info("a vendor takes notifications again", "origin", lane)
		}
		delete(s.lanes, lane)
		return o
	case o.Class != crier.OutcomeConfiguration && !bad:
		p.end()
		return o
	}
	if b == nil {
		b = s.newLane(lane)
	}
	if first := b.pause == 0; b.fail(p, d, o, s.pool.options.Now()) && first {
		s.log().Error("a vendor refuses every notification, sending is paused",
			"origin", lane, "reason", o.Reason, "info", o.Info, "pause", b.pause.String())
	}
	switch one := s.proven && b.devices() <= doubt; {
	case bad && !one:
		o.Class, o.Info = crier.OutcomeConfiguration, wrongEnvironment
	case !bad:
		o.DeviceOnly = one && slices.Contains(ofDevice[s.place.vendor], o.Reason)
	}
	return o
}

// newLane returns the breaker of a lane without one. Where there are too many, one that does not pause makes room, else
// the new one is not kept: then the lane never pauses.
func (s *sender) newLane(lane string) *breaker {
	b := new(breaker)
	if len(s.lanes) >= lanesMost {
		for other, old := range s.lanes {
			if old.pause == 0 {
				delete(s.lanes, other)
				break
			}
		}
	}
	if len(s.lanes) < lanesMost {
		s.lanes[lane] = b
	}
	return b
}

func (s *sender) paused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.pool.options.Now()
	for _, b := range s.lanes {
		if now.Before(b.until) {
			return true
		}
	}
	return false
}

func (s *sender) log() *slog.Logger {
	return s.pool.options.Logger.With("app", s.place.app, "vendor", s.place.vendor, "target", s.place.target, "sandbox", s.place.sandbox)
}

func unknownVendor(v crier.Vendor) error {
	return crier.Errorf(crier.CodeBadParameter, "vendor %s is not apns, fcm or webpush", crier.Quote(string(v)))
}
