package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/failure"
	"github.com/crier-im/crier/vendors/internal/notice"
)

const (
	scope = "https://www.googleapis.com/auth/firebase.messaging"
	// renewBefore is how long before its end a token is renewed, while it is still in use.
	renewBefore = 5 * time.Minute
	// spare is what a token must still be valid for to be used.
	spare = 30 * time.Second
	// refusedPause is how long a failure to get a token answers for all who ask.
	refusedPause = time.Second
)

// access keeps the access token of a service account. oauth2.ReuseTokenSource would, but it holds a lock through a
// request that ends with no context, asks anew for each push while Google is down, and can't be told that a token is no
// longer good. Safe for concurrent use.
type access struct {
	config  *jwt.Config
	client  *http.Client
	timeout time.Duration
	now     func() time.Time
	log     *slog.Logger
	ctx     context.Context // of the sender: it ends with Close
	running sync.WaitGroup

	mu      sync.Mutex
	token   string
	expires time.Time
	asking  chan struct{} // closed when the request under way has its answer; nil: there is none
	failed  *crier.Outcome
	until   time.Time // failed counts until then
}

// get returns a token, or what keeps it from having one. It blocks until ctx ends.
func (a *access) get(ctx context.Context) (token string, failed *crier.Outcome) {
	for {
		token, failed, wait := a.look()
		if wait == nil {
			return token, failed
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return "", nil // the caller knows of its context
		}
	}
}

// look returns what is known, or begins to ask and returns the channel to wait for.
func (a *access) look() (token string, failed *crier.Outcome, wait <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	left := a.expires.Sub(now)
	paused := a.failed != nil && now.Before(a.until)
	if left < renewBefore && !paused && a.asking == nil && a.ctx.Err() == nil {
		a.asking = make(chan struct{})
		a.running.Go(a.ask)
	}
	switch {
	case a.token != "" && left > spare:
		return a.token, nil, nil
	case paused:
		return "", a.failed, nil
	case a.asking == nil: // closed
		o := failures.Outcome(reasonClosed, "")
		return "", &o, nil
	}
	return "", nil, a.asking
}

// drop forgets a token that FCM refuses.
func (a *access) drop(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token == token {
		a.token, a.expires = "", time.Time{}
	}
}

// ask gets a token and wakes those who wait.
func (a *access) ask() {
	token, life, err := a.fetch()
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.failed
	if err == nil {
		a.token, a.expires, a.failed = token, a.now().Add(life), nil
	} else {
		o := translateOAuth(err, a.now())
		a.failed, a.until = &o, a.now().Add(max(refusedPause, o.RetryAfter))
	}
	close(a.asking)
	a.asking = nil
	switch {
	case a.ctx.Err() != nil: // the end is no failure
	case a.failed != nil && (was == nil || was.Reason != a.failed.Reason):
		a.log.Error("no access token", "reason", a.failed.Reason, "info", a.failed.Info)
	case a.failed == nil && was != nil:
		a.log.Info("access tokens come again")
	}
}

// fetch asks Google once. jwt.Config makes its request without a context: the transport adds it.
func (a *access) fetch() (token string, life time.Duration, err error) {
	ctx, cancel := context.WithTimeout(a.ctx, a.timeout)
	defer cancel()
	client := &http.Client{Transport: inContext{ctx, a.client.Transport}, CheckRedirect: a.client.CheckRedirect}
	t, err := a.config.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, client)).Token()
	if err != nil {
		return "", 0, err
	}
	if t.AccessToken == "" || t.Expiry.IsZero() {
		return "", 0, errors.New("the answer has no access_token or no expires_in")
	}
	// At least what makes it usable, so that a token of a few seconds is not asked for in a circle.
	return t.AccessToken, max(time.Until(t.Expiry), spare+time.Second), nil
}

type inContext struct {
	ctx  context.Context
	next http.RoundTripper
}

func (t inContext) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	return next.RoundTrip(r.WithContext(t.ctx))
}

// translateOAuth returns the outcome of a token that was not given.
func translateOAuth(err error, now time.Time) crier.Outcome {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return failures.Outcome(reasonOAuthUnavailable, err.Error())
	}
	var body struct{ Error string }
	_ = json.Unmarshal(e.Body, &body) // what is no JSON is known by its status
	reason := reasonOAuthUnavailable
	switch status := e.Response.StatusCode; {
	case body.Error == "invalid_grant":
		reason = reasonOAuthGrant
	case status == http.StatusTooManyRequests:
		reason = reasonOAuthThrottled
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		reason = reasonOAuthRefused
	}
	text := e.Response.Status
	if body.Error != "" {
		text += ", " + crier.Quote(body.Error)
	}
	return failure.After(failures.Outcome(reason, text), notice.RetryAfter(e.Response.Header, now))
}
