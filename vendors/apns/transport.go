package apns

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// answerMost bounds what is read of an answer: a reason and a timestamp.
const answerMost = 4 << 10

// answer is what APNs said to one request.
type answer struct {
	status     int
	id         string
	reason     string
	retryAfter time.Duration
	goneSince  time.Time
	bearer     string // the provider token that the request carried
	goAway     string // the reason of the connection's GOAWAY frame
}

type answerKey struct{}

// transport is what apns2's client sends through. It adds the headers that
// apns2 can't, and reads from the answer what apns2 drops, into the *answer of the context.
type transport struct {
	pool   *pool
	bearer *bearer // nil with a certificate
	now    func() time.Time
}

// RoundTrip makes one request and reads its answer.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	a, _ := req.Context().Value(answerKey{}).(*answer)
	if err := t.prepare(req, a); err != nil {
		return nil, err
	}
	resp, c, err := t.pool.do(req)
	if err != nil {
		if c != nil {
			a.goAway = c.wire.goAway()
		}
		return nil, err
	}
	defer t.pool.release(c)
	var text []byte
	if resp.ContentLength != 0 { // that of what was taken is empty
		text, err = io.ReadAll(io.LimitReader(resp.Body, answerMost))
	}
	_ = resp.Body.Close()
	if err != nil && resp.StatusCode != http.StatusOK {
		return nil, err // without its reason; a 200 was taken, whatever broke after it
	}
	a.read(resp, text, t.now())
	resp.Body = http.NoBody
	return resp, nil
}

func (t *transport) prepare(req *http.Request, a *answer) (err error) {
	if req.Header.Get("apns-expiration") == "" {
		req.Header.Set("apns-expiration", "0") // absent means that APNs stores it, 0 that it tries once
	}
	if t.bearer == nil {
		return nil
	}
	if a.bearer, err = t.bearer.get(); err == nil {
		req.Header.Set("authorization", "bearer "+a.bearer)
	}
	return err
}

func (a *answer) read(resp *http.Response, text []byte, now time.Time) {
	var body struct {
		Reason    string
		Timestamp int64 // milliseconds
	}
	if len(text) > 0 {
		_ = json.Unmarshal(text, &body) // a proxy may answer in HTML: then there is a status and no reason
	}
	a.status, a.id, a.reason = resp.StatusCode, resp.Header.Get("apns-id"), body.Reason
	a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	if resp.StatusCode == http.StatusGone && body.Timestamp > 0 {
		a.goneSince = time.UnixMilli(body.Timestamp)
	}
}

// retryAfter reads the header's two forms, seconds and a date (RFC 9110, 10.2.3).
func retryAfter(text string, now time.Time) time.Duration {
	const most = 24 * time.Hour // a longer one is a mistake of someone's clock
	if text == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(0, min(seconds, int(most.Seconds())))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), most))
}

// withAnswer returns a context that carries where the answer goes.
func withAnswer(ctx context.Context) (context.Context, *answer) {
	a := &answer{}
	return context.WithValue(ctx, answerKey{}, a), a
}
