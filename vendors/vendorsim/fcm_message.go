package vendorsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// messageMost is FCM's limit, in bytes.
	messageMost = 4096
	// ttlMost is four weeks, in seconds.
	ttlMost = 2419200
)

// fcmFaults are the answers that FCM documents, and those of Google's front end without a code of FCM's.
var fcmFaults = map[string]Fault{
	"UNSPECIFIED_ERROR":      {Status: http.StatusInternalServerError, Code: "UNSPECIFIED_ERROR", Message: "Unspecified."},
	"INVALID_ARGUMENT":       {Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT", Field: "message.android.ttl", Message: "Invalid TTL."},
	"INVALID_TOKEN":          {Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT", Message: "The registration token is not a valid FCM registration token"},
	"UNREGISTERED":           {Status: http.StatusNotFound, Code: "UNREGISTERED", Message: "Requested entity was not found."},
	"SENDER_ID_MISMATCH":     {Status: http.StatusForbidden, Code: "SENDER_ID_MISMATCH", Message: "SenderId mismatch"},
	"QUOTA_EXCEEDED":         {Status: http.StatusTooManyRequests, Code: "QUOTA_EXCEEDED", Message: "Quota exceeded.", RetryAfter: "30"},
	"UNAVAILABLE":            {Status: http.StatusServiceUnavailable, Code: "UNAVAILABLE", Message: "The service is unavailable.", RetryAfter: "10"},
	"INTERNAL":               {Status: http.StatusInternalServerError, Code: "INTERNAL", Message: "Internal error."},
	"THIRD_PARTY_AUTH_ERROR": {Status: http.StatusUnauthorized, Code: "THIRD_PARTY_AUTH_ERROR", Message: "Auth error from APNs or Web Push."},
	"UNAUTHENTICATED":        {Status: http.StatusUnauthorized, Message: "Request had invalid authentication credentials."},
	"PERMISSION_DENIED":      {Status: http.StatusForbidden, Message: "Permission denied."},
	"NOT_FOUND":              {Status: http.StatusNotFound, Message: "Not found."},
}

// statusNames are Google's names of HTTP statuses (google.rpc.Code).
var statusNames = map[int]string{
	http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED", http.StatusForbidden: "PERMISSION_DENIED",
	http.StatusNotFound: "NOT_FOUND", http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", http.StatusInternalServerError: "INTERNAL",
	http.StatusServiceUnavailable: "UNAVAILABLE",
}

// refuse answers as Google does.
func refuse(w http.ResponseWriter, f Fault) {
	details := []any{}
	if f.Code != "" {
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": f.Code})
	}
	if f.Field != "" {
		details = append(details, map[string]any{
			"@type":           "type.googleapis.com/google.rpc.BadRequest",
			"fieldViolations": []any{map[string]string{"field": f.Field, "description": f.Message}},
		})
	}
	body, err := json.Marshal(map[string]any{"error": map[string]any{
		"code": f.Status, "message": f.Message, "status": statusNames[f.Status], "details": details,
	}})
	if err != nil {
		body = nil
	}
	f.answer(w, string(body))
}

// wireMessage is a request of messages.send, as far as the simulator knows it.
type wireMessage struct {
	Token        string
	Notification *struct{ Title, Body, Image string }
	Data         map[string]string
	Android      struct {
		Priority     string
		TTL          string
		CollapseKey  string `json:"collapse_key"`
		Notification struct {
			ChannelID string `json:"channel_id"`
			Sound     string
			Tag       string
		}
	}
}

var ttlForm = regexp.MustCompile(`^(\d{1,9})(\.\d{1,9})?s$`)

// readFCM checks a request as FCM does; field is what an error blames.
func readFCM(body []byte) (m FCMMessage, field string, err error) {
	var wire struct{ Message wireMessage }
	if err := strict(body, &wire); err != nil {
		return m, "message", fmt.Errorf("invalid JSON payload: %w", err)
	}
	w := &wire.Message
	size, err := sizeOf(body)
	ttl := ttlForm.FindStringSubmatch(w.Android.TTL)
	seconds := 0
	if ttl != nil {
		seconds, _ = strconv.Atoi(ttl[1])
	}
	switch {
	case err != nil:
		return m, "message", err
	case w.Token == "":
		return m, "message", errors.New("recipient of the message is not set")
	case strings.ContainsAny(w.Token, " \n"):
		return m, "message.token", errors.New("invalid registration token")
	case size > messageMost:
		return m, "message", errors.New("message too big")
	case w.Android.TTL != "" && (ttl == nil || seconds > ttlMost):
		return m, "message.android.ttl", errors.New("invalid TTL")
	case !slices.Contains([]string{"", "normal", "high"}, strings.ToLower(w.Android.Priority)):
		return m, "message.android.priority", errors.New("invalid priority")
	}
	for key := range w.Data {
		if key == "" || key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm") {
			return m, "message.data", errors.New("invalid data key")
		}
	}
	m = FCMMessage{
		Token: w.Token, Data: w.Data, Priority: w.Android.Priority, TTL: w.Android.TTL, CollapseKey: w.Android.CollapseKey,
		ChannelID: w.Android.Notification.ChannelID, Sound: w.Android.Notification.Sound, Tag: w.Android.Notification.Tag, Size: size,
	}
	if n := w.Notification; n != nil {
		m.Title, m.Body, m.Image = n.Title, n.Body, n.Image
	}
	return m, "", nil
}

// sizeOf is how large a message is without its token: compact, with no character escaped that need not be.
func sizeOf(body []byte) (int, error) {
	var wire struct{ Message map[string]json.RawMessage }
	if err := json.Unmarshal(body, &wire); err != nil {
		return 0, err
	}
	delete(wire.Message, "token")
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(wire.Message); err != nil {
		return 0, err
	}
	return out.Len() - 1, nil // without the newline
}
