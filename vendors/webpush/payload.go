package webpush

import (
	"bytes"
	"encoding/json"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/notice"
)

const (
	// payloadMost is what fits in the 4096 bytes that every push service takes, beside the header of aes128gcm, the
	// delimiter and the tag (RFC 8291, 4).
	payloadMost = 3993
	// overhead is those, in bytes.
	overhead = 4096 - payloadMost
	// paddingStep is to what records are padded: the length of a text is not told, and a short one does not cost 4 KB.
	paddingStep = 256
)

// payload is what a page's service worker reads.
type payload struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body"`
	Ext   string `json:"ext,omitempty"`
	Task  string `json:"task"`
	Tag   string `json:"tag"` // for showNotification: a repeat replaces
	Badge *int   `json:"badge,omitempty"`
}

// compose makes the payload, at most payloadMost bytes. Otherwise it returns a reason of failures.
func compose(p *crier.DevicePush, n *notice.Notice) (text []byte, reason string) {
	if n.Text == "" {
		return nil, reasonNoText
	}
	body := payload{Ext: n.Ext, Task: string(p.Task), Tag: notice.Key(p.Task), Badge: p.Badge}
	fits := n.Fit(payloadMost, func() int {
		body.Title, body.Body = n.Title, n.Text
		text = marshal(&body)
		return len(text)
	})
	if !fits {
		return nil, reasonTooLarge
	}
	return text, ""
}

// marshal makes JSON in which <, > and & take one byte each.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // strings and an integer only
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// recordSize is the length of the encrypted body for a payload.
func recordSize(payload int) uint32 {
	return uint32((payload + overhead + paddingStep - 1) / paddingStep * paddingStep)
}
