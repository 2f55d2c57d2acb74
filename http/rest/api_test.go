package rest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
)

// faulty is a stub whose writes end as the test says.
type faulty struct {
	stub
	fault func(context.Context) error
}

func (f faulty) ChangeAccounts(ctx context.Context, _ crier.AppID, _ []crier.Change) error {
	return f.fault(ctx)
}

// callFaulty kicks an account, and returns the answer and the log.
func callFaulty(t *testing.T, key string, fault func(context.Context) error) (body, log string) {
	t.Helper()
	var out bytes.Buffer
	_, query := handler() // which puts gin into its release mode, too
	app := &crier.App{ID: 1, Key: key, Admins: []crier.UserID{"admin"}, Limits: crier.DefaultLimits()}
	e := gin.New()
	New(Config{Service: faulty{stub{app}, fault}, Logger: slog.New(slog.NewTextHandler(&out, nil))}).Register(e)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/im_open_login_svc/kick?"+query, strings.NewReader(`{"UserID":"a"}`)))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"ActionStatus":"FAIL"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	return w.Body.String(), out.String()
}

// These faults can't be provoked from outside, so the tests of the contract leave them out.
func TestFaultsOfTheServer(t *testing.T) {
	for name, c := range map[string]struct {
		key   string
		fault func(context.Context) error
		code  string
		log   string // what stands in the log
	}{
		"panic":   {"key", func(context.Context) error { panic("boom") }, "91000", "boom"},
		"unknown": {"key", func(context.Context) error { return errors.New("disk on fire") }, "91000", "disk on fire"},
		"time-out": {"key", func(ctx context.Context) error {
			if at, ok := ctx.Deadline(); !ok || time.Until(at) > 3*time.Second {
				return errors.New("no deadline")
			}
			return crier.Errorf(crier.CodeTimeout, "no answer in time")
		}, "60008", ""},
		"app without a key": {"", nil, "70016", ""},
	} {
		body, log := callFaulty(t, c.key, c.fault)
		if !strings.Contains(body, `"ErrorCode":`+c.code) || strings.Contains(body, "fire") || strings.Contains(body, "boom") || !strings.Contains(log, c.log) {
			t.Errorf("%s: %s, log %s", name, body, log)
		}
	}
}

// Calls are counted by app, of whom only so many have a label; one that shows no UserSig of an admin is nobody's.
func TestCallsAreCountedByApp(t *testing.T) {
	_, query := handler()
	registry := prometheus.NewRegistry()
	app := &crier.App{ID: 1, Key: "key", Admins: []crier.UserID{"admin"}, Limits: crier.DefaultLimits()}
	a := New(Config{Service: faulty{stub{app}, func(context.Context) error { return nil }}, Registerer: registry, Logger: slog.New(slog.DiscardHandler)})
	e := gin.New()
	a.Register(e)
	for _, q := range []string{query, query, "sdkappid=1&identifier=admin&usersig=x", ""} {
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/v4/im_open_login_svc/kick?"+q, strings.NewReader(`{"UserID":"a"}`)))
	}
	for i := range crier.AppID(labeledApps) {
		a.calls.WithLabelValues(a.labels.of(1000+i), "kick", "0").Inc()
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "app" {
					counted[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	if counted["1"] != 2 || counted["none"] != 2 || counted["1098"] != 1 || counted["other"] != 1 || len(counted) != labeledApps+2 {
		t.Errorf("%v", counted)
	}
}
