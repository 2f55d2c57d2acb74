package apns

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/crier-im/crier"
)

// Options are the seams and bounds of a Sender. The zero value is for production.
type Options struct {
	Endpoint    string         // "https://host:port" instead of Apple's, such as the simulator's
	RootCAs     *x509.CertPool // whom to trust as server; nil: the system's roots
	Logger      *slog.Logger   // nil: no log
	Timeout     time.Duration  // of one push, with the wait for a connection; 0: 20 s
	Concurrency int            // pushes under way at a time, others wait; 0: 1000
	Connections int            // connections at a time; 0: 4. Another is opened while all streams are taken
	Now         func() time.Time
}

// Sender sends with one credential. Safe for concurrent use.
type Sender struct {
	credential crier.Credential // without its secret
	client     *apns2.Client
	transport  *transport
	composer   *composer
	log        *slog.Logger
	timeout    time.Duration
	slots      chan struct{}

	closed context.Context
	cancel context.CancelFunc
	sends  sync.WaitGroup

	mu     sync.Mutex // guards what follows, and closing against a send that begins
	warned time.Time
}

var _ crier.Sender = (*Sender)(nil)

// New returns a Sender. It connects with the first push. Errors are Check's.
func New(c crier.Credential, o Options) (*Sender, error) {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	id, err := parse(c, now())
	if err != nil {
		return nil, err
	}
	endpoint, address, err := endpointOf(c, o.Endpoint)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs, NextProtos: []string{"h2"}}
	t := &transport{now: now}
	if id.cert != nil {
		config.Certificates = []tls.Certificate{*id.cert}
	} else {
		t.bearer = &bearer{now: now, token: token.Token{AuthKey: id.key, KeyID: id.KeyID, TeamID: id.TeamID}}
	}
	t.pool = newPool(address, config, cmp.Or(o.Connections, 4))
	c.Secret = nil
	s := &Sender{
		credential: c, transport: t, composer: newComposer(), log: logger(o.Logger, c),
		timeout: cmp.Or(o.Timeout, 20*time.Second), slots: make(chan struct{}, cmp.Or(o.Concurrency, 1000)),
	}
	s.client = &apns2.Client{Host: endpoint, HTTPClient: &http.Client{Transport: t, CheckRedirect: noRedirect}}
	s.closed, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func logger(l *slog.Logger, c crier.Credential) *slog.Logger {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return l.With("component", "apns", "target", c.Target, "sandbox", c.Sandbox)
}

// noRedirect keeps the provider token from going elsewhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// endpointOf returns the URL and the host:port of the server.
func endpointOf(c crier.Credential, override string) (endpoint, address string, err error) {
	endpoint = apns2.HostProduction
	if c.Sandbox {
		endpoint = apns2.HostDevelopment
	}
	endpoint = strings.TrimSuffix(cmp.Or(override, endpoint), "/")
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" {
		return "", "", bad("endpoint %s is not a URL such as https://host:port", crier.Quote(override))
	}
	return endpoint, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")), nil
}

// Send tries once; see crier.Sender. Only a provider token that APNs calls
// expired is renewed, once, and the push sent again with it.
func (s *Sender) Send(ctx context.Context, p *crier.DevicePush) crier.Outcome {
	if !s.begin() {
		return outcome(ReasonClosed)
	}
	defer s.sends.Done()
	n, refused := s.notification(p)
	if refused != "" {
		return outcome(refused)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return s.failure(ctx.Err(), "")
	}
	o := s.push(ctx, n)
	s.note(o)
	return o
}

func (s *Sender) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Err() != nil {
		return false
	}
	s.sends.Add(1)
	return true
}

// notification composes the request, or returns the reason why it is not sent.
func (s *Sender) notification(p *crier.DevicePush) (n *apns2.Notification, refused string) {
	if !validToken(p.Device.Token) { // it becomes a part of the path
		return nil, "BadDeviceToken"
	}
	if p.Device.Sandbox != s.credential.Sandbox { // APNs would answer BadDeviceToken, and the device be removed
		return nil, ReasonEnvironment
	}
	payload, background, refused := s.composer.compose(p)
	if refused != "" {
		return nil, refused
	}
	id := pushID(p)
	n = &apns2.Notification{
		ApnsID: id, CollapseID: id, DeviceToken: p.Device.Token, Topic: s.credential.Target,
		Expiration: p.Expires, Priority: apns2.PriorityHigh, PushType: apns2.PushTypeAlert, Payload: payload,
	}
	if background {
		n.Priority, n.PushType = apns2.PriorityLow, apns2.PushTypeBackground
	}
	return n, ""
}

// CheckToken checks the form of a device token: 1 to 100 bytes in hexadecimal digits. The error carries
// CodeBadParameter.
func CheckToken(token string) error {
	if !validToken(token) {
		return bad("token must be 1 to 100 bytes in hexadecimal digits, as APNs gives it to the app")
	}
	return nil
}

// validToken reports whether a token has the form of one: hexadecimal, up to 100 bytes as Apple warns.
func validToken(token string) bool {
	return token != "" && len(token) <= 200 && len(token)%2 == 0 && strings.Trim(token, "0123456789abcdefABCDEF") == ""
}

// pushNamespace separates the ids of Crier's notifications from others' (RFC 9562, 5.5).
var pushNamespace = uuid.MustParse("6f0d6c1e-3c1b-5d0a-9c0e-6a1f2f9b7a44")

// pushID names a push to a device. It is the same after a crash, so that a repeat
// replaces the notification on the device.
func pushID(p *crier.DevicePush) string {
	name := string(p.Task) + "\x00" + string(crier.APNs) + "\x00" + strings.ToLower(p.Device.Token)
	return uuid.NewSHA1(pushNamespace, []byte(name)).String()
}

func (s *Sender) push(ctx context.Context, n *apns2.Notification) crier.Outcome {
	a, o := s.try(ctx, n)
	if o.Reason == "ExpiredProviderToken" && s.transport.bearer != nil && s.transport.bearer.renew(a.bearer) {
		_, o = s.try(ctx, n)
	}
	return o
}

func (s *Sender) try(ctx context.Context, n *apns2.Notification) (*answer, crier.Outcome) {
	ctx, a := withAnswer(ctx)
	_, err := s.client.PushWithContext(ctx, n)
	if a.status == 0 { // apns2 also fails for a body that it can't read
		return a, s.failure(err, a.goAway)
	}
	return a, a.outcome()
}

// outcome returns what an answer means.
func (a *answer) outcome() crier.Outcome {
	o := crier.Outcome{Class: crier.OutcomeAccepted}
	switch _, known := reasons[a.reason]; {
	case a.status == http.StatusOK:
	case known && reasons[a.reason].Status != 0:
		o = outcome(a.reason)
	default:
		o = undocumented(a.status, a.reason)
	}
	o.ID, o.RetryAfter, o.GoneSince = a.id, a.retryAfter, a.goneSince
	return o
}

// failure returns what it means that there was no answer.
func (s *Sender) failure(err error, goAway string) crier.Outcome {
	if s.closed.Err() != nil {
		return outcome(ReasonClosed)
	}
	if r, ok := reasons[goAway]; ok && r.Status != 0 && r.Class == crier.OutcomeConfiguration {
		return outcome(goAway)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return outcome(ReasonTimeout)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return outcome(ReasonServerCertificate)
	}
	// A TLS alert of the other side; with TLS 1.3 it comes with the first read, after the handshake.
	if e, ok := errors.AsType[*net.OpError](err); ok && isAlert(e) && s.transport.bearer == nil {
		return outcome(ReasonRefusedByTLS)
	}
	return outcome(ReasonConnection)
}

// warnGap is how often, at most, the same failure of a whole campaign is logged.
const warnGap = time.Minute

// note logs what an operator can mend, or should know of; the rest is of one device or message.
func (s *Sender) note(o crier.Outcome) {
	if o.Class != crier.OutcomeConfiguration && o.Class != crier.OutcomeUnavailable || o.Reason == ReasonClosed {
		return
	}
	now := s.transport.now()
	s.mu.Lock()
	due := now.Sub(s.warned) >= warnGap
	if due {
		s.warned = now
	}
	s.mu.Unlock()
	if due {
		s.log.Warn("APNs does not take a notification", "reason", o.Reason, "info", o.Info)
	}
}

// Close ends the connections and waits for the sends under way, which fail. The second call does nothing.
func (s *Sender) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.transport.pool.close()
	s.sends.Wait()
	return nil
}
