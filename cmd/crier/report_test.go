package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	internalapp "github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/demo/demofile"
)

const aTask = "1400000001_1795487068510_1_1"

// answers is a server of the operator's API that answers each path with a value, and each token but "secret" with 401.
func answers(t *testing.T, byPath map[string]any) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, ok := byPath[r.URL.Path]
		if f, is := v.(func() any); is {
			v = f()
		}
		if r.Header.Get("Authorization") != "Bearer secret" || !ok {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"not for you"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func aReport() taskReport {
	return taskReport{Task: aTask, App: 1400000001, Status: "done", Finished: 14, Total: 14, Funnel: &crier.Funnel{
		Matched: 14, Online: 8, Kept: true, Acknowledged: 7, Later: 3, Deleted: 1, Waiting: 3,
		Vendor: crier.VendorFunnel{Wanted: true, NoDevice: 4, Accepted: 5, NotNeeded: 2, Failed: map[string]uint64{"UNREGISTERED": 1, "Forbidden": 1}, ToDo: 1},
	}}
}

func TestReportAddsUp(t *testing.T) {
	t.Parallel()
	url := answers(t, map[string]any{"/v1/tasks/" + aTask: aReport()})
	args := []string{"report", aTask, "--url", url, "--token", "secret"}
	out, err := run(t, args...)
	const want = `1400000001_1795487068510_1_1  done  14 of 14 accounts, 8 connected when it came

delivery
          7  acknowledged
          3  later, from the mailbox
          0  expired
          1  deleted
+         3  waiting
=        14  matched

vendors
          4  no device
          5  accepted
          2  not needed
          1  failed: Forbidden
          1  failed: UNREGISTERED
          0  expired
          0  deleted
+         1  to do
=        14  matched
`
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(t, append(args, "--json")...)
	var got taskReport
	if bad := json.Unmarshal([]byte(out), &got); err != nil || bad != nil || !reflect.DeepEqual(got, aReport()) {
		t.Errorf("%v, %v\n%s", err, bad, out)
	}
}

func TestReportWithoutTables(t *testing.T) {
	t.Parallel()
	online, wrong := aReport(), aReport()
	online.Funnel.Kept, online.Funnel.Vendor.Wanted = false, false
	wrong.Funnel.Waiting = 2
	for text, r := range map[string]taskReport{
		"\n\ndelivery: only to who was connected, nothing is kept\n\nvendors: not told of this push\n":  online,
		"=        13  but 14 matched: this is a bug of Crier\n":                                         wrong,
		"waiting  0 of 0 accounts\nwhat became of them is not known: it has not begun, or is too old\n": {Task: aTask, Status: "waiting"},
	} {
		var out bytes.Buffer
		if writeReport(&out, &r); !strings.Contains(out.String(), text) {
			t.Errorf("%q is not in\n%s", text, out.String())
		}
	}
}

// The bar goes on while vendors have something to do, and no longer than it is told to.
func TestReportWatchesVendors(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	url := answers(t, map[string]any{"/v1/tasks/" + aTask: func() any {
		r := aReport()
		switch n := asked.Add(1); {
		case n == 1:
			r.Status, r.Finished = "running", 7
		case n == 2:
			r.Funnel.Vendor.ToDo = 7
		case n > 2:
			r.Funnel.Vendor.ToDo = 0
		}
		return r
	}})
	watch := func(timeout string, url string) string {
		t.Helper()
		var errs bytes.Buffer
		root := newRoot()
		root.SetOut(io.Discard)
		root.SetErr(&errs)
		root.SetArgs([]string{"report", aTask, "--url", url, "--token", "secret", "--watch", "--timeout", timeout})
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Error(err)
		}
		return errs.String()
	}
	if got, want := watch("1m", url), "accounts: 7 of 14\naccounts: 14 of 14\nvendors: 7 of 14\nvendors: 14 of 14\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	stuck := answers(t, map[string]any{"/v1/tasks/" + aTask: aReport()})
	if got, want := watch("1ms", stuck), "accounts: 14 of 14\nvendors: 13 of 14\nvendors still have 1 to do after 1ms\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The token of a data directory is used for the server that wrote there, and for no other.
func TestReportKnowsWhoseTokenItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := answers(t, map[string]any{"/v1/tasks/" + aTask: aReport()})
	text, err := json.Marshal(demofile.Info{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{internalapp.TokenFile: "secret\n", demofile.Name: string(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	demo := filepath.Join(dir, demofile.Name)
	for _, args := range [][]string{{"--demo-file", demo}, {"--data-dir", dir}, {"--data-dir", dir, "--url", url}} {
		if out, err := run(t, append([]string{"report", aTask}, args...)...); err != nil || !strings.Contains(out, "=        14  matched\n") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	r := &reportFlags{target: target{url: "https://push.example.com", demo: demo}}
	if r.operatorOf() != nil {
		t.Error("the token would be shown to another server")
	}
	for _, args := range [][]string{{"x"}, {aTask, "--json", "--demo-file", filepath.Join(dir, "none", "x")}} {
		if _, err := run(t, append([]string{"report"}, args...)...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestExplainInWords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 1, 2, 3, 4e6, time.UTC)
	base := crier.Explanation{Task: aTask, User: "hua", Exists: true, Known: true, Matched: true, Because: []string{`tag "stockB"`}, Delivery: "none", Vendor: "none"}
	with := func(change func(*crier.Explanation)) crier.Explanation {
		e := base
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		e    crier.Explanation
		want string
	}{
		"told twice": {with(func(e *crier.Explanation) {
			e.Online, e.Delivery, e.Vendor, e.LeaderSince = true, "waiting", "done", at
			e.Connected = []crier.Place{{Node: "n1", Platform: crier.Android, State: crier.PushOnline}}
			e.Attempts = []crier.Attempt{
				{Time: at, Vendor: "fcm", Device: "89abcdef", Outcome: "unavailable", Reason: "UNAVAILABLE", Tries: 1},
				{Time: at.Add(time.Second), Vendor: "fcm", Device: "89abcdef", Outcome: "accepted", Tries: 2},
			}
		}), `matched    yes: tag "stockB"
connected  yes: Android in the background, on node n1
sent       not recorded (yet): what is sent in the second before a node fails can be missing; its partition is led since 2026-11-24 01:02:03.004Z
notified   2 notifications were tried:
           2026-11-24 01:02:03.004Z  fcm  device …89abcdef  unavailable: UNAVAILABLE
           2026-11-24 01:02:04.004Z  fcm  device …89abcdef  accepted  (try 2)
now        not acknowledged: the message waits in the mailbox; vendors are done
`},
		"to come": {with(func(e *crier.Explanation) {
			e.Online, e.Delivery, e.Vendor, e.SendingsMissing = true, "waiting", "to do", true
			front := crier.Place{Node: "n1", Platform: crier.Android, State: crier.Online}
			back := crier.Place{Node: "n2", Platform: crier.IPhone, State: crier.PushOnline}
			e.Connected = []crier.Place{front, back}
			e.Sendings = []crier.Sending{
				{Time: at, Session: "s1", Place: front, Acked: at.Add(12 * time.Millisecond)},
				{Time: at.Add(time.Second), Session: "s2", Place: back, Mailbox: true},
			}
		}), `matched    yes: tag "stockB"
connected  yes: Android in the foreground, on node n1; iPhone in the background, on node n2
sent       2026-11-24 01:02:03.004Z  live to Android in the foreground, on node n1, session s1: acknowledged 12ms later
           2026-11-24 01:02:04.004Z  from the mailbox to iPhone in the background, on node n2, session s2: not acknowledged
           more may be missing: the push went over more connections than are recorded
notified   not yet: it was connected, and has its time to acknowledge
now        not acknowledged: the message waits in the mailbox; a vendor is still to be told
`},
		"acknowledged": {with(func(e *crier.Explanation) { e.Delivery, e.Changed = "acknowledged", true }), `matched    yes: tag "stockB" (as it was when the push came; the account has changed since)
connected  no, not when the push came
notified   no: not needed, or there is no device
now        acknowledged
`},
		"expired": {with(func(e *crier.Explanation) { e.Delivery, e.Vendor = "expired", "done" }), `matched    yes: tag "stockB"
connected  no, not when the push came
notified   no: there is no device, or the push is not for vendors
now        not acknowledged, and its time is over; vendors are done
`},
		"away": {with(func(*crier.Explanation) {}), `matched    yes: tag "stockB"
connected  no, not when the push came
notified   no: there is no device, or the push is not for vendors
now        nothing is to come: the push was for who was connected, and is not kept
`},
		"no match": {with(func(e *crier.Explanation) { e.Matched, e.Because = false, []string{`no tag "stockB"`} }), `matched  no: no tag "stockB"
now      nothing is to come: the push was not for this account
`},
		"changed":    {with(func(e *crier.Explanation) { e.Matched, e.Because, e.Changed = false, nil, true }), "matched  no; the account has changed since, so that can't be told why\nnow      nothing is to come: the push was not for this account\n"},
		"no account": {with(func(e *crier.Explanation) { e.Exists = false }), "matched  not known: there is no account hua, or no more\n"},
		"too old":    {with(func(e *crier.Explanation) { e.Known = false }), "matched  not known: the push is too old, or has not come to the account yet\n"},
	} {
		url := answers(t, map[string]any{"/v1/tasks/" + aTask + "/users/hua": c.e})
		args := []string{"explain", aTask, "hua", "--url", url, "--token", "secret"}
		out, err := run(t, args...)
		if want := "Push " + aTask + " for hua\n\n" + c.want; err != nil || out != want {
			t.Errorf("%s: %v\ngot\n%s\nwant\n%s", name, err, out, want)
		}
		out, err = run(t, append(args, "--json")...)
		var got crier.Explanation
		if bad := json.Unmarshal([]byte(out), &got); err != nil || bad != nil || !reflect.DeepEqual(got, c.e) {
			t.Errorf("%s: %v, %v\n%s", name, err, bad, out)
		}
	}
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	url := answers(t, nil)
	for words, args := range map[string][]string{
		"not for you":      {aTask, "hua", "--token", "wrong"},
		"is not a TaskId":  {"../apps", "hua", "--token", "secret"},
		"accepts 2 arg(s)": {aTask},
		"give --token":     {aTask, "hua", "--data-dir", t.TempDir()},
	} {
		if _, err := run(t, append([]string{"explain", "--url", url}, args...)...); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
