package rest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/usersig"
)

// stub is a Service in which every account exists and every call succeeds.
type stub struct{ app *crier.App }

func (s stub) App(crier.AppID) *crier.App                                      { return s.app }
func (stub) SetAttrNames(context.Context, crier.AppID, map[int]string) error   { return nil }
func (stub) ChangeAccounts(context.Context, crier.AppID, []crier.Change) error { return nil }
func (stub) Push(context.Context, *crier.PushRequest) (crier.TaskID, error)    { return "1_2_3_4", nil }

func (stub) Accounts(_ context.Context, app crier.AppID, users []crier.UserID) ([]*crier.Account, error) {
	accounts := make([]*crier.Account, len(users))
	for i, u := range users {
		accounts[i] = &crier.Account{App: app, User: u}
	}
	return accounts, nil
}

func (stub) Presence(_ context.Context, _ crier.AppID, users []crier.UserID) ([]crier.Presence, error) {
	return make([]crier.Presence, len(users)), nil
}

func (stub) Reports(_ context.Context, _ crier.AppID, tasks []crier.TaskID) ([]crier.Report, error) {
	return make([]crier.Report, len(tasks)), nil
}

// handler returns the API over the stub, and the query of an admin.
func handler() (http.Handler, string) {
	app := &crier.App{ID: 1, Key: "key", Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.DefaultLimits(), AttrNames: crier.AttrNames{"sex", "city"}}
	app.Limits.CallsPerSecond = 0
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	New(Config{Service: stub{app}, Logger: slog.New(slog.DiscardHandler)}).Register(e)
	return e, url.Values{
		"sdkappid": {"1"}, "identifier": {"admin"}, "usersig": {usersig.Sign("key", 1, "admin", time.Now(), time.Hour, nil)},
	}.Encode()
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{"", "{}", "[1]", `{"a":{"b":[null,1.5e3,"x"]}}`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", `{"a":`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := parseBody(body)
		if err != nil {
			return
		}
		if v.raw != "" && !json.Valid([]byte(v.raw)) {
			t.Errorf("%q became %q", body, v.raw)
		}
	})
}

// FuzzCall sends a body to every command: no panic, and always the three fields.
func FuzzCall(f *testing.F) {
	for _, seed := range []string{
		`{"MsgRandom":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}],"Condition":{"TagsOr":["a"]},"OfflinePushInfo":{"ApnsInfo":{}}}`,
		`{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":1}}]}`, `{"UserTags":{"To_Account":"a","Tags":"x"}}`, `{"To_Account":["a",1]}`,
		`{"AccountList":[{"UserID":"a"},"b"]}`, `{"CheckItem":[{"UserID":"a"}]}`, `{"TaskIds":["x"]}`, `{"AttrNames":["a",null]}`,
	} {
		f.Add(seed)
	}
	h, query := handler()
	f.Fuzz(func(t *testing.T, body string) {
		for _, c := range commands {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/"+c.services[0]+"/"+c.name+"?"+query, strings.NewReader(body)))
			var answer struct {
				ActionStatus, ErrorInfo *string
				ErrorCode               *int
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || answer.ActionStatus == nil || answer.ErrorInfo == nil || answer.ErrorCode == nil {
				t.Fatalf("%s: %d %s", c.name, w.Code, w.Body)
			}
			if *answer.ErrorCode == int(crier.CodeInternal) {
				t.Fatalf("%s panicked: %s", c.name, body)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("sdkappid=1&Identifier=a&usersig=*-_")
	f.Add("a=%zz&a=1")
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := parseQuery(raw)
		for name := range query {
			if err != nil || name != strings.ToLower(name) {
				t.Errorf("%q: %v, %v", raw, query, err)
			}
		}
	})
}

func BenchmarkSetAttr100(b *testing.B) {
	h, query := handler()
	var entries []string
	for range 100 {
		entries = append(entries, `{"To_Account":"user00000001","Attrs":{"sex":"m","city":"Shenzhen"}}`)
	}
	body := `{"UserAttrs":[` + strings.Join(entries, ",") + `]}`
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/openim/im_set_attr?"+query, strings.NewReader(body)))
		if !strings.Contains(w.Body.String(), `"OK"`) {
			b.Fatal(w.Body)
		}
	}
}
