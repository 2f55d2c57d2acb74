package apns

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/crier-im/crier"
)

func pushOf(text, offline, language string) *crier.DevicePush {
	content, _ := json.Marshal(map[string]string{"Text": text})
	m := &crier.Message{Elements: []crier.Element{{Type: crier.TextElement, Content: content}}}
	if offline != "" {
		m.Offline.Raw = json.RawMessage(offline)
		var o struct{ Title, Desc, Ext string }
		_ = json.Unmarshal(m.Offline.Raw, &o)
		m.Offline.Title, m.Offline.Desc, m.Offline.Ext = o.Title, o.Desc, o.Ext
	}
	return &crier.DevicePush{Task: "1_1_1_1", Message: m, Device: &crier.Device{Token: "ab", Language: language}}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	const local = `{"Title":"T","Desc":"D","MultiLanguageContent":[{"Language":"de","Title":"TT"},{"Language":"fr","Desc":"DD"}],"ApnsInfo":{"Title":"A"}}`
	zero, below := 0, -5
	for name, c := range map[string]struct {
		push *crier.DevicePush
		want string
	}{
		"plain":              {pushOf("hi", "", ""), `{"aps":{"alert":"hi"}}`},
		"no language":        {pushOf("hi", local, ""), `{"aps":{"alert":{"title":"A","body":"D"}}}`},
		"a title in German":  {pushOf("hi", local, "de-AT"), `{"aps":{"alert":{"title":"TT","body":"D"}}}`},
		"a text in French":   {pushOf("hi", local, "fr"), `{"aps":{"alert":{"title":"A","body":"DD"}}}`},
		"badge 0":            {&crier.DevicePush{Message: pushOf("hi", "", "").Message, Device: &crier.Device{}, Badge: &zero}, `{"aps":{"alert":"hi","badge":0}}`},
		"badge below 0":      {&crier.DevicePush{Message: pushOf("hi", "", "").Message, Device: &crier.Device{}, Badge: &below}, `{"aps":{"alert":"hi","badge":0}}`},
		"mutable by image":   {pushOf("hi", `{"ApnsInfo":{"Image":"u"}}`, ""), `{"aps":{"alert":{"body":"hi"},"mutable-content":1},"image":"u"}`},
		"mutable":            {pushOf("hi", `{"ApnsInfo":{"MutableContent":1}}`, ""), `{"aps":{"alert":{"body":"hi"},"mutable-content":1}}`},
		"a bad level":        {pushOf("hi", `{"ApnsInfo":{"InterruptionLevel":"x"}}`, ""), `{"aps":{"alert":{"body":"hi"}}}`},
		"a quote in the ext": {pushOf("hi", `{"Ext":"\"}"}`, ""), `{"aps":{"alert":{"body":"hi"}},"ext":"\"}"}`},
	} {
		text, _, reason := newComposer().compose(c.push)
		if string(text) != c.want || reason != "" {
			t.Errorf("%s: %s %s", name, text, reason)
		}
	}
}

// The devices of a campaign share what was composed, and more campaigns than are kept do no harm.
func TestComposeIsCached(t *testing.T) {
	// not parallel: it counts allocations
	c := newComposer()
	p := pushOf(strings.Repeat("x", 9000), "", "")
	first, _, _ := c.compose(p)
	allocs := testing.AllocsPerRun(100, func() { c.compose(p) })
	if allocs > 3 {
		t.Errorf("%v allocations a device", allocs)
	}
	for range campaignsKept + 1 {
		c.compose(pushOf("y", "", ""))
	}
	if again, _, _ := c.compose(p); string(again) != string(first) {
		t.Errorf("%s", again)
	}
}

func TestCutsAreBetweenCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"abc":      {"", "a", "ab"},
		"世界":       {"", "世"},
		"e\u0301x": {"", "e\u0301"},
		"👍🏽x":      {"", "👍🏽"},
		"👨‍👩‍👧x":   {"", "👨‍👩‍👧"},
		"🇩🇪🇫🇷x":    {"", "🇩🇪", "🇩🇪🇫🇷"},
		"❤️x":      {"", "❤️"},
		"":         nil,
	} {
		var got []string
		for _, at := range cutsOf(text, 4096) {
			got = append(got, text[:at])
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzCompose(f *testing.F) {
	f.Add("hello", `{"Title":"t"}`, "zh-Hans", 3)
	f.Add(strings.Repeat("👨‍👩‍👧", 400), `{"Ext":"`+strings.Repeat("<", 500)+`"}`, "", -1)
	f.Add(strings.Repeat("x", 4060), `{"MultiLanguageContent":[{"Language":"de","Desc":"\ud800"}]}`, "de", 1<<40)
	f.Add("", `{"Title":"`+strings.Repeat("t", 4030)+`","Desc":"abcdefghijkl"}`, "", 0)
	f.Add("\xff\x00\u2028", `{"ApnsInfo":{"ContentAvailable":1,"Sound":"s"}}`, "", 0)
	f.Fuzz(func(t *testing.T, text, offline, language string, badge int) {
		p := pushOf(text, offline, language)
		p.Message.Offline.Desc = text // not through JSON, which would mend invalid UTF-8
		p.Badge = &badge
		payload, background, reason := newComposer().compose(p)
		if reason != "" {
			if payload != nil || reasons[reason].Class != crier.OutcomeRejected {
				t.Errorf("%s with %q", reason, payload)
			}
			return
		}
		var read struct {
			Aps struct {
				Alert json.RawMessage
				Badge *int
			}
		}
		if err := json.Unmarshal(payload, &read); err != nil || len(payload) > payloadMost || !utf8.Valid(payload) {
			t.Fatalf("%d bytes, %v: %q", len(payload), err, payload)
		}
		if (read.Aps.Badge == nil) != background || (read.Aps.Alert == nil) != background {
			t.Errorf("%q", payload)
		}
		if again, err := json.Marshal(json.RawMessage(payload)); err != nil || len(again) != len(payload) {
			t.Errorf("apns2 would send %d bytes for %d: %v", len(again), len(payload), err)
		}
	})
}

// A GOAWAY frame is found however the bytes are cut.
func FuzzFrameReader(f *testing.F) {
	frames := []byte("\x00\x00\x04\x08\x00\x00\x00\x00\x00abcd" + "\x00\x00\x24\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x00" + `{"reason":"BadCertificate"} ` + "\x00\x00\x00\x06\x00\x00\x00\x00\x00")
	f.Add(frames, 1)
	f.Add(frames, 10)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		var whole, pieces []string
		var one, many frameReader
		one.feed(b, func(g []byte) { whole = append(whole, goAwayReason(g)) })
		for rest := b; len(rest) > 0; {
			n := max(1, min(step, len(rest)))
			many.feed(rest[:n], func(g []byte) { pieces = append(pieces, goAwayReason(g)) })
			rest = rest[n:]
		}
		if strings.Join(whole, "|") != strings.Join(pieces, "|") {
			t.Errorf("%q and %q", whole, pieces)
		}
		if string(b) == string(frames) && strings.Join(whole, "") != "BadCertificate" {
			t.Errorf("%q", whole)
		}
	})
}
