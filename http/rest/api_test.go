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
