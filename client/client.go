// Package client is the Go SDK of Crier: a Client for back ends, which pushes
// and manages accounts over the REST API, and Listen for receivers, which
// stays connected and hands over each message once.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/usersig"
)

const (
	// DefaultAttempts is how often a call is tried in all.
	DefaultAttempts = 4
	// callTimeout bounds one try: the server answers within 3 s.
	callTimeout = 10 * time.Second
	// idleMost is how many connections are kept for later calls: the standard library's 2 make new ones all the time for calls side by side.
	idleMost = 64
	// maxAnswer bounds an answer, in bytes: 500 accounts with everything they can have.
	maxAnswer = 16 << 20
	// sigLife is how long a UserSig is valid that SecretKey makes.
	sigLife = time.Hour
)

// Auth gives the UserSig of an account. It may block until ctx ends, and must
// be safe for concurrent use.
type Auth func(ctx context.Context, app crier.AppID, user crier.UserID) (string, error)

// SecretKey makes UserSigs with the app's secret key: only for back ends, which
// can keep a secret. One is used again for half of its hour.
func SecretKey(key string) Auth {
	type made struct {
		sig string
		at  time.Time
	}
	var mu sync.Mutex
	var last made
	var whose string
	return func(_ context.Context, app crier.AppID, user crier.UserID) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		now, who := time.Now(), app.String()+"/"+string(user)
		if who != whose || now.Sub(last.at) > sigLife/2 {
			whose, last = who, made{usersig.Sign(key, app, user, now, sigLife, nil), now}
		}
		return last.sig, nil
	}
}

// UserSig always gives the same UserSig.
func UserSig(sig string) Auth {
	return func(context.Context, crier.AppID, crier.UserID) (string, error) { return sig, nil }
}

// Client calls the REST API as one admin of one app. Safe for concurrent use.
//
// Errors that the API answers with are *crier.Error, to be tested with errors.Is(err,
// crier.CodeUnknownAccount) and read with crier.AsError. All calls block until an answer has come, the attempts are
// used up, or ctx ends.
type Client struct {
	// HTTP makes the requests. New sets one with a time-out of 10 s a try. All that it sets share their connections, and keep up to 64 idle ones a host.
	HTTP *http.Client
	// Attempts is how often a call is tried where trying again is safe: after an error of the network, a 5xx, or a
	// code that asks for it (60007, 60008, 91000). New sets DefaultAttempts.
	Attempts int
	// Patient is for bulk work: a call that comes too often (60007, or HTTP status 429) waits and is tried again until
	// ctx ends, which does not count as one of the Attempts. Calls that are tried once stay so. New leaves it false.
	Patient bool

	base       string
	app        crier.AppID
	identifier crier.UserID
	auth       Auth
}

// transport is that of all clients: one that is made for a few calls leaves no connections behind.
var transport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program has put its own there
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, idleMost // 0: no bound over all hosts
	return t
})

// New makes a client of the server at baseURL, such as https://push.example.com,
// for an app and one of its admins.
func New(baseURL string, app crier.AppID, identifier crier.UserID, auth Auth) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("base URL %q is not of the form https://host", baseURL)
	}
	if auth == nil {
		return nil, errors.New("a client needs an Auth")
	}
	return &Client{
		HTTP: &http.Client{Timeout: callTimeout, Transport: transport()}, Attempts: DefaultAttempts,
		base: strings.TrimSuffix(baseURL, "/"), app: app, identifier: identifier, auth: auth,
	}, nil
}

// App returns the app that the client calls for.
func (c *Client) App() crier.AppID { return c.app }

// answer is what every answer of the API has.
type answer struct {
	ActionStatus string
	ErrorCode    crier.Code
	ErrorInfo    string
}

// status is an HTTP status that is not the API's own.
type status int

func (s status) Error() string { return fmt.Sprintf("HTTP status %d", int(s)) }

// call sends in to a command and reads the answer into out, which may be nil.
// A command that must not be applied twice says once.
func (c *Client) call(ctx context.Context, command string, once bool, in, out any) (tries int, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", command, err)
	}
	wait := backoff{least: 100 * time.Millisecond, most: 2 * time.Second}
	for counted := 0; ; {
		tries++
		err = c.try(ctx, command, body, out)
		if !c.Patient || !tooOften(err) {
			counted++
		}
		if err == nil || once || counted >= c.Attempts || !temporary(err) || ctx.Err() != nil {
			break
		}
		if wait.sleep(ctx) != nil {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", command, err)
	}
	return tries, err
}

// tooOften reports whether the call was turned away for the rate of calls, of Crier or of a proxy before it.
func tooOften(err error) bool {
	return errors.Is(err, crier.CodeRateLimited) || errors.Is(err, status(http.StatusTooManyRequests))
}

// temporary reports whether the same call may succeed a little later.
func temporary(err error) bool {
	if tooOften(err) {
		return true
	}
	if s, ok := errors.AsType[status](err); ok {
		return s >= 500
	}
	if code, ok := errors.AsType[crier.Code](err); ok {
		return code == crier.CodeTimeout || code == crier.CodeInternal
	}
	_, network := errors.AsType[*url.Error](err)
	return network
}

func (c *Client) try(ctx context.Context, command string, body []byte, out any) error {
	sig, err := c.auth(ctx, c.app, c.identifier)
	if err != nil {
		return fmt.Errorf("make a UserSig: %w", err)
	}
	query := url.Values{
		"sdkappid": {c.app.String()}, "identifier": {string(c.identifier)}, "usersig": {sig},
		"random": {fmt.Sprint(rand.Uint32())}, "contenttype": {"json"},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v4/"+command+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return status(resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &url.Error{Op: "Read", URL: c.base, Err: err}
	}
	return decode(data, out)
}

// withoutURL takes the query out of an error, since it has the UserSig in it and errors end up in logs.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		e.URL, _, _ = strings.Cut(e.URL, "?")
	}
	return err
}

func decode(data []byte, out any) error {
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return fmt.Errorf("the answer is not of the API: %w", err)
	}
	if out != nil { // im_push answers with a TaskId even where it fails
		if err := json.Unmarshal(data, out); err != nil {
			return fmt.Errorf("the answer is not of the API: %w", err)
		}
	}
	if a.ErrorCode != 0 || a.ActionStatus != "OK" {
		return &crier.Error{Code: a.ErrorCode, Info: a.ErrorInfo}
	}
	return nil
}
