// Package vendors sends notifications of all apps to the vendors, each with the
// app's own credential.
package vendors

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vault"
	"github.com/crier-im/crier/vendors/webpush"
)

const (
	// DefaultConcurrency is how many sends are under way at a time where Options do not say.
	DefaultConcurrency = 1000
	// idleDefault is how long a sender is kept that nobody uses. It is longer than the longest pause, which ends with it.
	idleDefault = 30 * time.Minute
)

// Options are how a Pool works. Vault, Logger and Registerer must be given; the rest is right for the vendors' servers as it is.
type Options struct {
	Vault       *vault.Vault
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	Concurrency int // sends under way at a time on this node, others wait; 0: DefaultConcurrency

	APNsEndpoint    string         // instead of both of Apple's: a simulator
	FCMEndpoint     string         // instead of Google's
	FCMTokenURL     string         // instead of that of the credential
	RootCAs         *x509.CertPool // whom to trust as a vendor; nil: the system's
	WebPushInsecure bool           // endpoints without TLS and of internal addresses: simulators only

	Idle time.Duration // after which a sender that is not used is closed; 0: 30 minutes
	Now  func() time.Time
}

// Pool keeps a sender for each credential in use. Safe for concurrent use.
type Pool struct {
	options Options
	metrics *metrics
	slots   chan struct{}
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	sends   sync.WaitGroup
	sweeper sync.WaitGroup

	mu      sync.Mutex
	senders map[place]*sender
	closed  bool
}

// place is what an app has one credential for.
type place struct {
	app     crier.AppID
	vendor  crier.Vendor
	target  string
	sandbox bool
}

// Open returns a pool. It makes no connection before the first Send.
func Open(o Options) *Pool {
	o.Idle = cmp.Or(o.Idle, idleDefault)
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Logger = o.Logger.With("component", "vendors")
	p := &Pool{options: o, slots: make(chan struct{}, cmp.Or(o.Concurrency, DefaultConcurrency)), senders: make(map[place]*sender)}
	p.metrics = newMetrics(o.Registerer, p.paused)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.sweeper.Go(p.sweep)
	return p
}

// Send tries once to send a notification with the app's credential for the device; see crier.Sender. It blocks until the
// vendor has answered, or ctx ends. While a credential does not work, pushes are answered with OutcomeConfiguration and how long
// to wait, without asking the vendor.
func (p *Pool) Send(ctx context.Context, app *crier.App, push *crier.DevicePush) crier.Outcome {
	o := p.send(ctx, app, push)
	p.metrics.outcomes.WithLabelValues(string(push.Device.Vendor), string(o.Class), o.Reason).Inc()
	return o
}

func (p *Pool) send(ctx context.Context, app *crier.App, push *crier.DevicePush) crier.Outcome {
	d := push.Device
	at := app.Credential(d.Vendor, d.Target, d.Sandbox)
	if at < 0 {
		return outcomes.Outcome(reasonNoCredential, "")
	}
	s := p.acquire(place{app.ID, d.Vendor, d.Target, d.Sandbox}, &app.Credentials[at])
	if s == nil {
		return outcomes.Outcome(reasonClosed, "")
	}
	defer p.release(s)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	// Those that wait for a trial take no slot: one app's credential must not hold up the others'.
	leave := enter(ctx, s.trial, s.works)
	defer leave()
	leaveSlot := enter(ctx, p.slots, nil)
	defer leaveSlot()
	switch {
	case ctx.Err() == nil:
		return s.send(ctx, push)
	case p.ctx.Err() != nil:
		return outcomes.Outcome(reasonClosed, "")
	}
	return outcomes.Outcome(reasonBusy, "")
}

// Lane names what notifications to the device share with others: the credential, and the push service.
func (p *Pool) Lane(d *crier.Device) string {
	environment := " "
	if d.Sandbox {
		environment = " sandbox "
	}
	return string(d.Vendor) + environment + d.Target + " " + laneOf(d)
}

// enter waits for a place in room, or until open is closed, or ctx has ended, and returns what gives the place back.
func enter(ctx context.Context, room chan struct{}, open <-chan struct{}) (leave func()) {
	select {
	case <-open:
		return func() {}
	default:
	}
	select {
	case room <- struct{}{}:
		return func() { <-room }
	case <-open:
	case <-ctx.Done():
	}
	return func() {}
}

// acquire returns the sender of a credential, which the caller releases; nil: the pool is closed. A caller with an app
// as it was before its credential was replaced gets the newer one's: two of them must not close each other's.
func (p *Pool) acquire(at place, c *crier.Credential) *sender {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	s := p.senders[at]
	var replaced *sender
	if s == nil || !c.Added.Before(s.sealed.Added) && !bytes.Equal(c.Secret, s.sealed.Secret) {
		if s != nil && p.retire(s) {
			replaced = s
		}
		s = &sender{
			pool: p, place: at, sealed: *c, lanes: make(map[string]*breaker), trial: make(chan struct{}, streak), works: make(chan struct{}),
		}
		p.senders[at] = s
	}
	s.users++
	p.sends.Add(1)
	p.mu.Unlock()
	if replaced != nil {
		replaced.close()
	}
	return s
}

// retire takes a sender out of the pool and reports whether the caller has to close it, after mu is unlocked;
// else its last user does. The caller holds mu.
func (p *Pool) retire(s *sender) bool {
	s.retired = true
	delete(p.senders, s.place)
	return s.users == 0
}

func (p *Pool) release(s *sender) {
	defer p.sends.Done()
	p.mu.Lock()
	s.users--
	s.used = p.options.Now()
	last := s.retired && s.users == 0
	p.mu.Unlock()
	if last {
		s.close()
	}
}

// sweep closes senders that nobody uses.
func (p *Pool) sweep() {
	t := time.NewTicker(p.options.Idle / 4)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.closeIdle()
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Pool) closeIdle() {
	var idle []*sender
	before := p.options.Now().Add(-p.options.Idle)
	p.mu.Lock()
	for _, s := range p.senders {
		if s.users == 0 && s.used.Before(before) && p.retire(s) {
			idle = append(idle, s)
		}
	}
	p.mu.Unlock()
	for _, s := range idle {
		s.close()
	}
}

// paused returns how many senders of a vendor are paused now.
func (p *Pool) paused(vendor crier.Vendor) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.senders {
		if s.place.vendor == vendor && s.paused() {
			n++
		}
	}
	return float64(n)
}

// Close ends the sends under way, which fail as unavailable, and every connection. The second call does nothing.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.sends.Wait()
	p.sweeper.Wait()
	p.mu.Lock()
	left := p.senders
	p.senders = nil
	p.mu.Unlock()
	for _, s := range left {
		s.close()
	}
}

// webPush is the options of Web Push, by which tokens are checked too.
func (o *Options) webPush() webpush.Options {
	return webpush.Options{AllowHTTP: o.WebPushInsecure, AllowPrivate: o.WebPushInsecure, RootCAs: o.RootCAs, Logger: o.Logger, Now: o.Now}
}
