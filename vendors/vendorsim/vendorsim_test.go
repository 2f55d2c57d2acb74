package vendorsim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func post(t *testing.T, url, body string, header map[string]string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func startFCM(t *testing.T, o Options) *FCM {
	t.Helper()
	f, err := StartFCM(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// The token endpoint believes the demo's account only, for an hour, for this server, and for messaging.
func TestAssertions(t *testing.T) {
	t.Parallel()
	f := startFCM(t, Options{})
	other := startFCM(t, Options{})
	now := time.Now()
	for name, c := range map[string]struct {
		change func(jwt.MapClaims)
		sim    *FCM
		status int
	}{
		"good":        {func(jwt.MapClaims) {}, f, 200},
		"other key":   {func(jwt.MapClaims) {}, other, 400},
		"issuer":      {func(c jwt.MapClaims) { c["iss"] = "someone" }, f, 400},
		"audience":    {func(c jwt.MapClaims) { c["aud"] = other.TokenURL() }, f, 400},
		"expired":     {func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Minute).Unix() }, f, 400},
		"too long":    {func(c jwt.MapClaims) { c["exp"] = now.Add(2 * time.Hour).Unix() }, f, 400},
		"no end":      {func(c jwt.MapClaims) { delete(c, "exp") }, f, 400},
		"no begin":    {func(c jwt.MapClaims) { delete(c, "iat") }, f, 400},
		"the future":  {func(c jwt.MapClaims) { c["iat"] = now.Add(time.Minute).Unix() }, f, 400},
		"other scope": {func(c jwt.MapClaims) { c["scope"] = "https://www.googleapis.com/auth/drive" }, f, 400},
	} {
		claims := jwt.MapClaims{"iss": account, "aud": f.TokenURL(), "scope": scope, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		c.change(claims)
		signed, err := jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(c.sim.key)
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{"grant_type": {grant}, "assertion": {signed}}.Encode()
		status, text := post(t, f.TokenURL(), form, map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
		if status != c.status || strings.Contains(text, "invalid_grant") != (status == 400) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, text := post(t, f.TokenURL(), "", nil); status != 400 || !strings.Contains(text, "unsupported_grant_type") {
		t.Errorf("%d %s", status, text)
	}
}

func TestMessagesAreChecked(t *testing.T) {
	t.Parallel()
	f := startFCM(t, Options{Keep: 2})
	f.accesses["a"] = time.Now().Add(time.Hour)
	bearer := map[string]string{"Authorization": "Bearer a"}
	send := f.URL() + "/v1/projects/" + Project + "/messages:send"
	for body, field := range map[string]string{
		`{}`:                          "message",
		`{"message":{}}`:              "message",
		`{"message":{"token":"a b"}}`: "message.token",
		`{"message":{"token":"a","data":{"n":1}}}`:                                          "message",
		`{"message":{"token":"a","data":{"from":"x"}}}`:                                     "message.data",
		`{"message":{"token":"a","unknown":1}}`:                                             "message",
		`{"message":{"token":"a","android":{"ttl":"60"}}}`:                                  "message.android.ttl",
		`{"message":{"token":"a","android":{"ttl":"2419201s"}}}`:                            "message.android.ttl",
		`{"message":{"token":"a","android":{"priority":"urgent"}}}`:                         "message.android.priority",
		`{"message":{"token":"a","data":{"x":"` + strings.Repeat("y", messageMost) + `"}}}`: "message",
	} {
		status, text := post(t, send, body, bearer)
		if status != 400 || !strings.Contains(text, fmt.Sprintf(`"field":%q`, field)) {
			t.Errorf("%.80s: %d %s", body, status, text)
		}
	}
	const good = `{"message":{"token":"a","android":{"ttl":"1.5s","priority":"HIGH"}}}`
	if status, _ := post(t, send, good, map[string]string{"Authorization": "Bearer b"}); status != 401 {
		t.Errorf("%d", status)
	}
	if status, _ := post(t, strings.Replace(send, Project, "other", 1), good, bearer); status != 403 {
		t.Errorf("%d", status)
	}
	if status, _ := post(t, f.URL()+"/v2", good, bearer); status != 404 {
		t.Errorf("%d", status)
	}
	for range 3 {
		if status, text := post(t, send, good, bearer); status != 200 {
			t.Errorf("%d %s", status, text)
		}
	}
	if n := len(f.Messages()); n != 2 {
		t.Errorf("%d messages are kept", n)
	}
	f.Fail("a", &Fault{Status: 500, Times: 2})
	f.Fail("ab", &Fault{Status: 503})
	f.Fail("abc", nil)
	for _, want := range []int{500, 500, 200} {
		if status, _ := post(t, send, good, bearer); status != want {
			t.Errorf("%d instead of %d", status, want)
		}
	}
	if status, _ := post(t, send, strings.Replace(good, `"a"`, `"abc"`, 1), bearer); status != 503 {
		t.Errorf("%d", status)
	}
}

// The message of RFC 8291, 5, is read.
func TestDecryptsExampleOfRFC8291(t *testing.T) {
	t.Parallel()
	private, _ := b64.DecodeString("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
	auth, _ := b64.DecodeString("BTBZMqHH6r4Tts7J_aSIgg")
	body, err := b64.DecodeString("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	if err != nil {
		t.Fatal(err)
	}
	state, _ := json.Marshal(webPushState{VAPID: private, Subscriptions: map[string][2][]byte{"rfc": {private, auth}}})
	p, err := StartWebPush(Options{State: state})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = p.subscriptions["rfc"].decrypt(body)
	if err == nil || err.Error() != "the payload is not JSON" { // it is a sentence
		t.Errorf("%v", err)
	}
	body[len(body)-1] ^= 1
	if _, err = p.subscriptions["rfc"].decrypt(body); err == nil || err.Error() != "the body can't be decrypted" {
		t.Errorf("%v", err)
	}
}

func TestWebPushIsChecked(t *testing.T) {
	t.Parallel()
	p, err := StartWebPush(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Subscribe("phone"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "a/b", strings.Repeat("x", 65)} {
		if _, err := p.Subscribe(id); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
	key := base64.RawURLEncoding.EncodeToString(p.vapid.PublicKey().Bytes())
	good := map[string]string{"TTL": "1", "Content-Encoding": "aes128gcm"}
	for name, c := range map[string]struct {
		authorization string
		status        int
	}{
		"none":        {"", 401},
		"no key":      {"vapid t=x", 401},
		"another key": {"vapid t=x, k=AAAA", 403},
		"no token":    {"vapid t=a.b.c, k=" + key, 403},
	} {
		header := map[string]string{"Authorization": c.authorization}
		for k, v := range good {
			header[k] = v
		}
		if status, text := post(t, p.URL()+"/push/phone", "x", header); status != c.status {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, _ := post(t, p.URL()+"/push/phone", strings.Repeat("x", bodyLimit+1), good); status != 413 {
		t.Errorf("%d", status)
	}
	for name, h := range map[string]http.Header{
		"no ttl":   {"Content-Encoding": {"aes128gcm"}},
		"ttl":      {"Ttl": {"-1"}, "Content-Encoding": {"aes128gcm"}},
		"topic":    {"Ttl": {"1"}, "Topic": {"a b"}, "Content-Encoding": {"aes128gcm"}},
		"long":     {"Ttl": {"1"}, "Topic": {strings.Repeat("x", 33)}, "Content-Encoding": {"aes128gcm"}},
		"urgency":  {"Ttl": {"1"}, "Urgency": {"extreme"}, "Content-Encoding": {"aes128gcm"}},
		"encoding": {"Ttl": {"1"}, "Content-Encoding": {"aesgcm"}},
	} {
		if _, err := readWebPush(h); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestBadState(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"", "x", "{}", `{"VAPID":"AAAA"}`, "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"} {
		if f, err := StartFCM(Options{State: []byte(state)}); err == nil {
			_ = f.Close()
			t.Errorf("FCM took the state %q", state)
		}
		if p, err := StartWebPush(Options{State: []byte(state)}); err == nil {
			_ = p.Close()
			t.Errorf("Web Push took the state %q", state)
		}
	}
	if _, err := StartFCM(Options{Listen: "no address"}); err == nil {
		t.Error("started nowhere")
	}
}

func FuzzDecrypt(f *testing.F) {
	p, err := StartWebPush(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = p.Close() })
	if _, err := p.Subscribe("phone"); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Repeat([]byte{65}, 120))
	f.Fuzz(func(t *testing.T, body []byte) {
		if text, err := p.subscriptions["phone"].decrypt(body); err == nil {
			t.Errorf("%q was read", text)
		}
	})
}

func FuzzReadFCM(f *testing.F) {
	f.Add([]byte(`{"message":{"token":"a","android":{"ttl":"1s"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, _, err := readFCM(body); err == nil && (m.Token == "" || m.Size > messageMost) {
			t.Errorf("%+v", m)
		}
	})
}
