package apnssim

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/net/http2/hpack"
)

const (
	// payloadMost and voipMost are the limits of a payload, in bytes.
	payloadMost = 4096
	voipMost    = 5120
	// collapseMost is the limit of a collapse id, in bytes.
	collapseMost = 64
	devicePath   = "/3/device/"
)

// suffixes are the push types, and what of the topic each asks for after the bundle id.
var suffixes = map[string]string{
	"alert": "", "background": "", "mdm": "", "voip": ".voip", "complication": ".complication", "fileprovider": ".pushkit.fileprovider",
	"location": ".location-query", "liveactivity": ".push-type.liveactivity", "pushtotalk": ".voip-ptt", "widgets": ".push-type.widgets",
}

// request is what a client asked for.
type request struct {
	method, path string
	header       map[string]string // the last of each
	duplicate    bool              // a header stood there twice
	body         []byte            // at most bodyKept
}

// decode reads the headers of a request.
func decode(fields []hpack.HeaderField) request {
	r := request{header: make(map[string]string)}
	for _, f := range fields {
		switch f.Name {
		case ":method":
			r.method = f.Value
		case ":path":
			r.path = f.Value
		default:
			if _, again := r.header[f.Name]; again && (strings.HasPrefix(f.Name, "apns-") || f.Name == "authorization") {
				r.duplicate = true
			}
			r.header[f.Name] = f.Value
		}
	}
	return r
}

func (r *request) addBody(b []byte) {
	r.body = append(r.body, b[:min(len(b), bodyKept-len(r.body))]...)
}

// token returns the device token of the path in lower case, "" where it is none.
func (r *request) token() string {
	token, ok := strings.CutPrefix(r.path, devicePath)
	if !ok {
		return ""
	}
	return strings.ToLower(token)
}

// id returns the apns-id of the answer: that of the request, else a new one.
func (r *request) id() string {
	if id, err := uuid.Parse(r.header["apns-id"]); err == nil {
		return id.String()
	}
	return uuid.NewString()
}

// checkRoute returns the reason why the method, path or form of the headers is wrong.
func (r *request) checkRoute() string {
	token := r.token()
	switch {
	case r.path == devicePath || r.path == strings.TrimSuffix(devicePath, "/"):
		return "MissingDeviceToken"
	case token == "" || strings.ContainsAny(token, "/?#"):
		return "BadPath"
	case r.method != "POST":
		return "MethodNotAllowed"
	case r.duplicate:
		return "DuplicateHeaders"
	}
	return ""
}

// checkHeaders returns the reason why a header or the token is wrong, in the order in which they are looked at.
func (r *request) checkHeaders() string {
	h := r.header
	if id, given := h["apns-id"]; given && (len(id) != 36 || uuid.Validate(id) != nil) {
		return "BadMessageId"
	}
	if text, given := h["apns-expiration"]; given && !isSeconds(text) {
		return "BadExpirationDate"
	}
	priority, given := h["apns-priority"]
	if given && priority != "10" && priority != "5" && priority != "1" {
		return "BadPriority"
	}
	kind := r.pushType()
	suffix, known := suffixes[kind]
	switch {
	case !known || !strings.HasSuffix(h["apns-topic"], suffix):
		return "InvalidPushType"
	case kind == "background" && priority != "5" && priority != "1":
		return "BadPriority"
	case len(h["apns-collapse-id"]) > collapseMost:
		return "BadCollapseId"
	}
	if token, err := hex.DecodeString(r.token()); err != nil || len(token) < 32 || len(token) > 100 {
		return "BadDeviceToken"
	}
	return ""
}

func (r *request) pushType() string {
	if kind, given := r.header["apns-push-type"]; given {
		return kind
	}
	return "alert"
}

func isSeconds(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && n >= 0
}

// checkBody returns the reason why the payload is wrong.
func (r *request) checkBody() string {
	most := payloadMost
	if r.pushType() == "voip" {
		most = voipMost
	}
	var payload struct {
		Aps map[string]json.RawMessage `json:"aps"`
	}
	switch {
	case len(r.body) > most:
		return "PayloadTooLarge"
	case json.Unmarshal(r.body, &payload) != nil || payload.Aps == nil:
		return "PayloadEmpty"
	}
	return ""
}

// validTopic reports whether a topic has the form of one.
func validTopic(topic string) bool {
	return topic != "" && len(topic) <= 255 && !strings.ContainsFunc(topic, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}
