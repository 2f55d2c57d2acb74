package notice

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crier-im/crier"
)

func push(language, raw string) *crier.DevicePush {
	m := &crier.Message{
		Elements: []crier.Element{{Type: crier.TextElement, Content: json.RawMessage(`{"Text":"text"}`)}},
		Offline:  crier.OfflinePush{Title: "title", Ext: "ext"},
	}
	if raw != "" {
		m.Offline.Raw = json.RawMessage(raw)
	}
	return &crier.DevicePush{Task: "1_2_3_4", Message: m, Device: &crier.Device{Language: language}}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	const raw = `{"MultiLanguageContent":[{"Language":"en","Title":"T-en","Desc":"D-en"},{"Language":"zh-Hans","Desc":"D-zh"},{"Language":"pt_BR","Title":"T-pt"}]}`
	for language, want := range map[string][2]string{
		"":           {"title", "text"},
		"de":         {"title", "text"},
		"EN":         {"T-en", "D-en"},
		"en-GB":      {"T-en", "D-en"},
		"zh-Hans-CN": {"title", "D-zh"},
		"zh":         {"title", "text"},
		"pt-br":      {"T-pt", "text"},
		"-":          {"title", "text"},
	} {
		if n := Of(push(language, raw)); n.Title != want[0] || n.Text != want[1] {
			t.Errorf("%q: %q, %q", language, n.Title, n.Text)
		}
	}
}

func TestVendorFields(t *testing.T) {
	t.Parallel()
	n := Of(push("", `{"AndroidInfo":{"GoogleImage":"i","GooglePriority":"Normal","GoogleChannelID":"c","Sound":"s","PushStyle":1},"MultiLanguageContent":"no array"}`))
	if n.Google != (Google{"i", "Normal", "c", "s"}) || !n.Google.Normal() || n.Sound != "s" || n.Text != "text" {
		t.Errorf("%+v", n)
	}
	n = Of(push("en", `{"AndroidInfo":{"Sound":"s","sound":"no","googleimage":"no"},"androidinfo":5,"MultiLanguageContent":[null,{"Language":"en","Desc":"d","desc":"no"}],"multilanguagecontent":5}`))
	if n.Google != (Google{Sound: "s"}) || n.Text != "d" { // names in another case are unknown
		t.Errorf("%+v", n)
	}
	if n := Of(push("en", `[]`)); n.Title != "title" || n.Google != (Google{}) {
		t.Errorf("%+v", n)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	a, b := Key("1_2_3_4"), Key("1_2_3_5")
	if a == b || a != Key("1_2_3_4") || len(a) != 32 {
		t.Errorf("%q, %q", a, b)
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for expires, want := range map[time.Time]time.Duration{
		{}:                               0,
		now:                              0,
		now.Add(-time.Hour):              0,
		now.Add(1500 * time.Millisecond): time.Second,
		now.Add(365 * 24 * time.Hour):    MostTTL,
	} {
		if got := TTL(expires, now); got != want {
			t.Errorf("%v: %v", expires, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"later":                         0,
		"86400":                         time.Hour,
		"99999999999999999999":          0,
		"Tue, 24 Nov 2026 01:02:33 GMT": 30 * time.Second,
		"Tue, 24 Nov 2026 01:02:00 GMT": 0,
		"Tue, 24 Nov 2037 01:02:00 GMT": time.Hour,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"hello", 5, "hello"},
		{"hello!", 5, "he..."},
		{"hello!", 3, "..."},
		{"hello!", 2, ""},
		{"hello!", 0, ""},
		{"你好世界", 9, "你好..."},
		{"你好世界", 8, "你..."},
		{"e\u0301e\u0301e\u0301e\u0301", 7, "e\u0301..."}, // not between e and its accent
		{"a👍🏽bcdef", 8, "a..."},                           // nor a thumb and its tone
		{"a👩\u200d💻bcdefghij", 11, "a..."},                // nor around a joiner
		{"a" + strings.Repeat("\u0301", 40), 53, "a" + strings.Repeat("\u0301", 24) + "..."}, // marks without end
	} {
		if got := Cut(c.text, c.limit); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

// The text gives way first, then the title; the rest can't.
func TestFit(t *testing.T) {
	t.Parallel()
	fixed := 0
	for _, c := range []struct {
		title, text string
		fixed       int
		wantTitle   string
		wantText    string
		fits        bool
	}{
		{"title", "text", 0, "title", "text", true},
		{"title", "a text that is long", 5, "title", "a text ...", true},
		{"a title that is long", "text", 5, "a title that...", "", true},
		{"title", "text", 20, "", "", true},
		{"title", "text", 21, "", "", false},
		{"title", "\xff\xff!", 12, "title", "...", true},
	} {
		n := Notice{Notification: crier.Notification{Title: c.title, Text: c.text}}
		fixed = c.fixed
		fits := n.Fit(20, func() int { return fixed + len(n.Title) + len(n.Text) })
		if fits != c.fits || n.Title != c.wantTitle || n.Text != c.wantText {
			t.Errorf("%+v: %v, %q, %q", c, fits, n.Title, n.Text)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("你好, world", 9)
	f.Add("a👩\u200d💻", 8)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		got := Cut(text, limit)
		if len(got) > max(limit, 0) || utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
		if got != text && got != "" && (!strings.HasSuffix(got, dots) || !strings.HasPrefix(text, strings.TrimSuffix(got, dots))) {
			t.Errorf("%q", got)
		}
	})
}
