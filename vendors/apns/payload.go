package apns

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/crier-im/crier"
)

const (
	// payloadMost is Apple's limit of a payload, in bytes.
	payloadMost = 4096
	// badgeRoom is kept for the badge, which differs between the devices of a campaign
	// while the rest is composed once.
	badgeRoom = len(badgeKey) + len("2147483647")
	badgeKey  = `,"badge":`
	// campaignsKept is how many messages are kept composed. A sender works on a few campaigns at a time.
	campaignsKept = 64
)

// The JSON of a notification, as Apple's "Generating a remote notification" names its keys.
type (
	payload struct {
		Ext   string `json:"ext,omitempty"`   // OfflinePushInfo.Ext, for the app
		Image string `json:"image,omitempty"` // URL, for the app's service extension
	}
	aps struct {
		Alert             any    `json:"alert,omitempty"` // alert, or a string
		Sound             string `json:"sound,omitempty"`
		MutableContent    int    `json:"mutable-content,omitempty"`
		ContentAvailable  int    `json:"content-available,omitempty"`
		InterruptionLevel string `json:"interruption-level,omitempty"`
	}
	alert struct {
		Title    string `json:"title,omitempty"`
		Subtitle string `json:"subtitle,omitempty"`
		Body     string `json:"body,omitempty"`
	}
)

// composer makes payloads. A campaign's message is one *crier.Message for every device, so what depends
// on it alone is composed once for each language. Safe for concurrent use.
type composer struct {
	campaigns *lru.Cache[*crier.Message, *campaign] // holds the message, so that its address is not used again
}

func newComposer() *composer {
	c, err := lru.New[*crier.Message, *campaign](campaignsKept)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &composer{campaigns: c}
}

// campaign is a message and its payloads. There are at most two for each entry of MultiLanguageContent.
type campaign struct {
	message *crier.Message
	options crier.ApnsOptions

	mu       sync.Mutex
	composed map[variant]composed
}

type variant struct {
	words crier.Language
	local int // of options.Languages; -1: none
}

// composed is a payload up to and from the place of the badge. Without reason, it can be sent.
type composed struct {
	head, tail []byte
	background bool
	reason     string
}

// compose returns the payload of a push, or the reason why there is none:
// PayloadEmpty or PayloadTooLarge. Not to be changed by the caller.
func (c *composer) compose(p *crier.DevicePush) (text []byte, background bool, reason string) {
	m, ok := c.campaigns.Get(p.Message)
	if !ok {
		m = newCampaign(p.Message)
		c.campaigns.Add(p.Message, m)
	}
	v := m.variant(p)
	if v.reason != "" {
		return nil, false, v.reason
	}
	text = make([]byte, 0, len(v.head)+badgeRoom+len(v.tail))
	text = append(text, v.head...)
	if p.Badge != nil && !v.background { // a background push that changes the badge is not one
		text = strconv.AppendInt(append(text, badgeKey...), int64(max(0, min(*p.Badge, 1<<31-1))), 10)
	}
	return append(text, v.tail...), v.background, ""
}

func newCampaign(m *crier.Message) *campaign {
	options, _ := m.Offline.ApnsOptions() // a field that breaks a rule is left out
	return &campaign{message: m, options: options, composed: make(map[variant]composed)}
}

func (m *campaign) variant(p *crier.DevicePush) composed {
	v := variant{words: crier.English, local: m.options.Local(p.Device.Language)}
	if p.Language == crier.Chinese {
		v.words = crier.Chinese
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.composed[v]
	if !ok {
		c = m.compose(v)
		m.composed[v] = c
	}
	return c
}

func (m *campaign) compose(v variant) composed {
	n := m.message.Notification(v.words)
	o := &m.options
	if o.Title != "" {
		n.Title = o.Title
	}
	if v.local >= 0 { // what is said in the device's own language wins over ApnsInfo.Title
		local := o.Languages[v.local]
		n.Title, n.Text = first(local.Title, n.Title), first(local.Desc, n.Text)
	}
	rest := payload{Ext: n.Ext, Image: o.Image}
	if o.ContentAvailable {
		return seal(aps{ContentAvailable: 1}, rest, true)
	}
	if n.Text == "" {
		return composed{reason: "PayloadEmpty"}
	}
	a := aps{Sound: first(o.Sound, n.Sound), InterruptionLevel: o.InterruptionLevel}
	if o.MutableContent || o.Image != "" {
		a.MutableContent = 1
	}
	plain := m.message.Offline.Raw == nil && n.Title == ""
	return fit(n.Text, func(body string) composed {
		a.Alert = alert{Title: n.Title, Subtitle: o.SubTitle, Body: body}
		if plain {
			a.Alert = body // as it was before OfflinePushInfo had a title
		}
		return seal(a, rest, false)
	})
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// seal marshals a payload, or says that it is too large.
//
// encoding/json writes <, > and & as six bytes each, which is left on: apns2 marshals the payload once
// more, that would make it longer, and so the length here is the one that is sent.
func seal(a aps, rest payload, background bool) composed {
	inner := marshal(a)
	outer := marshal(rest)
	c := composed{head: append([]byte(`{"aps":`), inner[:len(inner)-1]...), tail: []byte("}}"), background: background}
	if len(outer) > len("{}") {
		c.tail = append([]byte("},"), outer[1:]...)
	}
	if len(c.head)+badgeRoom+len(c.tail) > payloadMost {
		return composed{reason: "PayloadTooLarge"}
	}
	return c
}

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return text
}

// fit composes with the longest beginning of text that fits.
func fit(text string, compose func(body string) composed) composed {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if c := compose(text); c.reason == "" {
		return c
	}
	var kept composed
	kept.reason = "PayloadTooLarge"
	cuts := cutsOf(text, payloadMost)
	for low, high := 0, len(cuts)-1; low <= high; {
		middle := (low + high) / 2
		if c := compose(text[:cuts[middle]] + cutMark); c.reason == "" {
			kept, low = c, middle+1
		} else {
			high = middle - 1
		}
	}
	if kept.reason != "" {
		return compose("")
	}
	return kept
}
