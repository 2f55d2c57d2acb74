package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/operator"
)

const token = "the token of the operator"

// memory is a Service that keeps its apps in a map.
type memory struct {
	mu   sync.Mutex
	apps map[crier.AppID]*crier.App
	err  error // answers every write, where it is not nil

	registered []crier.Device
	asked      []string // of the cluster
}

func (m *memory) App(id crier.AppID) *crier.App {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.apps[id]
}

func (m *memory) Apps() (all []*crier.App) {
	for _, app := range m.apps {
		all = append(all, app)
	}
	return all
}

func (m *memory) CreateApp(_ context.Context, app *crier.App) error {
	if m.apps[app.ID] != nil {
		return crier.Errorf(crier.CodeBadParameter, "app %d exists", app.ID)
	}
	return m.UpdateApp(context.Background(), app)
}

func (m *memory) UpdateApp(_ context.Context, app *crier.App) error {
	time.Sleep(time.Millisecond) // as long as a log takes
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.apps[app.ID] = app
	}
	return m.err
}

func (m *memory) Reports(_ context.Context, app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error) {
	if m.apps[app] == nil {
		return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", tasks[0])
	}
	return []crier.Report{{Task: tasks[0], Status: crier.StatusRunning, Started: time.Unix(1, 0).UTC(), Total: 3, Finished: 2}}, nil
}

// server is the API over a memory.
type server struct {
	*memory
	handler http.Handler
}

func newServer() *server {
	s := &server{memory: &memory{apps: make(map[crier.AppID]*crier.App)}}
	s.handler = handler(s.memory, token)
	return s
}

func handler(m *memory, token string) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	api := operator.New(m, cover{}, m, m, token)
	api.Register(e)
	api.RegisterCluster(e)
	return e
}

// send makes a request with the Authorization header, and returns the status and the body.
func send(h http.Handler, authorization, method, path, body string) (int, string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// want makes a call that must answer the status, and returns the body.
func (s *server) want(t *testing.T, status int, method, path, body string) string {
	t.Helper()
	got, text := send(s.handler, "Bearer "+token, method, path, body)
	if got != status || !json.Valid([]byte(text)) {
		t.Errorf("%s %s %s: %d %s, want %d", method, path, body, got, text, status)
	}
	return text
}

// says makes a call that must be refused with 400 and name what is wrong.
func (s *server) says(t *testing.T, method, path, body, what string) {
	t.Helper()
	if text := s.want(t, http.StatusBadRequest, method, path, body); !strings.Contains(text, what) {
		t.Errorf("%s: %s does not name %s", body, text, what)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer wrong", token, "Basic " + token, "bearer " + token, "Bearer " + token + "x", "Bearer  " + token} {
		for _, c := range [][2]string{
			{http.MethodGet, "/v1/apps"},
			{http.MethodPost, "/v1/apps"},
			{http.MethodGet, "/v1/apps/1"},
			{http.MethodPatch, "/v1/apps/1"},
			{http.MethodPost, "/v1/apps/1/rotate-key"},
			{http.MethodGet, "/v1/tasks/1_2_3_4"},
			{http.MethodGet, "/v1/apps/1/credentials"},
			{http.MethodPut, "/v1/apps/1/credentials"},
			{http.MethodDelete, "/v1/apps/1/credentials?vendor=fcm"},
		} {
			if status, text := send(s.handler, authorization, c[0], c[1], `{"id":2}`); status != http.StatusUnauthorized || strings.Contains(text, "key") {
				t.Errorf("%q %v: %d %s", authorization, c, status, text)
			}
		}
	}
	if len(s.apps) != 1 {
		t.Errorf("%d apps", len(s.apps))
	}
	for _, authorization := range []string{"", "Bearer", "Bearer "} { // an empty token opens nothing
		if status, text := send(handler(s.memory, ""), authorization, http.MethodGet, "/v1/apps", ""); status != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", authorization, status, text)
		}
	}
}

func TestKeysAreShownOnce(t *testing.T) {
	t.Parallel()
	s := newServer()
	var made, rotated struct{ Key string }
	created := s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":7,"name":"shop"}`)
	if err := json.Unmarshal([]byte(created), &made); err != nil || len(made.Key) != 64 || s.apps[7].Key != made.Key {
		t.Fatalf("%s: %v", created, err)
	}
	if err := json.Unmarshal([]byte(s.want(t, http.StatusOK, http.MethodPost, "/v1/apps/7/rotate-key", `{"grace_seconds":60}`)), &rotated); err != nil {
		t.Fatal(err)
	}
	app := s.apps[7]
	if app.Key != rotated.Key || app.OldKey != made.Key || app.Key == made.Key {
		t.Errorf("after the rotation %+v", app)
	}
	if grace := time.Until(app.OldKeyUntil); grace > time.Minute || grace < 50*time.Second || len(app.Keys(time.Now())) != 2 || len(app.Keys(time.Now().Add(time.Minute))) != 1 {
		t.Errorf("the old key works until %s", app.OldKeyUntil)
	}
	for _, text := range []string{
		s.want(t, http.StatusOK, http.MethodGet, "/v1/apps", ""), s.want(t, http.StatusOK, http.MethodGet, "/v1/apps/7", ""),
		s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/7", `{"name":"store"}`), s.want(t, http.StatusBadRequest, http.MethodPost, "/v1/apps", `{"id":7}`),
	} {
		if strings.Contains(text, made.Key) || strings.Contains(text, rotated.Key) {
			t.Errorf("a key is shown again: %s", text)
		}
	}
	if app := s.apps[7]; app.Name != "store" || app.Key != rotated.Key || app.OldKey != made.Key {
		t.Errorf("a change of the name made it %+v", app)
	}
	for _, grace := range []string{"-1", "2592001", `"x"`, "1.5"} {
		s.want(t, http.StatusBadRequest, http.MethodPost, "/v1/apps/7/rotate-key", `{"grace_seconds":`+grace+`}`)
	}
	s.says(t, http.MethodPost, "/v1/apps/7/rotate-key", `{"grace":5}`, "grace")
	if s.apps[7].Key != rotated.Key {
		t.Error("a refused rotation made a new key")
	}
	s.want(t, http.StatusOK, http.MethodPost, "/v1/apps/7/rotate-key", ``)
	if day := time.Until(s.apps[7].OldKeyUntil); day < 23*time.Hour || day > 24*time.Hour {
		t.Errorf("the default grace is %s", day)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	if app := s.apps[1]; !app.PushEnabled || app.Disabled || app.Limits != crier.DefaultLimits() || len(app.Admins) != 1 || app.Admins[0] != "administrator" || time.Since(app.CreatedAt) > time.Minute {
		t.Errorf("the defaults are %+v", app)
	}
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps",
		`{"id":2,"key":"0123456789abcdef","admins":["a","b"],"push_enabled":false,"session_policy":"many","language":"zh","limits":{"kept_pushes":5},"attr_names":["sex"]}`)
	if app := s.apps[2]; app.PushEnabled || app.Key != "0123456789abcdef" || len(app.Admins) != 2 || app.Limits.KeptPushes != 5 || app.Limits.TagsPerCall != 10 || app.AttrNames[0] != "sex" {
		t.Errorf("made %+v", app)
	}
	for body, what := range map[string]string{
		``: "id", `{}`: "id", `{"id":0}`: "id", `{"id":-1}`: "id", `{"id":4294967296}`: "id", `{"id":"x"}`: "id", `{"id":1}`: "exists",
		`{"id":3,"nosuch":1}`: "nosuch", `{"id":3,"limits":{"nosuch":1}}`: "nosuch", `{"id":3,"limits":{"push_interval":-1}}`: "limits.push_interval",
		`{"id":3,"limits":5}`: "limits", `{"id":3,"key":"short"}`: "key", `{"id":3,"key":""}`: "key",
		`{"id":3,"admins":[]}`: "admins", `{"id":3,"admins":[""]}`: "admins[0]", `{"id":3,"session_policy":"x"}`: "session_policy", `{"id":3,"language":"x"}`: "language",
		`{"id":3,"name":"` + strings.Repeat("x", 129) + `"}`: "name", `{"id":3} {}`: "follows", `[]`: "body", `{`: "body", `{"id":3,"attr_names":["a","a"]}`: "attr_names",
		`{"id":3,"attr_names":["` + strings.Repeat("x", 51) + `"]}`: "attr_names", `{"id":3,"name":"` + strings.Repeat("x", 70_000) + `"}`: "65536",
	} {
		s.says(t, http.MethodPost, "/v1/apps", body, what)
	}
	if len(s.apps) != 2 {
		t.Errorf("%d apps", len(s.apps))
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1,"attr_names":["sex"]}`)
	before := *s.apps[1]
	for body, what := range map[string]string{
		`{"id":2}`: "id", `{"key":"0123456789abcdef"}`: "key", `{"old_key":"x"}`: "old_key", `{"old_key_until":"2030-01-01T00:00:00Z"}`: "old_key_until",
		`{"attr_names":["x"]}`: "attr_names", `{"created_at":"2030-01-01T00:00:00Z"}`: "created_at", `{"nosuch":1}`: "nosuch", `{"limits":{"nosuch":1}}`: "nosuch",
		`{"limits":{"calls_per_second":-5}}`: "limits.calls_per_second", `{"admins":[]}`: "admins", `{"disabled":1}`: "disabled", `{`: "body",
	} {
		s.says(t, http.MethodPatch, "/v1/apps/1", body, what)
	}
	if fmt.Sprint(*s.apps[1]) != fmt.Sprint(before) {
		t.Errorf("refused changes made it %+v", s.apps[1])
	}
	shared := s.apps[1]
	s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"admins":["z"],"disabled":true,"limits":{"pushes_per_day":0}}`)
	if app := s.apps[1]; app.Admins[0] != "z" || !app.Disabled || app.Limits.PushesPerDay != 0 || app.Limits.PushInterval != time.Second || app.AttrNames[0] != "sex" || app.Key != before.Key {
		t.Errorf("changed to %+v", app)
	}
	if shared.Admins[0] != "administrator" {
		t.Error("the old value, which others read, was written to")
	}
	s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"id":1}`)
	for _, path := range []string{"/v1/apps/2", "/v1/apps/0", "/v1/apps/x", "/v1/apps/4294967297"} {
		s.want(t, http.StatusNotFound, http.MethodGet, path, "")
		s.want(t, http.StatusNotFound, http.MethodPatch, path, `{"name":"x"}`)
		s.want(t, http.StatusNotFound, http.MethodPost, path+"/rotate-key", "")
	}
	s.err = crier.Errorf(crier.CodeTimeout, "the partition is busy")
	s.want(t, http.StatusServiceUnavailable, http.MethodPatch, "/v1/apps/1", `{"name":"x"}`)
	s.err = context.DeadlineExceeded
	s.want(t, http.StatusInternalServerError, http.MethodPatch, "/v1/apps/1", `{"name":"x"}`)
}

func TestTask(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	const want = `{"app":1,"finished":2,"funnel":{"matched":3,"online":0,"kept":true,"acknowledged":0,"later":0,"expired":0,"deleted":0,"waiting":3,` +
		`"vendor":{"wanted":true,"no_device":0,"accepted":2,"not_needed":0,"failed":{"Unregistered":1},"expired":0,"deleted":0,"to_do":0}},"started":"1970-01-01T00:00:01Z","status":"running","task":"1_2_3_4","total":3}`
	if got := s.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/1_2_3_4", ""); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.want(t, http.StatusNotFound, http.MethodGet, "/v1/tasks/2_2_3_4", "")
	s.want(t, http.StatusNotFound, http.MethodGet, "/v1/tasks/nosuch", "")
}

func TestDurationsAreSeconds(t *testing.T) {
	t.Parallel()
	s := newServer()
	made := s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1,"limits":{"push_interval":0.5}}`)
	if !strings.Contains(made, `"push_interval":0.5,"msg_random_window":604800,"fallback_after":10}`) {
		t.Errorf("made %s", made)
	}
	for value, c := range map[string]struct {
		want  time.Duration
		shown string
	}{
		`0`: {0, "0"}, `1`: {time.Second, "1"}, `0.001`: {time.Millisecond, "0.001"}, `0.1`: {100 * time.Millisecond, "0.1"}, `1e3`: {1000 * time.Second, "1000"},
		`604800.0`: {168 * time.Hour, "604800"}, `"1.5s"`: {1500 * time.Millisecond, "1.5"}, `"168h"`: {168 * time.Hour, "604800"}, `"0"`: {0, "0"},
		`null`: {7 * time.Second, "7"}, `"1ms"`: {time.Millisecond, "0.001"},
	} {
		for name, of := range map[string]func(*crier.App) time.Duration{
			"push_interval":     func(a *crier.App) time.Duration { return a.Limits.PushInterval },
			"msg_random_window": func(a *crier.App) time.Duration { return a.Limits.MsgRandomWindow },
			"fallback_after":    func(a *crier.App) time.Duration { return a.Limits.FallbackAfter },
		} {
			s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"limits":{"`+name+`":7}}`)
			text := s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"limits":{"`+name+`":`+value+`}}`)
			if got := of(s.apps[1]); got != c.want || !strings.Contains(text, `"`+name+`":`+c.shown) {
				t.Errorf("%s %s: %s, shown as %s", name, value, got, text)
			}
		}
	}
	before := s.apps[1].Limits
	for _, name := range []string{"push_interval", "msg_random_window", "fallback_after"} {
		for _, value := range []string{`-1`, `"-1s"`, `0.0001`, `"1us"`, `1e10`, `1e300`, `"1"`, `""`, `"x"`, `true`, `[1]`, `{}`} {
			s.says(t, http.MethodPatch, "/v1/apps/1", `{"limits":{"`+name+`":`+value+`}}`, "limits."+name)
		}
	}
	if s.apps[1].Limits != before {
		t.Errorf("refused changes made it %+v", s.apps[1].Limits)
	}
}

// Each of two changes at the same time stands: one that is read before the other is written must not undo it.
func TestChangesAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	bodies := []string{
		`{"name":"shop"}`, `{"admins":["z"]}`, `{"disabled":true}`, `{"push_enabled":false}`, `{"language":"zh"}`, `{"session_policy":"many"}`,
		`{"limits":{"push_interval":3}}`, `{"limits":{"pushes_per_day":3}}`, `{"limits":{"kept_pushes":3}}`, `{"limits":{"body_bytes":3}}`,
	}
	key := s.apps[1].Key
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() { s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", body) })
	}
	wg.Go(func() { s.want(t, http.StatusOK, http.MethodPost, "/v1/apps/1/rotate-key", ``) })
	for _, vendor := range []string{"apns", "fcm", "webpush"} {
		wg.Go(func() {
			s.want(t, http.StatusOK, http.MethodPut, "/v1/apps/1/credentials", `{"vendor":"`+vendor+`","secret":"x"}`)
		})
	}
	wg.Wait()
	app := s.apps[1]
	if len(app.Credentials) != 3 {
		t.Errorf("a credential is lost: %+v", app.Credentials)
	}
	if l := app.Limits; app.Name != "shop" || app.Admins[0] != "z" || !app.Disabled || app.PushEnabled || app.Language != "zh" || app.Sessions != "many" ||
		l.PushInterval != 3*time.Second || l.PushesPerDay != 3 || l.KeptPushes != 3 || l.BodyBytes != 3 || app.OldKey != key || app.Key == key {
		t.Errorf("a change is lost: %+v", app)
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	call := func(method, path, tag, body string) (status int, newTag string) {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("If-Match", tag)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, req)
		return w.Code, w.Header().Get("ETag")
	}
	_, first := call(http.MethodGet, "/v1/apps/1", "", "")
	if _, again := call(http.MethodGet, "/v1/apps/1", "", ""); first == "" || again != first {
		t.Errorf("the tag is %s and then %s", first, again)
	}
	status, second := call(http.MethodPatch, "/v1/apps/1", first, `{"name":"a"}`)
	if status != http.StatusOK || second == first {
		t.Errorf("%d, tag %s", status, second)
	}
	for path, method := range map[string]string{"/v1/apps/1": http.MethodPatch, "/v1/apps/1/rotate-key": http.MethodPost} {
		if status, _ := call(method, path, first, `{}`); status != http.StatusPreconditionFailed {
			t.Errorf("%s with an old tag: %d", path, status)
		}
		_, current := call(http.MethodGet, "/v1/apps/1", "", "")
		for _, tag := range []string{current, "*", ""} {
			if status, _ := call(method, path, tag, `{}`); status != http.StatusOK {
				t.Errorf("%s with tag %q: %d", path, tag, status)
			}
		}
	}
	if app := s.apps[1]; app.Name != "a" || app.OldKey == "" {
		t.Errorf("changed to %+v", app)
	}
}
