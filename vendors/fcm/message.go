package fcm

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/notice"
)

// messageMost is the limit of a message, in bytes. Google counts keys and values of the payload and does not say how: here all of
// the JSON counts but the token, which is never less.
const messageMost = 4096

// The request of projects.messages.send, as far as it is used.
type request struct {
	Message message `json:"message"`
}

type message struct {
	Token        string            `json:"token,omitempty"`
	Notification notification      `json:"notification"`
	Data         map[string]string `json:"data"`
	Android      android           `json:"android"`
}

type notification struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
	Image string `json:"image,omitempty"`
}

type android struct {
	Priority     string              `json:"priority"`
	TTL          string              `json:"ttl"`
	CollapseKey  string              `json:"collapse_key"`
	Notification androidNotification `json:"notification"`
}

type androidNotification struct {
	ChannelID string `json:"channel_id,omitempty"`
	Sound     string `json:"sound,omitempty"`
	Tag       string `json:"tag"`
}

// compose makes the body of a request, at most messageMost bytes beside the token. Otherwise it returns a reason of failures.
func compose(p *crier.DevicePush, now time.Time) (body []byte, reason string) {
	if CheckToken(p.Device.Token) != nil {
		return nil, reasonInvalidToken
	}
	n := notice.Of(p)
	if n.Text == "" {
		return nil, reasonNoText
	}
	priority := "high"
	if n.Google.Normal() {
		priority = "normal"
	}
	key := notice.Key(p.Task)
	m := message{
		Data: map[string]string{"task": string(p.Task)},
		Android: android{
			Priority: priority, TTL: strconv.Itoa(int(notice.TTL(p.Expires, now)/time.Second)) + "s", CollapseKey: key,
			Notification: androidNotification{ChannelID: n.Google.ChannelID, Sound: n.Sound, Tag: key},
		},
	}
	if n.Ext != "" {
		m.Data["ext"] = n.Ext
	}
	fits := n.Fit(messageMost, func() int {
		m.Notification = notification{Title: n.Title, Body: n.Text, Image: n.Google.Image}
		return len(encode(m))
	})
	if !fits {
		return nil, reasonTooLarge
	}
	m.Notification = notification{Title: n.Title, Body: n.Text, Image: n.Google.Image}
	m.Token = p.Device.Token
	return encode(request{m}), ""
}

// encode makes JSON in which <, > and & take one byte each.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // strings only
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
