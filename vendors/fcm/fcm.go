// Package fcm sends notifications through Firebase Cloud Messaging, with the
// HTTP v1 API and a service account.
package fcm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2/jwt"

	"github.com/crier-im/crier"
)

const (
	// DefaultEndpoint is where Google takes messages.
	DefaultEndpoint = "https://fcm.googleapis.com"
	// DefaultTokenURL is where Google gives access tokens.
	DefaultTokenURL = "https://oauth2.googleapis.com/token"
	// DefaultTimeout bounds one Send: Google asks for at least 10 s before a request is given up.
	DefaultTimeout = 10 * time.Second
	// answerMost bounds an answer, in bytes.
	answerMost = 64 << 10
)

// Options are how a Sender works. The zero value is right for Google's servers.
type Options struct {
	Endpoint string         // instead of DefaultEndpoint: a simulator
	TokenURL string         // instead of the file's token_uri
	Client   *http.Client   // its Transport is used; nil: one is made. Redirects are never followed
	RootCAs  *x509.CertPool // of the transport that is made; nil: the system's
	Timeout  time.Duration  // of one Send; 0: DefaultTimeout
	Now      func() time.Time
	Logger   *slog.Logger // nil: nothing is logged
}

// Sender sends with one service account. Safe for concurrent use.
type Sender struct {
	url     string
	client  *http.Client
	timeout time.Duration
	now     func() time.Time
	access  *access
	ctx     context.Context
	cancel  context.CancelFunc
}

var _ crier.Sender = (*Sender)(nil)

// New makes a sender. It asks Google nothing before the first Send. Errors are those of Check, and
// CodeBadParameter for an address that is not a URL.
func New(c crier.Credential, o Options) (*Sender, error) {
	a, err := read(c)
	if err != nil {
		return nil, err
	}
	endpoint := cmp.Or(o.Endpoint, DefaultEndpoint)
	tokenURL := cmp.Or(o.TokenURL, a.TokenURI, DefaultTokenURL)
	for field, text := range map[string]string{"endpoint": endpoint, "token_url": tokenURL} {
		if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, bad(field, "must be of the form https://host")
		}
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Sender{
		url:    strings.TrimSuffix(endpoint, "/") + "/v1/projects/" + a.ProjectID + "/messages:send",
		client: newClient(o), timeout: cmp.Or(o.Timeout, DefaultTimeout), now: o.Now,
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.access = &access{
		config: &jwt.Config{
			Email: a.ClientEmail, PrivateKey: []byte(a.PrivateKey), PrivateKeyID: a.PrivateKeyID, Scopes: []string{scope}, TokenURL: tokenURL,
		},
		client: s.client, timeout: s.timeout, now: s.now, ctx: s.ctx,
		log: log.With("component", "fcm", "project", a.ProjectID),
	}
	return s, nil
}

func newClient(o Options) *http.Client {
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if o.Client != nil {
		c.Transport = o.Client.Transport
		return c
	}
	c.Transport = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:   5 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   64, // where HTTP/2 is not spoken: a simulator, a proxy
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: cmp.Or(o.Timeout, DefaultTimeout),
		// A connection that a firewall has forgotten is found before the next push waits on it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
	return c
}

// Send sends one notification. It blocks until FCM has answered, ctx ends, or the timeout has passed. An access token that
// FCM refuses is renewed once; such an answer has delivered nothing.
func (s *Sender) Send(ctx context.Context, p *crier.DevicePush) crier.Outcome {
	body, reason := compose(p, s.now())
	if reason != "" {
		return failures.Outcome(reason, "")
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	o, refused := s.try(ctx, body, p.Device.Token)
	if refused != "" {
		s.access.drop(refused)
		o, _ = s.try(ctx, body, p.Device.Token)
	}
	return o
}

// try sends once. refused is the access token where it was not good.
func (s *Sender) try(ctx context.Context, body []byte, device string) (o crier.Outcome, refused string) {
	token, failed := s.access.get(ctx)
	switch {
	case s.ctx.Err() != nil || ctx.Err() != nil:
		return s.interrupted(ctx.Err()), ""
	case failed != nil:
		return *failed, ""
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return failures.Outcome(reasonNetwork, err.Error()), ""
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := s.client.Do(r)
	if err != nil {
		return s.interrupted(err), ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err != nil {
		return s.interrupted(err), ""
	}
	if resp.StatusCode != http.StatusOK {
		o = translate(resp.StatusCode, resp.Header, text, device, s.now())
		if o.Reason == "UNAUTHENTICATED" {
			refused = token
		}
		return o, refused
	}
	var sent struct{ Name string }
	if json.Unmarshal(text, &sent) != nil || sent.Name == "" {
		return failures.Outcome(reasonUnexpected, "200 without the name of a message"), ""
	}
	return crier.Outcome{Class: crier.OutcomeAccepted, ID: sent.Name}, ""
}

// interrupted returns the outcome of a request without an answer.
func (s *Sender) interrupted(err error) crier.Outcome {
	if s.ctx.Err() != nil {
		return failures.Outcome(reasonClosed, "")
	}
	if e, ok := errors.AsType[net.Error](err); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout() {
		return failures.Outcome(reasonTimeout, "")
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return failures.Outcome(reasonNetwork, err.Error())
}

// Close ends the connections and sends under way, and waits for a request for an
// access token. A second Close does nothing.
func (s *Sender) Close() error {
	s.cancel()
	s.access.running.Wait()
	s.client.CloseIdleConnections()
	return nil
}
