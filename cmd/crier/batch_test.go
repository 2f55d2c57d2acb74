package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// fakeAccount is what a fakeApp has of an account.
type fakeAccount struct {
	nick, tags, city string
}

// fakeApp answers the calls of an import as a server does, without sockets, so that the time of a test can be fake.
// It refuses the tags of accounts called full, attributes without a name, and nicknames as the server does.
type fakeApp struct {
	limit rate.Limit // calls a second of a command; 0 is unlimited
	fault crier.Code // that im_add_tag answers, late, for the account "faulty"

	mu       sync.Mutex
	limiters map[string]*rate.Limiter
	calls    map[string]int // that were not over the limit
	accounts map[string]fakeAccount
	names    map[string]string // of attributes, by slot
}

func newFakeApp() *fakeApp {
	return &fakeApp{
		limiters: make(map[string]*rate.Limiter), calls: make(map[string]int), accounts: make(map[string]fakeAccount),
		names: map[string]string{"0": "city"},
	}
}

// RoundTrip implements http.RoundTripper.
func (a *fakeApp) RoundTrip(r *http.Request) (*http.Response, error) {
	var body fakeBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, err
	}
	command := path.Base(r.URL.Path)
	faulty := a.fault != 0 && slices.ContainsFunc(body.UserTags, func(e fakeEntry) bool { return e.To_Account == "faulty" })
	if faulty {
		time.Sleep(10 * time.Second) // the other batches come to their end
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit > 0 && a.limiters[command] == nil {
		a.limiters[command] = rate.NewLimiter(a.limit, int(a.limit))
	}
	var err *crier.Error
	switch {
	case a.limit > 0 && !a.limiters[command].Allow():
		err = crier.Errorf(crier.CodeRateLimited, "too often")
	case faulty:
		err = crier.Errorf(a.fault, "a fault")
	default:
		a.calls[command]++
		maps.Copy(a.names, body.AttrNames)
		err = a.apply(slices.Concat(body.AccountList, body.UserTags, body.UserAttrs))
	}
	answer := map[string]any{"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "", "AttrNames": a.names}
	if err != nil {
		answer["ActionStatus"], answer["ErrorCode"], answer["ErrorInfo"] = "FAIL", err.Code, err.Info
	}
	w := httptest.NewRecorder()
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

type fakeEntry struct {
	UserID, To_Account, Nick string
	Tags                     []string
	Attrs                    map[string]string
}

type fakeBody struct {
	AccountList, UserTags, UserAttrs []fakeEntry
	AttrNames                        map[string]string
}

// apply applies a call, or changes nothing and says why.
func (a *fakeApp) apply(list []fakeEntry) *crier.Error {
	for _, e := range list {
		switch {
		case len(e.Nick) > 500:
			return crier.Errorf(crier.CodeBadParameter, "Nick is too long")
		case len(e.Tags) > 0 && strings.HasPrefix(e.To_Account, "full"):
			return crier.Errorf(crier.CodeAccountTagsFull, "account %s is full", e.To_Account)
		}
		for name := range e.Attrs {
			if !slices.Contains(slices.Collect(maps.Values(a.names)), name) {
				return crier.Errorf(crier.CodeBadAttr, "no such attribute")
			}
		}
		if _, ok := a.accounts[e.To_Account]; e.To_Account != "" && !ok {
			return crier.Errorf(crier.CodeUnknownAccount, "account %s does not exist", e.To_Account)
		}
	}
	for _, e := range list {
		name := e.UserID + e.To_Account // one of them is empty
		account := a.accounts[name]
		account.nick = cmp.Or(e.Nick, account.nick)
		account.tags = cmp.Or(strings.Join(e.Tags, "|"), account.tags)
		account.city = cmp.Or(e.Attrs["city"], account.city)
		a.accounts[name] = account
	}
	return nil
}

func (a *fakeApp) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New("http://crier.invalid", 1400000001, "administrator", client.SecretKey("key"))
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP = &http.Client{Transport: a}
	return c
}

// imports imports a file, or what of it is not imported yet.
func (a *fakeApp) imports(t *testing.T, file string, stopOnBad bool) (p progress, said string, err error) {
	t.Helper()
	var errs bytes.Buffer
	i := &accountImport{file: file, stopOnBad: stopOnBad, errs: &errs}
	err = i.run(t.Context(), a.client(t))
	return i.progress, errs.String(), err
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// An import of rows with profiles made one call for each, which soon was one too many for an app with the default limits (60007), and gave up.
func TestImportKeepsToTheLimitOfCalls(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	var text strings.Builder
	text.WriteString("user,nick,tags,city\n")
	for i := range rows {
		fmt.Fprintf(&text, "user%d,Nick,x,Shenzhen\n", i)
	}
	file := writeFile(t, "users.csv", text.String())
	synctest.Test(t, func(t *testing.T) {
		app := newFakeApp()
		app.limit = rate.Limit(crier.DefaultLimits().CallsPerSecond)
		started := time.Now()
		p, said, err := app.imports(t, file, false)
		if err != nil || p.Accounts != rows || p.Refused != 0 || len(app.accounts) != rows {
			t.Fatalf("%v after %v: %+v, %d accounts", err, time.Since(started), p, len(app.accounts))
		}
		if !strings.HasSuffix(said, "importing: 20000 of 20000\n") {
			t.Errorf("%s", said)
		}
		want := map[string]int{"multiaccount_import": rows / importBatch, "im_add_tag": rows / importBatch, "im_set_attr": rows / importBatch, "im_get_attr_name": 1}
		if !reflect.DeepEqual(app.calls, want) {
			t.Errorf("%v", app.calls)
		}
		if (app.accounts["user77"] != fakeAccount{"Nick", "x", "Shenzhen"}) {
			t.Errorf("%+v", app.accounts["user77"])
		}
		if least := (rows/importBatch - 100) * time.Second / 100; time.Since(started) < least {
			t.Errorf("the limit held nothing up: %v", time.Since(started))
		}
	})
}

// Others may use up the app's calls for longer than a call is tried as a rule.
func TestImportWaitsForTheLimitOfCalls(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "users.csv", "user,nick\nann,Ann\n")
	synctest.Test(t, func(t *testing.T) {
		app := newFakeApp()
		app.limit = 1
		busy := rate.NewLimiter(1.0/60, 1)
		busy.Allow()
		app.limiters["multiaccount_import"] = busy
		if p, _, err := app.imports(t, file, false); err != nil || p.Accounts != 1 || app.accounts["ann"].nick != "Ann" {
			t.Errorf("%v, %+v", err, p)
		}
	})
}

// mixedRows is a file of three batches. The server refuses the rows of three lines, each another call, and the last batch has the account "faulty".
func mixedRows(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for line := 1; line <= 2*importBatch+50; line++ {
		user, nick, attr := fmt.Sprint("user", line), "Nick", "city"
		switch line {
		case 7:
			nick = strings.Repeat("x", 501)
		case 60:
			user = "full60"
		case 110:
			attr = "town"
		case 220:
			user = "faulty"
		}
		fmt.Fprintf(&text, `{"user":"%s","nick":"%s","tags":["x"],"attrs":{"%s":"Shenzhen"}}`+"\n", user, nick, attr)
	}
	return writeFile(t, "users.jsonl", text.String())
}

// A row that the server refused stopped the import, and each one after it at the same place.
func TestImportSkipsWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	app, file := newFakeApp(), mixedRows(t)
	p, said, err := app.imports(t, file, false)
	if err != nil || p.Rows != 250 || p.Accounts != 247 || p.Refused != 3 || p.Bad != 0 {
		t.Fatalf("%v, %+v", err, p)
	}
	for _, want := range []string{
		"line 7: Nick is too long (code 70402)\n",
		"line 60: account full60 is full (code 90046); the account is there, without the row's tags and attributes\n",
		"line 110: no such attribute (code 90033); the account is there, without the row's attributes\n",
	} {
		if strings.Count(said, want) != 1 {
			t.Errorf("not said once: %s%s", want, said)
		}
	}
	if strings.Count(said, "line ") != 3 || len(app.accounts) != 249 {
		t.Errorf("%d accounts\n%s", len(app.accounts), said)
	}
	for user, account := range app.accounts {
		want := fakeAccount{"Nick", "x", "Shenzhen"}
		switch user {
		case "full60":
			want.tags, want.city = "", ""
		case "user110":
			want.city = ""
		}
		if account != want {
			t.Errorf("%s: %+v", user, account)
		}
	}
	if n := app.calls["im_add_tag"]; n > 3+2*7 {
		t.Errorf("%d calls to find one row", n)
	}
}

// What is not about a row stops the import, which goes on later; what was refused until then is counted once.
func TestImportStopsWhereNoRowIsWrong(t *testing.T) {
	t.Parallel()
	for _, code := range []crier.Code{crier.CodeAppDisabled, crier.CodeInternal, crier.CodeSigExpired, crier.CodeUnknownApp, crier.CodeNotAppAdmin} {
		file := mixedRows(t)
		synctest.Test(t, func(t *testing.T) {
			app := newFakeApp()
			app.fault = code
			p, _, err := app.imports(t, file, false)
			if !errors.Is(err, code) || p.Rows != 200 || p.Accounts != 197 || p.Refused != 3 {
				t.Fatalf("%v, %+v", err, p)
			}
			if want := fmt.Sprintf("rows from line 201: a fault (start again to go on from here) (code %d)", int(code)); message(err) != want {
				t.Errorf("%s, want %s", message(err), want)
			}
			app.fault = 0
			p, said, err := app.imports(t, file, false)
			if err != nil || p.Rows != 250 || p.Accounts != 247 || p.Refused != 3 || !strings.HasPrefix(said, "going on after row 200\n") {
				t.Errorf("%v, %+v\n%s", err, p, said)
			}
			if _, err := os.Stat(file + ".crier-progress"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the progress is still there: %v", err)
			}
		})
	}
}

// An import that is stopped while it waits for the limit of calls says so, and not that calls come too often.
func TestImportIsStoppedWhileItWaits(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "users.csv", "user\nann\n")
	synctest.Test(t, func(t *testing.T) {
		app := newFakeApp()
		app.limit = 1
		app.limiters["multiaccount_import"] = rate.NewLimiter(0, 0)
		i := &accountImport{file: file, errs: new(bytes.Buffer)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := i.run(ctx, app.client(t)); !errors.Is(err, context.DeadlineExceeded) || i.progress.Rows != 0 {
			t.Errorf("%v, %+v", err, i.progress)
		}
	})
}

// One that is stopped while calls are under way says how far it is.
func TestImportIsStopped(t *testing.T) {
	t.Parallel()
	file := mixedRows(t)
	synctest.Test(t, func(t *testing.T) {
		app := newFakeApp()
		app.fault = crier.CodeInternal
		var errs bytes.Buffer
		i := &accountImport{file: file, errs: &errs}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := i.run(ctx, app.client(t))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasSuffix(errs.String(), "stopped after row 200 of 250: the same command goes on from there\n") {
			t.Errorf("%v\n%s", err, errs.String())
		}
	})
}

func TestImportStopsAtARefusedRow(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "users.csv", "user,tags\nann,x\nfull1,x\nbob,x\n")
	p, _, err := newFakeApp().imports(t, file, true)
	const want = "line 3: account full1 is full; the account is there, without the row's tags and attributes (without --stop-on-bad the row is skipped) (code 90046)"
	if err == nil || message(err) != want || p.Rows != 0 {
		t.Errorf("%v, %+v", err, p)
	}
}

// A column that is no attribute of the app is wrong in each row: it is not looked for row by row. Nothing is imported, unless the app is to have it.
func TestImportOfAnUnknownColumn(t *testing.T) {
	t.Parallel()
	app, file := newFakeApp(), writeFile(t, "users.csv", "user,city,town,area\nann,Shenzhen,,\nbob,,Futian,North\n")
	app.names["2"] = "age"
	for _, want := range []string{`line 3: the app has no attribute "area": --name-attributes `, `line 3: the app has no attribute "town": `} {
		if _, _, err := app.imports(t, file, false); err == nil || !strings.HasPrefix(err.Error(), want) || len(app.accounts) != 0 {
			t.Errorf("%v, %v", err, app.accounts)
		}
		app.names["9"] = "area"
	}
	delete(app.names, "9")
	var errs bytes.Buffer
	i := &accountImport{file: file, nameAttrs: true, errs: &errs}
	if err := i.run(t.Context(), app.client(t)); err != nil || i.progress.Accounts != 2 || !strings.HasPrefix(errs.String(), "the app has new attributes: area, town\n") {
		t.Errorf("%v, %+v\n%s", err, i.progress, errs.String())
	}
	if want := map[string]string{"0": "city", "1": "area", "2": "age", "3": "town"}; !maps.Equal(app.names, want) {
		t.Errorf("%v", app.names)
	}
}

func TestImportNamesNoMoreAttributesThanAnAppHas(t *testing.T) {
	t.Parallel()
	app := newFakeApp()
	for slot := 1; slot < crier.MaxAttrs-1; slot++ {
		app.names[fmt.Sprint(slot)] = fmt.Sprint("name", slot)
	}
	names := func(text string) error {
		i := &accountImport{file: writeFile(t, "users.jsonl", text), nameAttrs: true, errs: new(bytes.Buffer)}
		return i.run(t.Context(), app.client(t))
	}
	const want = "the file has 2 attributes that the app has not (a, b), and the app has 9: 10 is the limit"
	if err := names(`{"user":"ann","attrs":{"a":"1","b":"2"}}`); err == nil || err.Error() != want || len(app.accounts) != 0 || len(app.names) != 9 {
		t.Errorf("%v, %v, %v", err, app.accounts, app.names)
	}
	if err := names(`{"user":"ann","attrs":{"a":"1"}}`); err != nil || len(app.accounts) != 1 || app.names["9"] != "a" {
		t.Errorf("%v, %v, %v", err, app.accounts, app.names)
	}
}

// A file is checked before it is imported, and may be another by then.
func TestImportOfAFileThatChanges(t *testing.T) {
	t.Parallel()
	for _, changed := range []string{"user\nann\n", "user\nann\nbob\ncai\n"} {
		i := &accountImport{file: writeFile(t, "users.csv", "user\nann\nbob\n"), errs: new(bytes.Buffer)}
		if err := i.check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(i.file, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := i.importAll(t.Context(), newFakeApp().client(t)); err == nil || !strings.Contains(err.Error(), "has changed meanwhile: of 2 rows ") {
			t.Errorf("%v", err)
		}
	}
}
