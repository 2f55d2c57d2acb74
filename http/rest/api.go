package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/usersig"
)

const (
	// callBudget is how long a call may take; the callers' own time-out is over 3 s.
	callBudget = 3 * time.Second
	// bodyMost is read of a body where the app's limit is 0, unlimited.
	bodyMost = 16 << 20
	// growMost bounds the memory that a body gets for what its length promises.
	growMost = 64 << 10
)

// Config says what an API works with. All but Now are required.
type Config struct {
	Service    Service
	Now        func() time.Time // nil: time.Now
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// API answers the REST calls. Safe for concurrent use.
type API struct {
	service  Service
	now      func() time.Time
	log      *slog.Logger
	limiters sync.Map // limiterKey to *rate.Limiter; bounded by apps times commands
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	labels   appLabels
}

type limiterKey struct {
	app     crier.AppID
	command string
}

// New returns an API.
func New(cfg Config) *API {
	f := promauto.With(cfg.Registerer)
	a := &API{
		service: cfg.Service, now: cfg.Now, log: cfg.Logger.With("component", "rest"),
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crier_rest_calls_total", Help: "REST calls by app (other: beyond the first 100; none: of no admin), command (other: unknown ones) and ErrorCode.",
		}, []string{"app", "command", "code"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crier_rest_seconds", Help: "Seconds that REST calls took, by command.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"command"}),
	}
	if a.now == nil {
		a.now = time.Now
	}
	return a
}

// Register adds the API's routes.
func (a *API) Register(r gin.IRouter) { r.Any("/v4/*path", a.serve) }

// call is one call under way: who calls, and the body.
type call struct {
	api  *API
	app  *crier.App
	user crier.UserID
	body *value
}

// answer is what a command adds to the three fields that every answer has.
type answer map[string]any

// serve answers one call: always with HTTP status 200, the outcome is in the body.
func (a *API) serve(c *gin.Context) {
	started := time.Now()
	label := "other"
	service, name, _ := strings.Cut(strings.TrimPrefix(c.Param("path"), "/"), "/")
	cmd := find(service, name)
	var app crier.AppID
	var fields answer
	err := error(crier.Errorf(crier.CodeUnknownCommand, "there is no command %s of service %s", crier.Quote(name), crier.Quote(service)))
	if cmd != nil {
		label = cmd.name
		app, fields, err = a.run(c.Request, cmd)
	}
	e := crier.AsError(err)
	body := gin.H{"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}
	if e != nil {
		body["ActionStatus"], body["ErrorCode"], body["ErrorInfo"] = "FAIL", int(e.Code), e.Info
		if e.Err != nil && !errors.Is(e.Err, context.Canceled) {
			a.log.Warn("call failed", "command", label, "code", int(e.Code), "err", e.Err)
		}
	}
	for field, v := range fields {
		body[field] = v
	}
	a.calls.WithLabelValues(a.labels.of(app), label, codeLabel(e)).Inc()
	a.seconds.WithLabelValues(label).Observe(time.Since(started).Seconds())
	c.JSON(http.StatusOK, body)
}

// run does one call, and returns the app of the admin who made it; 0: there was none. A panic is a fault of ours, and is answered as one.
func (a *API) run(r *http.Request, cmd *command) (by crier.AppID, fields answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("panic in a call", "command", cmd.name, "panic", p)
			fields, err = nil, crier.Errorf(crier.CodeInternal, "internal error, try again")
		}
	}()
	if r.Method != http.MethodPost {
		return 0, nil, crier.Errorf(crier.CodeBadRequest, "the method is %s, only POST is answered", r.Method)
	}
	app, user, err := a.authenticate(r, cmd)
	if err != nil {
		return 0, nil, err
	}
	by = app.ID
	if !a.allow(app, cmd) {
		return by, nil, crier.Errorf(crier.CodeRateLimited, "over %d calls of %s in a second", app.Limits.CallsPerSecond, cmd.name)
	}
	text, err := readBody(r, app, cmd)
	if err != nil {
		return by, nil, err
	}
	body, err := parseBody(text)
	if err != nil {
		return by, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), callBudget)
	defer cancel()
	fields, err = cmd.handle(ctx, &call{api: a, app: app, user: user, body: body})
	return by, fields, err
}

// authenticate checks the URL: the app, its switch, the identifier's UserSig,
// and that the identifier is an admin.
func (a *API) authenticate(r *http.Request, cmd *command) (*crier.App, crier.UserID, error) {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, "", err
	}
	text, ok := query["sdkappid"]
	if !ok || text == "" {
		return nil, "", crier.Errorf(crier.CodeMissingSDKAppID, "sdkappid is missing in the URL")
	}
	id, err := crier.ParseAppID(text)
	if err != nil {
		return nil, "", err
	}
	app := a.service.App(id)
	switch {
	case app == nil:
		return nil, "", crier.Errorf(crier.CodeUnknownApp, "there is no app %d", id)
	case app.Disabled:
		return nil, "", crier.Errorf(crier.CodeAppDisabled, "app %d is disabled", id)
	case query["identifier"] == "":
		return nil, "", crier.Errorf(crier.CodeBadIdentifier, "identifier is missing in the URL")
	}
	user := crier.UserID(query["identifier"])
	ticket, err := usersig.Parse(query["usersig"])
	if err == nil {
		err = ticket.Check(id, user, app.Keys(a.now()), a.now())
	}
	if err != nil {
		return nil, "", err
	}
	if !app.IsAdmin(user) {
		return nil, "", crier.Errorf(cmd.notAdmin, "identifier %s is not an admin of app %d", crier.Quote(string(user)), id)
	}
	return app, user, nil
}

// parseQuery reads the URL's parameters; their names match in any case. A `+` stands
// for itself where a UserSig was not escaped: it never has one, so nothing is lost.
func parseQuery(raw string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, crier.Errorf(crier.CodeBadRequest, "the URL's parameters can't be read")
	}
	query := make(map[string]string, len(values))
	for name, list := range values {
		name = strings.ToLower(name)
		if old, twice := query[name]; len(list) > 1 || twice && old != list[0] {
			return nil, crier.Errorf(crier.CodeBadRequest, "parameter %s stands twice in the URL", crier.Quote(name))
		}
		query[name] = list[0]
	}
	return query, nil
}

// allow takes a call out of the app's budget for the command.
func (a *API) allow(app *crier.App, cmd *command) bool {
	most := app.Limits.CallsPerSecond
	if most <= 0 || cmd.unlimited {
		return true
	}
	key := limiterKey{app.ID, cmd.name}
	l, ok := a.limiters.Load(key)
	if !ok {
		l, _ = a.limiters.LoadOrStore(key, rate.NewLimiter(rate.Limit(most), most))
	}
	limiter := l.(*rate.Limiter)
	if limiter.Burst() != most { // the setting was changed
		limiter.SetLimit(rate.Limit(most))
		limiter.SetBurst(most)
	}
	return limiter.Allow()
}

// readBody reads a body up to the app's limit.
func readBody(r *http.Request, app *crier.App, cmd *command) ([]byte, error) {
	limit, code := app.Limits.BodyBytes, crier.CodeBodyTooLarge
	if cmd.name == "im_push" {
		limit, code = app.Limits.PushBodyBytes, crier.CodePushBodyTooLarge
	}
	if limit <= 0 {
		limit = bodyMost
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), growMost)) + bytes.MinRead) // ReadFrom wants as much to see the end
	_, err := body.ReadFrom(io.LimitReader(r.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, crier.Errorf(crier.CodeBadRequest, "the body could not be read")
	case body.Len() > limit:
		return nil, crier.Errorf(code, "the body is over %d bytes", limit)
	}
	return body.Bytes(), nil
}

func codeLabel(e *crier.Error) string {
	if e == nil {
		return "0"
	}
	return strings.SplitN(e.Code.Error(), ":", 2)[0]
}

// labeledApps is how many apps have a label of their own: each has as many time series as commands and codes are in use.
const labeledApps = 100

// appLabels are the metrics' labels of apps: those that called first have their own. Safe for concurrent use.
type appLabels struct {
	mu    sync.Mutex
	known map[crier.AppID]string
}

// of returns the label of an app, or of none where the id is 0.
func (l *appLabels) of(id crier.AppID) string {
	if id == 0 {
		return "none"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	label, ok := l.known[id]
	switch {
	case ok:
		return label
	case len(l.known) == labeledApps:
		return "other"
	case l.known == nil:
		l.known = make(map[crier.AppID]string)
	}
	l.known[id] = id.String()
	return l.known[id]
}
