package operator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/crier-im/crier"
)

// document is an app as the API shows and takes it: as crier.App is stored, but
// for durations, which are seconds here and nanoseconds there.
type document struct {
	crier.App
	Limits limits `json:"limits"` // in the place of App's
}

type limits struct {
	crier.Limits
	PushInterval    seconds `json:"push_interval"`
	MsgRandomWindow seconds `json:"msg_random_window"`
	FallbackAfter   seconds `json:"fallback_after"`
}

// newDocument never has the secrets of credentials.
func newDocument(app *crier.App) *document {
	d := &document{*app, limits{app.Limits, seconds{app.Limits.PushInterval, nil}, seconds{app.Limits.MsgRandomWindow, nil}, seconds{app.Limits.FallbackAfter, nil}}}
	d.Credentials = shownCredentials(app)
	return d
}

// app returns what the document says; CodeBadParameter names a duration that is none.
func (d *document) app() (app crier.App, err error) {
	app = d.App
	app.Limits = d.Limits.Limits
	if app.Limits.PushInterval, err = d.Limits.PushInterval.get("push_interval"); err == nil {
		app.Limits.MsgRandomWindow, err = d.Limits.MsgRandomWindow.get("msg_random_window")
	}
	if err == nil {
		app.Limits.FallbackAfter, err = d.Limits.FallbackAfter.get("fallback_after")
	}
	return app, err
}

// withoutKeys is an app as it is shown: keys are shown when they are made, and
// never again.
func withoutKeys(app *crier.App) *document {
	d := newDocument(app)
	d.Key, d.OldKey = "", ""
	return d
}

// decodeApp reads a body over an app, as decode. Credentials have a way of their own: the app keeps its, and the
// body may at most repeat what is shown of them.
func decodeApp(body []byte, app *crier.App) error {
	d := newDocument(app)
	d.Credentials = nil // else the decoder writes into maps that others read
	err := decode(body, d)
	if err != nil {
		return err
	}
	if d.Credentials != nil && !sameCredentials(d.Credentials, app) {
		return crier.Errorf(crier.CodeBadParameter, "credentials can't be given here: see /v1/apps/{id}/credentials")
	}
	kept := app.Credentials
	*app, err = d.app()
	app.Credentials = kept
	return err
}

// entityTag names what is shown of an app: two that differ have two tags.
func entityTag(app *crier.App) string {
	text, err := json.Marshal(withoutKeys(app))
	if err != nil {
		panic(err) // strings, numbers and times of our own always marshal
	}
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

// seconds is a duration: a number of seconds in JSON. It takes the text of a
// duration too, such as "1.5s" or "168h".
type seconds struct {
	time.Duration
	err error // kept, since only the reader knows the name of the field
}

// get returns the duration: 0, or 1 ms and more. The log of pushes keeps milliseconds, and
// less would become 0, which is no limit at all.
func (s seconds) get(name string) (time.Duration, error) {
	if s.err != nil || s.Duration < 0 || s.Duration > 0 && s.Duration < time.Millisecond {
		return 0, crier.Errorf(crier.CodeBadParameter,
			`limits.%s must be 0 (unlimited) or at least 0.001: a number of seconds, or text such as "1.5s"`, name)
	}
	return s.Duration, nil
}

// MarshalJSON returns the number of seconds.
func (s seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, s.Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON takes a number or the text of a duration; null changes nothing.
func (s *seconds) UnmarshalJSON(text []byte) error {
	if string(text) != "null" {
		s.Duration, s.err = parseSeconds(text)
	}
	return nil
}

func parseSeconds(text []byte) (time.Duration, error) {
	var quoted string
	if json.Unmarshal(text, &quoted) == nil {
		return time.ParseDuration(quoted)
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err == nil && math.Abs(n) > float64(math.MaxInt64/time.Second)-1 {
		err = strconv.ErrRange
	}
	return time.Duration(math.Round(n * float64(time.Second))), err
}
