package crier

import "strings"

// ApnsOptions is what OfflinePushInfo says for Apple devices: its ApnsInfo, and
// the fields beside it that matter there. The zero value says nothing.
type ApnsOptions struct {
	Title             string // overrides OfflinePushInfo.Title
	SubTitle          string
	Image             string // URL of a picture for the app's service extension
	Sound             string // file name with suffix
	InterruptionLevel string // "passive", "active", "time-sensitive", "critical"; "" is left to the device
	MutableContent    bool
	ContentAvailable  bool // wakes the app and shows nothing
	BadgeMode         *int // 0: the message counts, 1: it does not; nil: the API decides
	BadgeAddNum       int  // what the message adds to the badge, 1..99; 0: as BadgeMode says
	BadgeSetNum       *int // what the badge becomes, 0..999; wins over the others
	Languages         []LocalText
}

// LocalText is an entry of OfflinePushInfo.MultiLanguageContent.
type LocalText struct {
	Language string // BCP 47
	Title    string // "": the one of OfflinePushInfo
	Desc     string // "": the one of OfflinePushInfo, or the elements' text
}

// ApnsOptions reads what the whole object says for Apple devices. The error
// carries CodeBadOfflinePush and names the field; the options are usable all the same: a
// field that breaks a rule is as if it were absent.
func (o *OfflinePush) ApnsOptions() (ApnsOptions, error) {
	whole := readObject("OfflinePushInfo", o.Raw)
	info := whole.object("ApnsInfo")
	a := ApnsOptions{
		Title: info.text("Title"), SubTitle: info.text("SubTitle"), Image: info.text("Image"), Sound: info.text("Sound"),
		InterruptionLevel: info.text("InterruptionLevel"), BadgeMode: info.integer("BadgeMode"), BadgeSetNum: whole.integer("BadgeSetNum"),
	}
	isOne := func(n *int) bool { return n != nil && *n == 1 }
	a.MutableContent, a.ContentAvailable = isOne(info.integer("MutableContent")), isOne(info.integer("ContentAvailable"))
	if n := whole.integer("BadgeAddNum"); n != nil {
		a.BadgeAddNum = *n
	}
	for _, l := range whole.list("MultiLanguageContent") {
		a.Languages = append(a.Languages, LocalText{Language: l.text("Language"), Title: l.text("Title"), Desc: l.text("Desc")})
	}
	bad := *whole.bad
	if err := a.drop(); err != nil && bad == nil {
		bad = err
	}
	return a, bad
}

// drop clears the fields that break a rule of theirs and returns an error for the last of them.
func (a *ApnsOptions) drop() (bad error) {
	switch a.InterruptionLevel {
	case "", "passive", "active", "time-sensitive", "critical":
	default:
		bad = Errorf(CodeBadOfflinePush, "OfflinePushInfo.ApnsInfo.InterruptionLevel %s is not passive, active, time-sensitive or critical", Quote(a.InterruptionLevel))
		a.InterruptionLevel = ""
	}
	if a.BadgeMode != nil && *a.BadgeMode != 0 && *a.BadgeMode != 1 {
		bad = Errorf(CodeBadOfflinePush, "OfflinePushInfo.ApnsInfo.BadgeMode is not 0 or 1")
		a.BadgeMode = nil
	}
	if a.BadgeAddNum < 0 || a.BadgeAddNum > 99 {
		bad = Errorf(CodeBadOfflinePush, "OfflinePushInfo.BadgeAddNum is not in 1..99")
		a.BadgeAddNum = 0
	}
	if a.BadgeSetNum != nil && (*a.BadgeSetNum < 0 || *a.BadgeSetNum > 999) {
		bad = Errorf(CodeBadOfflinePush, "OfflinePushInfo.BadgeSetNum is not in 0..999")
		a.BadgeSetNum = nil
	}
	return bad
}

// Badge says what the message does to the number on the app's icon: set it, or
// else add to it, 0 for leaving it as it is. counts is what a message without
// a BadgeMode does: single pushes count, pushes to all do not.
func (a *ApnsOptions) Badge(counts bool) (set *int, add int) {
	if a.BadgeMode != nil {
		counts = *a.BadgeMode == 0
	}
	switch {
	case a.BadgeSetNum != nil:
		return a.BadgeSetNum, 0
	case a.BadgeAddNum > 0:
		return nil, a.BadgeAddNum
	case counts:
		return nil, 1
	}
	return nil, 0
}

// Local returns the place in Languages of the text for a device's language, -1
// for none: the same language, else the same with fewer subtags (RFC 4647, lookup).
func (a *ApnsOptions) Local(language string) int {
	want := strings.ReplaceAll(language, "_", "-")
	for want != "" {
		for i, l := range a.Languages {
			if strings.EqualFold(strings.ReplaceAll(l.Language, "_", "-"), want) {
				return i
			}
		}
		want = want[:max(strings.LastIndexByte(want, '-'), 0)]
	}
	return -1
}
