package webpush

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/notice"
)

const (
	// point is the public key of the example of RFC 8291, 5, and auth its secret.
	point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	auth  = "BTBZMqHH6r4Tts7J_aSIgg"
)

func subscription(endpoint, p256dh, auth string) string {
	text, _ := json.Marshal(map[string]any{"endpoint": endpoint, "expirationTime": nil, "keys": map[string]string{"p256dh": p256dh, "auth": auth}})
	return string(text)
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	const good = "https://updates.push.services.mozilla.com/wpush/v2/gAAAA"
	any := Options{AllowHTTP: true, AllowPrivate: true}
	for name, c := range map[string]struct {
		token    string
		ok, test bool // test: with everything allowed
	}{
		"good":           {subscription(good, point, auth), true, true},
		"padded":         {subscription(good, point+"=", auth+"=="), true, true},
		"base64":         {subscription(good, strings.NewReplacer("-", "+", "_", "/").Replace(point), auth), true, true},
		"a port":         {subscription("https://web.push.apple.com:8443/x", point, auth), true, true},
		"empty":          {"", false, false},
		"no JSON":        {"x", false, false},
		"null":           {"null", false, false},
		"no endpoint":    {subscription("", point, auth), false, false},
		"http":           {subscription("http://example.com/x", point, auth), false, true},
		"ftp":            {subscription("ftp://example.com/x", point, auth), false, false},
		"no host":        {subscription("https:///x", point, auth), false, false},
		"opaque":         {subscription("https:example.com", point, auth), false, false},
		"user":           {subscription("https://a:b@example.com/x", point, auth), false, false},
		"fragment":       {subscription("https://example.com/x#y", point, auth), false, false},
		"loopback":       {subscription("https://127.0.0.1/x", point, auth), false, true},
		"loopback 6":     {subscription("https://[::1]/x", point, auth), false, true},
		"mapped":         {subscription("https://[::ffff:10.0.0.1]/x", point, auth), false, true},
		"localhost":      {subscription("https://LOCALHOST./x", point, auth), false, true},
		"a single label": {subscription("https://intranet/x", point, auth), false, true},
		"local":          {subscription("https://printer.local/x", point, auth), false, true},
		"long endpoint":  {subscription(good+strings.Repeat("x", endpointMost), point, auth), false, false},
		"long":           {subscription(good, point, auth) + strings.Repeat(" ", tokenMost), false, false},
		"no key":         {subscription(good, "", auth), false, false},
		"short key":      {subscription(good, point[:80], auth), false, false},
		"off the curve":  {subscription(good, "BA"+point[2:], auth), false, false},
		"no base64":      {subscription(good, "!"+point[1:], auth), false, false},
		"no auth":        {subscription(good, point, ""), false, false},
		"long auth":      {subscription(good, point, auth+"AAAA"), false, false},
	} {
		err, test := CheckToken(c.token), any.CheckToken(c.token)
		if (err == nil) != c.ok || (test == nil) != c.test {
			t.Errorf("%s: %v, %v", name, err, test)
		}
		if err != nil && (!errors.Is(err, crier.CodeBadParameter) || strings.Contains(err.Error(), "gAAAA")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIsPublic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2a00:1450:4001::200e": true, "64:ff9b::8.8.8.8": true, "172.32.0.1": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.1.2.3": false, "127.0.0.1": false, "169.254.169.254": false, "172.16.0.1": false,
		"192.168.0.1": false, "100.64.0.1": false, "198.18.0.1": false, "192.0.2.1": false, "203.0.113.1": false, "224.0.0.1": false,
		"240.0.0.1": false, "255.255.255.255": false, "::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:8.8.8.8": true, "::7f00:1": false,
		"fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "fec0::1": false, "ff02::1": false, "2001::1": false,
		"2001:db8::1": false, "2002:7f00:1::": false, "64:ff9b::10.0.0.1": false, "64:ff9b:1::8.8.8.8": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := startSim(t).Credential()
	summary, err := Check(good)
	if err != nil || summary.PublicKey != good.Params["public_key"] || summary.Subject != good.Params["subject"] {
		t.Fatalf("%+v, %v", summary, err)
	}
	param := func(name, value string) func(*crier.Credential) {
		return func(c *crier.Credential) { c.Params[name] = value }
	}
	for name, c := range map[string]struct {
		change func(*crier.Credential)
		want   string
	}{
		"vendor":      {func(c *crier.Credential) { c.Vendor = crier.FCM }, "vendor must"},
		"form":        {func(c *crier.Credential) { c.Form = "pem" }, "form must"},
		"target":      {func(c *crier.Credential) { c.Target = "x" }, "target must"},
		"sandbox":     {func(c *crier.Credential) { c.Sandbox = true }, "sandbox must"},
		"params":      {param("key_id", "x"), "params must"},
		"no public":   {param("public_key", ""), "params.public_key must be a point"},
		"bad public":  {param("public_key", "SECRET"), "params.public_key must be a point"},
		"other":       {param("public_key", point), "params.public_key must belong"},
		"no subject":  {param("subject", ""), "params.subject must"},
		"bare":        {param("subject", "a@example.com"), "params.subject must"},
		"with a name": {param("subject", "mailto:A <a@example.com>"), "params.subject must"},
		"http":        {param("subject", "http://example.com"), "params.subject must"},
		"no secret":   {func(c *crier.Credential) { c.Secret = nil }, "secret must"},
		"bad secret":  {func(c *crier.Credential) { c.Secret = []byte("SECRET!") }, "secret must"},
		"short":       {func(c *crier.Credential) { c.Secret = c.Secret[:40] }, "secret must"},
		"zero":        {func(c *crier.Credential) { c.Secret = []byte(encode(make([]byte, 32))) }, "secret must"},
	} {
		changed := startSim(t).Credential()
		changed.Params["public_key"], changed.Secret = good.Params["public_key"], slices.Clone(good.Secret)
		c.change(&changed)
		_, err := Check(changed)
		if !errors.Is(err, crier.CodeBadParameter) || !strings.HasPrefix(crier.AsError(err).Info, c.want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := New(changed, Options{}); err == nil {
			t.Errorf("%s: a sender was made", name)
		}
	}
}

func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	for status, reason := range byStatus {
		if !failures.Has(reason) {
			t.Errorf("%d: %s is not in the table", status, reason)
		}
	}
	seen := []string{}
	for _, f := range failures {
		if slices.Contains(seen, f.Reason) || !strings.HasSuffix(f.Info, ".") || strings.ContainsAny(f.Info, "|\n") {
			t.Errorf("%+v", f)
		}
		seen = append(seen, f.Reason)
	}
}

// The table of the document is that of the code.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/vendors-webpush.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), failures.Markdown()) {
		t.Errorf("docs/vendors-webpush.md must have\n%s", failures.Markdown())
	}
}

// A subscription that was taken leads outside and has keys that can be encrypted for.
func FuzzCheckToken(f *testing.F) {
	f.Add(subscription("https://example.com/x", point, auth))
	f.Add(subscription("https://[::ffff:127.0.0.1]:443/", point, auth))
	f.Add(`{"endpoint":"https://0x7f.1/","keys":{"p256dh":"","auth":""}}`)
	f.Fuzz(func(t *testing.T, token string) {
		sub, err := Options{}.parse(token)
		if err != nil {
			if !errors.Is(err, crier.CodeBadParameter) {
				t.Error(err)
			}
			return
		}
		if !strings.HasPrefix(sub.Endpoint, "https://") || len(sub.Keys.P256dh) != 87 || len(sub.Keys.Auth) != 22 {
			t.Errorf("%+v", sub)
		}
		if again, err := (Options{}).parse(subscription(sub.Endpoint, sub.Keys.P256dh, sub.Keys.Auth)); err != nil || *again != *sub {
			t.Errorf("%v: %+v, then %+v", err, sub, again)
		}
	})
}

// What compose makes is JSON and UTF-8 and within the limit, whatever a sender writes.
func FuzzCompose(f *testing.F) {
	f.Add("title", "text", "ext", "{}", "en", "1_2_3_4")
	f.Add("题", strings.Repeat("长\x00<", 2000), "", `{"MultiLanguageContent":[{"Language":"en","Desc":"\ud800"}]}`, "en-US", "")
	f.Add(strings.Repeat("t\u2028", 2000), strings.Repeat("👩\u200d💻", 500), "\xff", "[]", "", "\xff")
	f.Fuzz(func(t *testing.T, title, desc, ext, raw, language, task string) {
		p := push("")
		p.Task, p.Device.Language = crier.TaskID(task), language
		p.Message = &crier.Message{Offline: crier.OfflinePush{Title: title, Desc: desc, Ext: ext, Raw: json.RawMessage(raw)}}
		n := notice.Of(p)
		body, reason := compose(p, &n)
		if reason != "" {
			if !failures.Has(reason) {
				t.Errorf("reason %q", reason)
			}
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) || len(body) > payloadMost {
			t.Errorf("%d bytes: %q", len(body), body)
		}
		if size := recordSize(len(body)); int(size) < len(body)+overhead || size > 4096 {
			t.Errorf("a record of %d bytes for %d", size, len(body))
		}
	})
}
