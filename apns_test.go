package crier_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

func options(raw string) (crier.ApnsOptions, error) {
	o := crier.OfflinePush{Raw: json.RawMessage(raw)}
	return o.ApnsOptions()
}

func TestApnsOptionsAreRead(t *testing.T) {
	t.Parallel()
	a, err := options(`{"Title":"top","BadgeAddNum":3,"MultiLanguageContent":[{"Language":"zh","Title":"标题","Desc":"正文"}],
		"ApnsInfo":{"BadgeMode":1,"Title":"t","SubTitle":"s","Image":"https://x/i.png","MutableContent":1,"Sound":"a.caf","InterruptionLevel":"critical","ContentAvailable":1}}`)
	if err != nil {
		t.Fatal(err)
	}
	if a.Title != "t" || a.SubTitle != "s" || a.Image != "https://x/i.png" || a.Sound != "a.caf" || a.InterruptionLevel != "critical" ||
		!a.MutableContent || !a.ContentAvailable || *a.BadgeMode != 1 || a.BadgeAddNum != 3 || a.Languages[0] != (crier.LocalText{Language: "zh", Title: "标题", Desc: "正文"}) {
		t.Errorf("%+v", a)
	}
	if a, err := options(""); err != nil || a.Title != "" || a.Languages != nil {
		t.Errorf("nothing given: %+v, %v", a, err)
	}
}

// A field that breaks a rule is named, and the others still hold.
func TestBadApnsOptionsAreNamedAndSkipped(t *testing.T) {
	t.Parallel()
	for field, raw := range map[string]string{
		"InterruptionLevel": `{"ApnsInfo":{"Sound":"a","InterruptionLevel":"loud"}}`,
		"BadgeMode":         `{"ApnsInfo":{"Sound":"a","BadgeMode":2}}`,
		"BadgeAddNum":       `{"BadgeAddNum":100,"ApnsInfo":{"Sound":"a"}}`,
		"BadgeSetNum":       `{"BadgeSetNum":-1,"ApnsInfo":{"Sound":"a"}}`,
		"another type":      `{"BadgeSetNum":"7","ApnsInfo":{"Title":1,"Sound":"a"}}`,
		"ApnsInfo.Title":    `{"ApnsInfo":{"Title":1,"Sound":"a"}}`,
		"LanguageContent":   `{"MultiLanguageContent":[5,{"Desc":1}],"ApnsInfo":{"Sound":"a"}}`,
	} {
		a, err := options(raw)
		if !errors.Is(err, crier.CodeBadOfflinePush) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
		if a.Sound != "a" || a.InterruptionLevel != "" || a.BadgeMode != nil || a.BadgeAddNum != 0 || a.BadgeSetNum != nil {
			t.Errorf("%s: %+v", field, a)
		}
	}
}

// Names in another case are unknown fields, which are ignored.
func TestNamesMatchExactly(t *testing.T) {
	t.Parallel()
	a, err := options(`{"badgeaddnum":"x","BadgeAddNum":3,"BADGESETNUM":7,"multiLanguageContent":5,"MultiLanguageContent":[{"Language":"zh","Desc":"d","desc":"no"}],
		"ApnsInfo":{"BadgeMode":1,"badgemode":7,"Title":"t","title":"no"},"apnsInfo":{"Sound":"no"}}`)
	if err != nil || a.BadgeAddNum != 3 || a.BadgeSetNum != nil || *a.BadgeMode != 1 || a.Title != "t" || a.Sound != "" || a.Languages[0].Desc != "d" {
		t.Errorf("%+v, %v", a, err)
	}
	m := crier.Message{Elements: []crier.Element{
		{Type: crier.TextElement, Content: json.RawMessage(`{"Text":"x","text":"no","TEXT":5}`)},
		{Type: crier.CustomElement, Content: json.RawMessage(`{"Desc":"y","desc":"no","ext":"no","SOUND":"no"}`)},
	}}
	if n := m.Notification(crier.English); n != (crier.Notification{Text: "xy"}) {
		t.Errorf("%+v", n)
	}
}

func TestBadge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		raw    string
		counts bool
		set    int // -1: not set
		add    int
	}{
		"nothing, single": {"{}", true, -1, 1},
		"nothing, all":    {"{}", false, -1, 0},
		"mode 0":          {`{"ApnsInfo":{"BadgeMode":0}}`, false, -1, 1},
		"mode 1":          {`{"ApnsInfo":{"BadgeMode":1}}`, true, -1, 0},
		"add":             {`{"BadgeAddNum":5,"ApnsInfo":{"BadgeMode":1}}`, false, -1, 5},
		"set":             {`{"BadgeAddNum":5,"BadgeSetNum":0}`, false, 0, 0},
	} {
		a, err := options(c.raw)
		set, add := a.Badge(c.counts)
		if err != nil || add != c.add || (set == nil) != (c.set < 0) || set != nil && *set != c.set {
			t.Errorf("%s: %v, %d, %v", name, set, add, err)
		}
	}
}

func TestLocalTextOfALanguage(t *testing.T) {
	t.Parallel()
	a := crier.ApnsOptions{Languages: []crier.LocalText{{Language: "en"}, {Language: "zh-Hans"}, {Language: "pt_BR"}}}
	for language, want := range map[string]int{
		"en": 0, "EN-us": 0, "zh-Hans-CN": 1, "zh_hans": 1, "zh": -1, "pt-BR": 2, "pt": -1, "": -1, "-": -1, "--": -1,
	} {
		if got := a.Local(language); got != want {
			t.Errorf("%q: %d, want %d", language, got, want)
		}
	}
}
