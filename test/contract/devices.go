package contract

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/crier-im/crier/http/gateway/frame"
)

// base64url is how browsers write keys.
var base64url = base64.RawURLEncoding

// webPush gives the tenant a credential for browsers.
func (a *tenant) webPush(t *testing.T) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.operate(t, http.MethodPut, "/v1/apps/"+a.id.String()+"/credentials", fmt.Sprintf(
		`{"vendor":"webpush","form":"vapid","params":{"public_key":"%s","subject":"mailto:operator@example.com"},"secret":"%s"}`,
		base64url.EncodeToString(key.PublicKey().Bytes()), base64url.EncodeToString(key.Bytes())))
}

// browser registers a browser of an account, at a push service that nobody finds, and returns its token.
func (a *tenant) browser(t *testing.T, user, name string) string {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token, err := json.Marshal(map[string]any{"endpoint": "https://push.invalid/" + name, "keys": map[string]string{
		"p256dh": base64url.EncodeToString(key.PublicKey().Bytes()), "auth": base64url.EncodeToString(make([]byte, 16)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"vendor": "webpush", "token": string(token), "platform": "Web"})
	if err != nil {
		t.Fatal(err)
	}
	a.operate(t, http.MethodPost, a.devices(user), string(body))
	return string(token)
}

func (a *tenant) devices(user string) string {
	return "/v1/apps/" + a.id.String() + "/users/" + url.PathEscape(user) + "/devices"
}

// escapedNames: the operator's API reaches accounts whose names a path must escape.
func escapedNames(t *testing.T, a *tenant) {
	a.webPush(t)
	names := []string{"a/b", "a+b/c", "a b", "100%", "名/字"}
	a.accounts(t, names...)
	p := new(pusher)
	task, _ := a.ok(t, push, p.body(`,"MsgLifeTime":60`))["TaskId"].(string)
	a.done(t, task)
	for _, name := range names {
		count := func(want int) {
			t.Helper()
			all, _ := a.operate(t, http.MethodGet, a.devices(name), "")["devices"].([]any)
			if len(all) != want {
				t.Errorf("%s has %d devices, want %d", name, len(all), want)
			}
		}
		token := a.browser(t, name, "b")
		count(1)
		a.operate(t, http.MethodDelete, a.devices(name)+"?vendor=webpush&token="+url.QueryEscape(token), "")
		count(0)
		if r := a.operate(t, http.MethodGet, "/v1/tasks/"+task+"/users/"+url.PathEscape(name), ""); r["user"] != name || r["matched"] != true {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func devicesPerUser(t *testing.T, a *tenant) {
	a.webPush(t)
	count := func(want int) {
		t.Helper()
		all, _ := a.operate(t, http.MethodGet, a.devices("u0"), "")["devices"].([]any)
		if len(all) != want {
			t.Errorf("%d devices, want %d", len(all), want)
		}
	}
	a.limit(t, "devices_per_user", 3)
	for i, want := range []int{1, 2, 3, 3} {
		a.browser(t, "u0", fmt.Sprint(i))
		count(want)
	}
	a.limit(t, "devices_per_user", 0)
	a.browser(t, "u0", "one more")
	count(4)
}

// fallbackAfter: a connected account that acknowledges in time needs no vendor; one that does not gets one.
func fallbackAfter(t *testing.T, a *tenant) {
	a.webPush(t)
	a.browser(t, "u0", "acknowledges")
	a.browser(t, "u1", "is silent")
	a.limit(t, "fallback_after", 1)
	acknowledges := a.connect(t, "u0", "Web")
	a.connect(t, "u1", "Web")
	a.online(t, "u0", 1)
	a.online(t, "u1", 1)
	p := new(pusher)
	task, _ := a.ok(t, push, p.body(`,"MsgLifeTime":60`))["TaskId"].(string)
	acknowledges.send(&frame.Ack{Seqs: []uint64{acknowledges.message()}})
	tried := func(user string) bool {
		attempts, _ := a.operate(t, http.MethodGet, "/v1/tasks/"+task+"/users/"+user, "")["attempts"].([]any)
		return len(attempts) > 0
	}
	for deadline := time.Now().Add(20 * time.Second); !tried("u1"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no vendor was tried for a silent account within 20 s")
		}
	}
	if tried("u0") {
		t.Error("a vendor was tried for an account that acknowledged")
	}
}
