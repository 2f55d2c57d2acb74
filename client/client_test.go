package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/usersig"
)

const (
	key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	app = crier.AppID(1400000001)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is one request that came.
type call struct {
	path  string
	query map[string][]string
	body  map[string]any
}

// api answers calls with the answers given, one after another, and keeps what came.
type api struct {
	mu      sync.Mutex
	answers []string // a JSON object, "drop", "429" or "503"
	came    []call
}

// calls returns what came; after a dropped answer the handler may still be ending.
func (a *api) calls() []call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.came)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	data, _ := io.ReadAll(r.Body)
	var body map[string]any
	_ = json.Unmarshal(data, &body)
	a.came = append(a.came, call{r.URL.Path, r.URL.Query(), body})
	answer := `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}`
	if len(a.answers) > 0 {
		answer, a.answers = a.answers[0], a.answers[1:]
	}
	switch answer {
	case "drop":
		panic(http.ErrAbortHandler)
	case "503":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "429":
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		_, _ = io.WriteString(w, answer)
	}
}

func start(t *testing.T, answers ...string) (*api, *client.Client) {
	t.Helper()
	a := &api{answers: answers}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL+"/", app, "administrator", client.SecretKey(key))
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP = server.Client()
	return a, c
}

const ok = `"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""`

func fail(code string) string {
	return `{"ActionStatus":"FAIL","ErrorCode":` + code + `,"ErrorInfo":"because"}`
}

func TestNewChecksItsArguments(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "push.example.com", "ftp://x", "http://", "://"} {
		if _, err := client.New(url, app, "a", client.UserSig("x")); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
	if _, err := client.New("http://x", app, "a", nil); err == nil {
		t.Error("a client without Auth")
	}
}

// Calls side by side use the connections of those before them.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	const callers, rounds = 20, 5
	var opened atomic.Int64
	var all sync.WaitGroup // every call of a round has come: they are side by side
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		all.Done()
		all.Wait()
		_, _ = io.WriteString(w, "{"+ok+"}")
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range rounds { // each with a client of its own
		c, err := client.New(server.URL, app, "administrator", client.SecretKey(key))
		if err != nil {
			t.Fatal(err)
		}
		all.Add(callers)
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				if err := c.Import(t.Context(), "alice"); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if n := opened.Load(); n > 2*callers {
		t.Errorf("%d connections for %d rounds of %d calls side by side", n, rounds, callers)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	a, c := start(t, `{`+ok+`,"TaskId":"t1"}`)
	task, err := c.Push(t.Context(), client.Push{
		Text: "hello", Elements: []crier.Element{client.Custom("d", "s", "e")}, LifeTime: time.Hour, From: "news", Random: 7,
		Condition: crier.ConditionSpec{TagsOr: []string{"vip"}}, Offline: &client.OfflinePush{Title: "T"},
	})
	if err != nil || task != "t1" {
		t.Fatalf("%q, %v", task, err)
	}
	want := map[string]any{
		"MsgRandom": 7.0, "MsgLifeTime": 3600.0, "From_Account": "news",
		"MsgBody": []any{
			map[string]any{"MsgType": "TIMTextElem", "MsgContent": map[string]any{"Text": "hello"}},
			map[string]any{"MsgType": "TIMCustomElem", "MsgContent": map[string]any{"Data": "d", "Desc": "s", "Ext": "e"}},
		},
		"Condition": map[string]any{"TagsOr": []any{"vip"}}, "OfflinePushInfo": map[string]any{"Title": "T"},
	}
	got := a.calls()[0]
	if got.path != "/v4/openim/im_push" || !reflect.DeepEqual(got.body, want) {
		t.Errorf("%s\n got %v\nwant %v", got.path, got.body, want)
	}
	q := got.query
	ticket, err := usersig.Parse(q["usersig"][0])
	if err != nil || ticket.Check(app, "administrator", []string{key}, time.Now()) != nil {
		t.Errorf("usersig: %v", err)
	}
	if q["sdkappid"][0] != "1400000001" || q["identifier"][0] != "administrator" || q["contenttype"][0] != "json" {
		t.Errorf("%v", q)
	}
	if _, err := c.Push(t.Context(), client.Push{Text: "x", LifeTime: time.Millisecond}); err == nil {
		t.Error("a life time of 1 ms was taken")
	}
}

// Whatever is lost on the way, one Push is one MsgRandom.
func TestPushIsTriedAgainWithTheSameRandom(t *testing.T) {
	t.Parallel()
	repeated := `{"ActionStatus":"FAIL","ErrorCode":90025,"ErrorInfo":"used","TaskId":"first"}`
	a, c := start(t, "drop", "503", repeated)
	task, err := c.Push(t.Context(), client.Push{Text: "x"})
	if err != nil || task != "first" {
		t.Errorf("%q, %v", task, err)
	}
	calls := a.calls()
	if len(calls) != 3 || calls[0].body["MsgRandom"] != calls[1].body["MsgRandom"] || calls[0].body["MsgRandom"] != calls[2].body["MsgRandom"] {
		t.Errorf("%v", calls)
	}

	accepted := `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","TaskId":"mine"}`
	a, c = start(t, repeated, accepted) // at the first try it is someone else's
	if task, err := c.Push(t.Context(), client.Push{Text: "x"}); err != nil || task != "mine" {
		t.Errorf("%q, %v", task, err)
	}
	if calls := a.calls(); len(calls) != 2 || calls[0].body["MsgRandom"] == calls[1].body["MsgRandom"] {
		t.Errorf("%v", calls)
	}
	a, c = start(t, slices.Repeat([]string{repeated}, 10)...)
	if task, err := c.Push(t.Context(), client.Push{Text: "x"}); !errors.Is(err, crier.CodePushRepeated) || task != "first" || len(a.calls()) != 4 {
		t.Errorf("%q, %v after %d calls", task, err, len(a.calls()))
	}
	_, c = start(t, "drop", repeated) // only the caller knows whether its own number is the same push
	if task, err := c.Push(t.Context(), client.Push{Text: "x", Random: 5}); !errors.Is(err, crier.CodePushRepeated) || task != "first" {
		t.Errorf("%q, %v", task, err)
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []string
		tries   int
		want    error
	}{
		"a network error":  {[]string{"drop"}, 2, nil},
		"a 503":            {[]string{"503"}, 2, nil},
		"time-out":         {[]string{fail("60008")}, 2, nil},
		"internal":         {[]string{fail("91000")}, 2, nil},
		"too many calls":   {[]string{fail("60007")}, 2, nil},
		"unknown account":  {[]string{fail("90048")}, 1, crier.CodeUnknownAccount},
		"to the end":       {[]string{fail("91000"), fail("91000"), fail("91000"), fail("91000"), fail("91000")}, 4, crier.CodeInternal},
		"then a clear one": {[]string{"drop", fail("90046")}, 2, crier.CodeAccountTagsFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, cl := start(t, c.answers...)
			err := cl.AddTags(t.Context(), map[crier.UserID][]string{"a": {"x"}})
			if !errors.Is(err, c.want) || c.want != nil && crier.AsError(err).Info != "because" {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if n := len(a.calls()); n != c.tries {
				t.Errorf("%d tries, want %d", n, c.tries)
			}
		})
	}
	a, c := start(t, "drop", "drop")
	if err := c.Kick(t.Context(), "a"); err == nil || len(a.calls()) != 1 {
		t.Errorf("kick: %d tries, %v", len(a.calls()), err)
	}
}

// A patient client waits as long as calls come too often, and tries what else may pass as often as ever.
func TestPatientClientWaits(t *testing.T) {
	t.Parallel()
	limited, internal := fail("60007"), fail("91000")
	for name, c := range map[string]struct {
		answers []string
		tries   int
		want    error
	}{
		"60007":       {slices.Repeat([]string{limited}, 100), 101, nil},
		"429":         {slices.Repeat([]string{"429"}, 100), 101, nil},
		"and another": {slices.Concat(slices.Repeat([]string{limited, internal}, 4), []string{limited}), 8, crier.CodeInternal},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &api{answers: c.answers}
			cl, err := client.New("http://crier.invalid", app, "administrator", client.SecretKey(key))
			if err != nil {
				t.Fatal(err)
			}
			cl.HTTP, cl.Patient = &http.Client{Transport: roundTrip(a.ServeHTTP)}, true
			began := time.Now()
			if err := cl.Import(t.Context(), "a"); !errors.Is(err, c.want) || len(a.calls()) != c.tries {
				t.Errorf("%s: %v after %d tries", name, err, len(a.calls()))
			}
			if took, most := time.Since(began), time.Duration(c.tries)*2*time.Second; took > most || c.tries > 100 && took < most/3 {
				t.Errorf("%s: %v for %d tries", name, took, c.tries)
			}
		})
	}
}

// roundTrip answers without sockets, so that the time of a test can be fake.
type roundTrip func(http.ResponseWriter, *http.Request)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f(w, r)
	return w.Result(), nil
}

func TestErrorsHideTheUserSig(t *testing.T) {
	t.Parallel()
	c, err := client.New("http://127.0.0.1:1", app, "administrator", client.UserSig("secret-sig"))
	if err != nil {
		t.Fatal(err)
	}
	c.Attempts = 1
	if err := c.Kick(t.Context(), "a"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, c := start(t, "503", "503", "503", "503")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := c.Push(ctx, client.Push{Text: "x"}); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestAnswerOfSomethingElse(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"<html>", `[]`, `{}`, `{` + ok + `,"TaskId":5}`} {
		_, c := start(t, answer)
		if task, err := c.Push(t.Context(), client.Push{Text: "x"}); err == nil {
			t.Errorf("%s: got %q", answer, task)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)
	for name, c := range map[string]struct {
		answer string
		call   func(ctx context.Context, c *client.Client) (any, error)
		path   string
		body   string
		want   any
	}{
		"Report": {
			`"Reports":[{"TaskId":"t","Status":1,"StartTime":"2026-11-24 09:02:03","Finished":2,"Total":3},{"TaskId":"u","Status":0}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Report(ctx, "t", "u") },
			"openim/im_get_push_report", `{"TaskIds":["t","u"]}`,
			[]crier.Report{{Task: "t", Status: crier.StatusRunning, Started: at, Finished: 2, Total: 3}, {Task: "u"}},
		},
		"Import": {
			"", func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Import(ctx, "a", "b") },
			"im_open_login_svc/multiaccount_import", `{"Accounts":["a","b"]}`, nil,
		},
		"ImportProfile": {"", func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.ImportProfile(ctx, "a", crier.Profile{Nick: "n", FaceURL: "f"})
		}, "im_open_login_svc/account_import", `{"UserID":"a","Nick":"n","FaceUrl":"f"}`, nil},
		"ImportProfiles": {
			`"FailAccounts":["c"]`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.ImportProfiles(ctx, map[crier.UserID]crier.Profile{"b": {Nick: "n", FaceURL: "f"}, "a": {}, "c": {}})
			},
			"im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"a"},{"UserID":"b","Nick":"n","FaceUrl":"f"},{"UserID":"c"}]}`,
			[]crier.UserID{"c"},
		},
		"Kick": {
			"", func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Kick(ctx, "a") },
			"im_open_login_svc/kick", `{"UserID":"a"}`, nil,
		},
		"Delete": {
			`"ResultItem":[{"UserID":"a","ResultCode":0},{"UserID":"b","ResultCode":70107,"ResultInfo":"none"}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Delete(ctx, "a", "b") },
			"im_open_login_svc/account_delete", `{"DeleteItem":[{"UserID":"a"},{"UserID":"b"}]}`,
			map[crier.UserID]error{"b": &crier.Error{Code: crier.CodeAccountMissing, Info: "none"}},
		},
		"Exist": {
			`"ResultItem":[{"UserID":"a","AccountStatus":"Imported"},{"UserID":"b","AccountStatus":"NotImported"}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Exist(ctx, "a", "b") },
			"im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"a"},{"UserID":"b"}]}`,
			map[crier.UserID]bool{"a": true, "b": false},
		},
		"Presence": {
			`"QueryResult":[{"To_Account":"a","Status":"Online","Detail":[{"Platform":"Web","Status":"Online"}]}],"ErrorList":[{"To_Account":"b","ErrorCode":70107}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Presence(ctx, "a", "b") },
			"openim/query_online_status", `{"To_Account":["a","b"],"IsNeedDetail":1}`,
			[]crier.Presence{
				{User: "a", Exists: true, State: crier.Online, Sessions: []crier.SessionPresence{{Platform: crier.Web, State: crier.Online}}},
				{User: "b", State: crier.Offline},
			},
		},
		"SetAttrNames": {"", func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.SetAttrNames(ctx, map[int]string{0: "sex", 9: "city"})
		}, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex","9":"city"}}`, nil},
		"AttrNames": {
			`"AttrNames":{"0":"sex"}`, func(ctx context.Context, c *client.Client) (any, error) { return c.AttrNames(ctx) },
			"openim/im_get_attr_name", `{}`,
			map[int]string{0: "sex"},
		},
		"SetAttrs": {"", func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.SetAttrs(ctx, map[crier.UserID]map[string]string{"a": {"sex": "m"}})
		}, "openim/im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]}`, nil},
		"RemoveAttrs": {"", func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.RemoveAttrs(ctx, map[crier.UserID][]string{"a": {"sex"}})
		}, "openim/im_remove_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":["sex"]}]}`, nil},
		"Attrs": {
			`"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]`, func(ctx context.Context, c *client.Client) (any, error) { return c.Attrs(ctx, "a") },
			"openim/im_get_attr", `{"To_Account":["a"]}`,
			map[crier.UserID]map[string]string{"a": {"sex": "m"}},
		},
		"AddTags": {"", func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.AddTags(ctx, map[crier.UserID][]string{"a": {"x"}})
		}, "openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]}]}`, nil},
		"RemoveTags": {"", func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.RemoveTags(ctx, map[crier.UserID][]string{"a": {"x"}})
		}, "openim/im_remove_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]}]}`, nil},
		"RemoveAllTags": {
			"", func(ctx context.Context, c *client.Client) (any, error) { return nil, c.RemoveAllTags(ctx, "a") },
			"openim/im_remove_all_tags", `{"To_Account":["a"]}`, nil,
		},
		"Tags": {
			`"UserTags":[{"To_Account":"a","Tags":["x"]}]`, func(ctx context.Context, c *client.Client) (any, error) { return c.Tags(ctx, "a") },
			"openim/im_get_tag", `{"To_Account":["a"]}`,
			map[crier.UserID][]string{"a": {"x"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := "{" + ok + "}"
			if c.answer != "" {
				answer = "{" + ok + "," + c.answer + "}"
			}
			a, cl := start(t, answer)
			got, err := c.call(t.Context(), cl)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
			var body map[string]any
			_ = json.Unmarshal([]byte(c.body), &body)
			if came := a.calls()[0]; came.path != "/v4/"+c.path || !reflect.DeepEqual(came.body, body) {
				t.Errorf("%s %v", came.path, came.body)
			}
			_, refused := start(t, fail("60010"), fail("60010"))
			if _, err := c.call(t.Context(), refused); !errors.Is(err, crier.CodeNotAdmin) {
				t.Errorf("refused: %v", err)
			}
		})
	}
}
