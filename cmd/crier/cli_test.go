package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/demo/demofile"
)

// run runs a command line and returns what it printed on standard output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// A secret of the environment is used and never printed.
func TestHelpHidesSecrets(t *testing.T) {
	t.Setenv("CRIER_KEY", "the-secret-key")
	t.Setenv("CRIER_OPERATOR_TOKEN", "the-secret-token")
	for _, args := range [][]string{{"push"}, {"listen"}, {"usersig"}, {"usersig", "check"}, {"account", "import"}, {"demo"}, {"app", "list"}, {"app", "create"}, {"app", "credential", "add"}, {"serve"}, {"config"}} {
		out, err := run(t, append(args, "--help")...)
		if err != nil || !strings.Contains(out, "Usage:") || strings.Contains(out, "the-secret") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	key := strings.Repeat("5e", 32)
	t.Setenv("CRIER_VENDORS_KEY", key)
	if out, err := run(t, "config"); err != nil || !strings.Contains(out, "token: (secret)") || !strings.Contains(out, "key: (secret)") || strings.Contains(out, "the-secret") || strings.Contains(out, key) {
		t.Errorf("config: %v\n%s", err, out)
	}
}

func TestUserSigIsMadeAndChecked(t *testing.T) {
	t.Setenv("CRIER_KEY", "0123456789abcdef")
	sig, err := run(t, "usersig", "--sdkappid", "1400000009", "--identifier", "ann", "--expire", "1h")
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "usersig", "check", strings.TrimSpace(sig))
	if err != nil || !strings.HasPrefix(out, "sdkappid    1400000009\nidentifier  ann\nsigned      ") || !strings.HasSuffix(out, "valid       yes\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(t, "usersig", "check", strings.TrimSpace(sig), "--key", "another"); err == nil || strings.Contains(out, "valid") {
		t.Errorf("a UserSig of another key: %v\n%s", err, out)
	}
}

// What a flag gives wins over the environment, and that over the demo's file.
func TestTargetResolves(t *testing.T) {
	file := filepath.Join(t.TempDir(), demofile.Name)
	text, err := json.Marshal(demofile.Info{URL: "http://file", SDKAppID: 1, Key: "file-key", Admin: "file-admin", UserSig: "sig"})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CRIER_URL", "http://env")
	t.Setenv("CRIER_SDKAPPID", "2")
	given := target{url: "http://flag", demo: file}
	if err := given.resolve(); err != nil || given != (target{url: "http://flag", app: 2, key: "file-key", identifier: "file-admin", demo: file}) {
		t.Errorf("%+v, %v", given, err)
	}
	t.Setenv("CRIER_SDKAPPID", "many")
	if err := (&target{demo: file}).resolve(); err == nil || !strings.Contains(err.Error(), "CRIER_SDKAPPID") {
		t.Errorf("%v", err)
	}
	t.Setenv("CRIER_SDKAPPID", "")
	if err := (&target{demo: file + ".no"}).resolve(); err == nil || !strings.Contains(err.Error(), "--sdkappid") {
		t.Errorf("%v", err)
	}
}

func TestAppCommands(t *testing.T) {
	t.Parallel()
	var calls []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Authorization"), body)))
		if r.URL.Path == "/v1/apps/7" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"code":70020,"error":"there is no app 7"}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":5,"apps":[{"id":5,"name":"game","admins":["boss"],"push_enabled":true,"limits":{"push_interval":0.5},"created_at":"2026-11-24T01:02:03Z"}]}`)
	}))
	defer server.Close()
	at := []string{"--url", server.URL + "/", "--token", "secret"}
	out, err := run(t, append([]string{"app", "list"}, at...)...)
	const table = "SDKAPPID  NAME  ADMINS  PUSH  DISABLED  CREATED\n5         game  [boss]  true  false     2026-11-24\n"
	if err != nil || out != table {
		t.Errorf("%v\n%q", err, out)
	}
	for _, args := range [][]string{
		{"app", "create", "5", "--name", "game", "--limit", "push_interval=0.5", "--limit", "pushes_per_day=0", "--limit", "msg_random_window=48h"},
		{"app", "update", "5", "--push=false"},
		{"app", "rotate-key", "5", "--grace", "1h"},
	} {
		if _, err := run(t, append(args, at...)...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	want := []string{
		"GET /v1/apps Bearer secret",
		`POST /v1/apps Bearer secret {"id":5,"limits":{"msg_random_window":"48h","push_interval":0.5,"pushes_per_day":0},"name":"game"}`,
		`PATCH /v1/apps/5 Bearer secret {"push_enabled":false}`,
		`POST /v1/apps/5/rotate-key Bearer secret {"grace_seconds":3600}`,
	}
	if strings.Join(calls, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(calls, "\n"), strings.Join(want, "\n"))
	}
	if _, err := run(t, append([]string{"app", "update", "7"}, at...)...); err == nil || err.Error() != "there is no app 7" {
		t.Errorf("%v", err)
	}
	asked := len(calls)
	for _, args := range [][]string{{"app", "update", "../tasks/1"}, {"app", "rotate-key", "0"}, {"app", "create", "x"}, {"app", "create", "5", "--limit", "push_interval=-1"}, {"app", "create", "5", "--limit", "x"}, {"app", "create", "5", "--limit", "push_interval=-1s"}, {"app", "create", "5", "--limit", "push_interval=NaN"}} {
		if _, err := run(t, append(args, at...)...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	if len(calls) != asked {
		t.Errorf("the server was asked: %v", calls[asked:])
	}
}

func TestVersionAndUnknown(t *testing.T) {
	t.Parallel()
	if out, err := run(t, "version"); err != nil || !strings.HasPrefix(out, "crier ") || !strings.Contains(out, " go1.") {
		t.Errorf("%q, %v", out, err)
	}
	for _, args := range [][]string{{"nothing"}, {"serve", "--no-such-flag"}, {"account", "import"}, {"report"}, {"listen"}} {
		if _, err := run(t, args...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	coded := fmt.Errorf("push: %w", crier.Errorf(crier.CodePushTooSoon, "too soon"))
	if got := message(coded); got != "too soon (code 90024)" {
		t.Errorf("%q", got)
	}
	if got := message(errors.New("plain")); got != "plain" {
		t.Errorf("%q", got)
	}
}

// Without a terminal, progress is a few lines that a log can hold.
func TestBarIsPlainWithoutTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBar(&out, "importing")
	for done := range int64(1001) {
		b.set(done, 1000)
	}
	b.set(1000, 1000)
	b.finish()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 11 || lines[0] != "importing: 0 of 1000" || lines[10] != "importing: 1000 of 1000" || strings.ContainsAny(out.String(), "\r\x1b") {
		t.Errorf("%q", out.String())
	}
}
