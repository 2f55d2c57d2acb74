// Package wire converts the vocabulary to and from its protobuf form, for the
// replicated log and for what travels between nodes.
package wire

import (
	"time"

	"github.com/crier-im/crier"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// FromAccount returns the protobuf form, without the app.
func FromAccount(a *crier.Account) *typesv1.Account {
	p := &typesv1.Account{
		Ordinal: a.Ordinal, Nick: a.Profile.Nick, FaceUrl: a.Profile.FaceURL,
		Attrs: fromAttrs(&a.Attrs), Tags: a.Tags, User: string(a.User), CreatedMs: fromTime(a.Created), ChangedMs: fromTime(a.Changed),
	}
	for i := range a.Devices {
		p.Devices = append(p.Devices, FromDevice(&a.Devices[i]))
	}
	if !a.NotBefore.IsZero() {
		p.NotBeforeS = a.NotBefore.Unix()
	}
	return p
}

// ToAccount returns the account of an app.
func ToAccount(app crier.AppID, p *typesv1.Account) *crier.Account {
	a := &crier.Account{
		App: app, User: crier.UserID(p.GetUser()), Ordinal: p.GetOrdinal(),
		Profile: crier.Profile{Nick: p.GetNick(), FaceURL: p.GetFaceUrl()},
		Attrs:   toAttrs(p.GetAttrs()), Tags: p.GetTags(), Created: toTime(p.GetCreatedMs()), Changed: toTime(p.GetChangedMs()),
	}
	for _, d := range p.GetDevices() {
		a.Devices = append(a.Devices, *ToDevice(d))
	}
	if s := p.GetNotBeforeS(); s != 0 {
		a.NotBefore = time.Unix(s, 0).UTC()
	}
	return a
}

// FromDevice returns the protobuf form; nil for nil.
func FromDevice(d *crier.Device) *typesv1.Device {
	if d == nil {
		return nil
	}
	return &typesv1.Device{
		Vendor: string(d.Vendor), Token: d.Token, Target: d.Target, Sandbox: d.Sandbox, Platform: string(d.Platform),
		Language: d.Language, BadgeBase: uint32(d.BadgeBase), RegisteredMs: fromTime(d.Registered),
		SeenMs: fromTime(d.LastSeen),
	}
}

// ToDevice returns the device; nil for nil.
func ToDevice(p *typesv1.Device) *crier.Device {
	if p == nil {
		return nil
	}
	return &crier.Device{
		Vendor: crier.Vendor(p.GetVendor()), Token: p.GetToken(), Target: p.GetTarget(), Sandbox: p.GetSandbox(),
		Platform: crier.Platform(p.GetPlatform()), Language: p.GetLanguage(), BadgeBase: int(p.GetBadgeBase()), Registered: toTime(p.GetRegisteredMs()),
		LastSeen: toTime(p.GetSeenMs()),
	}
}

// FromCommandID returns the protobuf form; nil for the id that names nothing.
func FromCommandID(id crier.CommandID) *typesv1.CommandID {
	if id == (crier.CommandID{}) {
		return nil
	}
	return &typesv1.CommandID{Origin: id.Origin, Number: id.Number, Oldest: id.Oldest}
}

// ToCommandID returns the id.
func ToCommandID(p *typesv1.CommandID) crier.CommandID {
	return crier.CommandID{Origin: p.GetOrigin(), Number: p.GetNumber(), Oldest: p.GetOldest()}
}

// FromChange returns the protobuf form.
func FromChange(c *crier.Change) *typesv1.Change {
	return &typesv1.Change{
		Op: uint32(c.Op), User: string(c.User), Nick: c.Profile.Nick, FaceUrl: c.Profile.FaceURL,
		Attrs: fromAttrs(&c.Attrs), Tags: c.Tags, MaxTags: uint32(c.MaxTags),
		Device: FromDevice(c.Device), MaxDevices: uint32(c.MaxDevices), SigTimeMs: fromTime(c.SigTime),
	}
}

// ToChange returns the change.
func ToChange(p *typesv1.Change) crier.Change {
	return crier.Change{
		Op: crier.ChangeOp(p.GetOp()), User: crier.UserID(p.GetUser()),
		Profile: crier.Profile{Nick: p.GetNick(), FaceURL: p.GetFaceUrl()},
		Attrs:   toAttrs(p.GetAttrs()), Tags: p.GetTags(), MaxTags: int(p.GetMaxTags()),
		Device: ToDevice(p.GetDevice()), MaxDevices: int(p.GetMaxDevices()), SigTime: toTime(p.GetSigTimeMs()),
	}
}

// FromCondition returns the protobuf form.
func FromCondition(c *crier.Condition) *typesv1.Condition {
	return &typesv1.Condition{
		TagsOr: c.TagsOr, TagsAnd: c.TagsAnd, TagsNot: c.TagsNot,
		AttrsOr: fromTerms(c.AttrsOr), AttrsAnd: fromTerms(c.AttrsAnd),
	}
}

// ToCondition returns the condition. Slots are read modulo their number, so
// that no bytes cause a panic.
func ToCondition(p *typesv1.Condition) crier.Condition {
	return crier.Condition{
		TagsOr: p.GetTagsOr(), TagsAnd: p.GetTagsAnd(), TagsNot: p.GetTagsNot(),
		AttrsOr: toTerms(p.GetAttrsOr()), AttrsAnd: toTerms(p.GetAttrsAnd()),
	}
}

// FromMessage returns the protobuf form.
func FromMessage(m *crier.Message) *typesv1.Message {
	p := &typesv1.Message{
		From: string(m.From), NoVendor: m.Offline.NoVendor, Title: m.Offline.Title,
		Desc: m.Offline.Desc, Ext: m.Offline.Ext, OfflineRaw: m.Offline.Raw,
	}
	p.Elements = fromElements(m.Elements)
	return p
}

// ToMessage returns the message.
func ToMessage(p *typesv1.Message) crier.Message {
	m := crier.Message{
		From: crier.UserID(p.GetFrom()),
		Offline: crier.OfflinePush{
			NoVendor: p.GetNoVendor(), Title: p.GetTitle(), Desc: p.GetDesc(), Ext: p.GetExt(), Raw: p.GetOfflineRaw(),
		},
	}
	m.Elements = toElements(p.GetElements())
	return m
}

// FromCampaign returns the protobuf form.
func FromCampaign(c *crier.Campaign) *typesv1.Campaign {
	return &typesv1.Campaign{
		App: uint32(c.App), Task: string(c.Task), Seq: c.Seq, Random: c.Random,
		Message: FromMessage(&c.Message), Condition: FromCondition(&c.Condition),
		LifeTimeS: uint32(c.LifeTime / time.Second), AcceptedMs: fromTime(c.Accepted),
	}
}

// ToCampaign returns the campaign.
func ToCampaign(p *typesv1.Campaign) *crier.Campaign {
	return &crier.Campaign{
		App: crier.AppID(p.GetApp()), Task: crier.TaskID(p.GetTask()), Seq: p.GetSeq(), Random: p.GetRandom(),
		Message: ToMessage(p.GetMessage()), Condition: ToCondition(p.GetCondition()),
		LifeTime: time.Duration(p.GetLifeTimeS()) * time.Second, Accepted: toTime(p.GetAcceptedMs()),
	}
}

// FromReport returns the protobuf form.
func FromReport(r *crier.Report) *typesv1.Report {
	return &typesv1.Report{
		Task: string(r.Task), Status: uint32(r.Status), StartedMs: fromTime(r.Started),
		Finished: r.Finished, Total: r.Total,
	}
}

// ToReport returns the report.
func ToReport(p *typesv1.Report) crier.Report {
	return crier.Report{
		Task: crier.TaskID(p.GetTask()), Status: crier.Status(p.GetStatus()), Started: toTime(p.GetStartedMs()),
		Finished: p.GetFinished(), Total: p.GetTotal(),
	}
}

func fromElements(elements []crier.Element) []*typesv1.Element {
	var p []*typesv1.Element
	for _, e := range elements {
		p = append(p, &typesv1.Element{Type: string(e.Type), Content: e.Content})
	}
	return p
}

func toElements(p []*typesv1.Element) []crier.Element {
	var elements []crier.Element
	for _, e := range p {
		elements = append(elements, crier.Element{Type: crier.ElementType(e.GetType()), Content: e.GetContent()})
	}
	return elements
}

// fromTime returns Unix milliseconds, 0 for the zero time.
func fromTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func toTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func fromAttrs(a *crier.Attrs) []string {
	n := len(a)
	for n > 0 && a[n-1] == "" {
		n--
	}
	return append([]string(nil), a[:n]...)
}

func toAttrs(p []string) (a crier.Attrs) {
	copy(a[:], p)
	return a
}

func fromTerms(terms []crier.AttrTerm) []*typesv1.AttrTerm {
	var p []*typesv1.AttrTerm
	for _, t := range terms {
		p = append(p, &typesv1.AttrTerm{Slot: uint32(t.Slot), Value: t.Value})
	}
	return p
}

func toTerms(p []*typesv1.AttrTerm) []crier.AttrTerm {
	var terms []crier.AttrTerm
	for _, t := range p {
		terms = append(terms, crier.AttrTerm{Slot: int(t.GetSlot() % crier.MaxAttrs), Value: t.GetValue()})
	}
	return terms
}
