package apnssim

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bundle = "com.example.app"

// start runs a simulator, and a client with a certificate that it takes.
func start(t *testing.T, o Options) (*Server, *http.Client) {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.CA().IssuePush(PushCertificate{Topics: []string{bundle, bundle + ".voip"}, Production: true})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.CA().Pool(), Certificates: []tls.Certificate{cert}}, ForceAttemptHTTP2: true,
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, &http.Client{Transport: client}
}

func ask(t *testing.T, client *http.Client, method, url, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// What a client does wrong gets the reason that is documented for it.
func TestChecks(t *testing.T) {
	t.Parallel()
	s, client := start(t, Options{})
	device := devicePath + strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		method, path, body string
		header             string // name: value, and so on
		reason             string
	}{
		"good":                  {"", "", "", "", ""},
		"good voip":             {"", "", `{"aps":{},"x":"` + strings.Repeat("x", 5000) + `"}`, "apns-topic: com.example.app.voip, apns-push-type: voip", ""},
		"a GET":                 {"GET", "", "", "", "MethodNotAllowed"},
		"another path":          {"", "/4/device/ab", "", "", "BadPath"},
		"a longer path":         {"", device + "/x", "", "", "BadPath"},
		"no token":              {"", devicePath, "", "", "MissingDeviceToken"},
		"a short token":         {"", devicePath + "abcd", "", "", "BadDeviceToken"},
		"a token of 300 bytes":  {"", devicePath + strings.Repeat("ab", 300), "", "", "BadDeviceToken"},
		"a token of words":      {"", devicePath + strings.Repeat("xy", 32), "", "", "BadDeviceToken"},
		"a bad topic":           {"", "", "", "apns-topic: a b", "BadTopic"},
		"no topic":              {"", "", "", "apns-topic: -", "MissingTopic"},
		"another topic":         {"", "", "", "apns-topic: com.example.other", "TopicDisallowed"},
		"an id that is none":    {"", "", "", "apns-id: 7", "BadMessageId"},
		"a bad expiration":      {"", "", "", "apns-expiration: soon", "BadExpirationDate"},
		"a bad priority":        {"", "", "", "apns-priority: 7", "BadPriority"},
		"a bad type":            {"", "", "", "apns-push-type: loud", "InvalidPushType"},
		"voip to the alerts":    {"", "", "", "apns-push-type: voip", "InvalidPushType"},
		"urgent background":     {"", "", "", "apns-push-type: background, apns-priority: 10", "BadPriority"},
		"a long collapse id":    {"", "", "", "apns-collapse-id: " + strings.Repeat("x", 65), "BadCollapseId"},
		"too large":             {"", "", `{"aps":{},"x":"` + strings.Repeat("x", 4096) + `"}`, "", "PayloadTooLarge"},
		"far too large":         {"", "", strings.Repeat("x", 1<<20), "", "PayloadTooLarge"},
		"empty":                 {"", "", " ", "", "PayloadEmpty"},
		"no aps":                {"", "", `{"x":1}`, "", "PayloadEmpty"},
		"two priorities":        {"", "", "", "apns-priority: 5, apns-priority: 10", "DuplicateHeaders"},
		"a wrong provider text": {"", "", "", "authorization: bearer x.y.z", "InvalidProviderToken"},
		"no bearer":             {"", "", "", "authorization: basic x", "MissingProviderToken"},
	} {
		header := http.Header{"Apns-Topic": {bundle}}
		for part := range strings.SplitSeq(c.header, ", ") {
			if key, value, ok := strings.Cut(part, ": "); ok {
				key = http.CanonicalHeaderKey(key)
				if key == "Apns-Topic" {
					header.Del(key)
				}
				if value != "-" {
					header.Add(key, value)
				}
			}
		}
		resp, body := ask(t, client, or(c.method, "POST"), s.URL()+or(c.path, device), or(c.body, `{"aps":{"alert":"x"}}`), header)
		var answer struct{ Reason string }
		_ = json.Unmarshal([]byte(body), &answer)
		want := http.StatusOK
		if c.reason != "" {
			want = statuses[c.reason]
		}
		if answer.Reason != c.reason || resp.StatusCode != want || len(resp.Header.Get("apns-id")) != 36 || resp.ProtoMajor != 2 {
			t.Errorf("%s: %d %s %s, want %s", name, resp.StatusCode, body, resp.Proto, c.reason)
		}
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestGone(t *testing.T) {
	t.Parallel()
	s, client := start(t, Options{})
	resp, body := ask(t, client, "POST", s.URL()+devicePath+"dead"+strings.Repeat("00", 30), `{"aps":{}}`, http.Header{"Apns-Topic": {bundle}})
	var answer struct{ Timestamp int64 }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 410 || answer.Timestamp < 1e12 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestOnlyHTTP2(t *testing.T) {
	t.Parallel()
	s, client := start(t, Options{})
	client.Transport.(*http.Transport).Protocols = new(http.Protocols)
	client.Transport.(*http.Transport).Protocols.SetHTTP1(true)
	if resp, err := client.Get(s.URL()); err == nil {
		_ = resp.Body.Close()
		t.Errorf("HTTP/1 got %s", resp.Status)
	}
}

// A share of a quarter is every fourth request, and a number of times ends.
func TestFaultsAreSpread(t *testing.T) {
	t.Parallel()
	var f faults
	f.set([]Fault{{Token: "AB", Share: 0.25}, {Token: "cd", Times: 2}})
	var hits []bool
	for range 8 {
		_, ok := f.of("ab01")
		hits = append(hits, ok)
	}
	if want := []bool{false, false, false, true, false, false, false, true}; !slices.Equal(hits, want) {
		t.Errorf("%v", hits)
	}
	_, first := f.of("cd")
	_, second := f.of("cd")
	_, third := f.of("cd")
	if !first || !second || third {
		t.Errorf("%v %v %v", first, second, third)
	}
}

// What is kept is bounded, and so is what is known of devices.
func TestStoreIsBounded(t *testing.T) {
	t.Parallel()
	var s store
	s.init(3)
	for i := range 100 {
		s.show(Notification{Token: string(rune('a' + i%26)), Topic: bundle, CollapseID: "c"})
	}
	if len(s.all("")) != 3 || len(s.devices) > 3 || len(s.collapse) > 3 {
		t.Errorf("%d, %d devices, %d ids", len(s.all("")), len(s.devices), len(s.collapse))
	}
}

// The page shows texts as texts, the badge of the latest that had one, and JSON beside it.
func TestPage(t *testing.T) {
	t.Parallel()
	s, client := start(t, Options{Admin: "127.0.0.1:0"})
	device := strings.Repeat("ab", 32)
	for _, payload := range []string{
		`{"aps":{"alert":{"title":"<i>Title</i>","body":"Body"},"badge":41}}`, `{"aps":{"alert":"just a text"}}`, `{"aps":{"content-available":1}}`, `{"aps":{"alert":[1],"badge":"x"},"ext":{}}`,
	} {
		if resp, body := ask(t, client, "POST", s.URL()+devicePath+device, payload, http.Header{"Apns-Topic": {bundle}}); resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	_, text := ask(t, client, "GET", s.AdminURL()+"/", "", nil)
	for _, want := range []string{"&lt;i&gt;Title", "Body", `<span class="badge">41</span>`, "just a text", "2 silent"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var all []Notification
	if _, text := ask(t, client, "GET", s.AdminURL()+"/notifications?token="+strings.ToUpper(device), "", nil); json.Unmarshal([]byte(text), &all) != nil || len(all) != 4 {
		t.Errorf("%s", text)
	}
	if _, text := ask(t, client, "GET", s.AdminURL()+"/ca.pem", "", nil); !strings.HasPrefix(text, "-----BEGIN CERTIFICATE") {
		t.Errorf("%s", text)
	}
}

func TestCAIsReadAgain(t *testing.T) {
	t.Parallel()
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, both := ca.PEM()
	again, err := ReadCA(both)
	if err != nil || !again.cert.Equal(ca.cert) || !bytes.HasPrefix(both, cert) {
		t.Errorf("%v", err)
	}
	for _, text := range [][]byte{nil, cert, both[:len(both)-40]} {
		if _, err := ReadCA(text); err == nil {
			t.Errorf("%d bytes were taken", len(text))
		}
	}
}

// Whatever a client sends gets a documented reason or is taken, and never more than is bounded.
func FuzzRequest(f *testing.F) {
	f.Add("POST", devicePath+strings.Repeat("ab", 32), "apns-topic", bundle, []byte(`{"aps":{}}`))
	f.Fuzz(func(t *testing.T, method, path, name, value string, body []byte) {
		r := decode([]hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":path", Value: path}, {Name: name, Value: value}})
		r.addBody(body)
		r.addBody(body)
		for _, reason := range []string{r.checkRoute(), r.checkHeaders(), r.checkBody()} {
			if _, ok := statuses[reason]; reason != "" && !ok {
				t.Errorf("%q", reason)
			}
		}
		if len(r.body) > bodyKept || len(r.id()) != 36 {
			t.Errorf("%d bytes, id %q", len(r.body), r.id())
		}
	})
}

func FuzzProviderToken(f *testing.F) {
	key, _, err := NewKey("K", "T")
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{options: Options{Keys: []Key{key}}}
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6IksifQ.eyJpc3MiOiJUIiwiaWF0IjoxNzAwMDAwMDAwfQ." + strings.Repeat("A", 86))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, ok := s.verify(token); ok {
			t.Errorf("%q was taken", token) // nobody has the key
		}
	})
}
