package fcm

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/failure"
	"github.com/crier-im/crier/vendors/internal/notice"
)

// The reasons that are not words of Google's.
const (
	reasonInvalidToken     = "INVALID_TOKEN"
	reasonTooLarge         = "PAYLOAD_TOO_LARGE"
	reasonNoText           = "NO_TEXT"
	reasonUnexpected       = "UNEXPECTED_ANSWER"
	reasonNetwork          = "NETWORK"
	reasonTimeout          = "TIMEOUT"
	reasonClosed           = "CLOSED"
	reasonOAuthGrant       = "OAUTH_INVALID_GRANT"
	reasonOAuthRefused     = "OAUTH_REFUSED"
	reasonOAuthThrottled   = "OAUTH_THROTTLED"
	reasonOAuthUnavailable = "OAUTH_UNAVAILABLE"
)

// failures translates what FCM and Google's token service answer. The first eight are the documented codes
// (firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode).
var failures = failure.Table{
	failure.Row("UNSPECIFIED_ERROR", crier.OutcomeUnknown, "FCM failed without saying why; it is tried again."),
	failure.Row("INVALID_ARGUMENT", crier.OutcomeRejected, "FCM refuses a field of the message: look at the OfflinePushInfo of the push."),
	failure.Row("UNREGISTERED", crier.OutcomeGone, "The app was removed from the device, or the token was replaced: the device is removed."),
	failure.Row("SENDER_ID_MISMATCH", crier.OutcomeConfiguration, "The token belongs to another Firebase project: the app on the device and the service account must be of one project."),
	failure.Row("QUOTA_EXCEEDED", crier.OutcomeThrottled, "The project or the device gets more messages than FCM allows: sending slows down."),
	failure.Row("UNAVAILABLE", crier.OutcomeUnavailable, "FCM is overloaded or out of order; it is tried again."),
	failure.Row("INTERNAL", crier.OutcomeUnavailable, "FCM has an internal error; it is tried again."),
	failure.Row("THIRD_PARTY_AUTH_ERROR", crier.OutcomeConfiguration, "FCM can't pass the message on to Apple or a browser: upload a valid APNs key or Web Push key in the Firebase console."),

	failure.Row("UNAUTHENTICATED", crier.OutcomeConfiguration, "FCM refuses the access token: check that the service account still exists and that the clock of this machine is right."),
	failure.Row("PERMISSION_DENIED", crier.OutcomeConfiguration, "The service account may not send: enable the Firebase Cloud Messaging API and give the account the role Firebase Cloud Messaging API Admin."),
	failure.Row("NOT_FOUND", crier.OutcomeConfiguration, "FCM knows no such project or address: check project_id and the endpoint."),
	failure.Row(reasonInvalidToken, crier.OutcomeGone, "The token is not one of FCM's: the device is removed."),
	failure.Row(reasonTooLarge, crier.OutcomeRejected, "The message is over 4096 bytes although its text was cut: shorten Ext."),
	failure.Row(reasonNoText, crier.OutcomeRejected, "The message has no text to show: set Desc."),
	failure.Row(reasonUnexpected, crier.OutcomeUnknown, "The answer is not one that FCM documents: check whether a proxy stands between."),
	failure.Row(reasonNetwork, crier.OutcomeUnavailable, "FCM can't be reached: check DNS, the firewall and the proxy."),
	failure.Row(reasonTimeout, crier.OutcomeUnavailable, "FCM did not answer in time; it is tried again."),
	failure.Row(reasonClosed, crier.OutcomeUnavailable, "The sender was closed: the node stops, or the credential was replaced."),

	failure.Row(reasonOAuthGrant, crier.OutcomeConfiguration, "Google refuses the key of the service account: it was deleted or disabled, or the clock of this machine is wrong."),
	failure.Row(reasonOAuthRefused, crier.OutcomeConfiguration, "Google gives the service account no access token: check it in the Google Cloud console."),
	failure.Row(reasonOAuthThrottled, crier.OutcomeThrottled, "Google's token service asks to wait."),
	failure.Row(reasonOAuthUnavailable, crier.OutcomeUnavailable, "Google's token service did not give an access token; it is tried again."),
}

// byStatus is the reason of an answer without a code of FCM's.
var byStatus = map[int]string{
	http.StatusBadRequest:            "INVALID_ARGUMENT",
	http.StatusUnauthorized:          "UNAUTHENTICATED",
	http.StatusForbidden:             "PERMISSION_DENIED",
	http.StatusNotFound:              "NOT_FOUND",
	http.StatusRequestTimeout:        "UNAVAILABLE",
	http.StatusRequestEntityTooLarge: reasonTooLarge,
	http.StatusTooManyRequests:       "QUOTA_EXCEEDED",
	http.StatusInternalServerError:   "INTERNAL",
}

const (
	// quotaWait is what Google asks to wait after a 429 that does not say how long.
	quotaWait = time.Minute
	// badToken begins the one message that tells a bad token from a bad message where no field is named.
	badToken = "The registration token is not a valid FCM registration token"
)

// answer is the body of a failure (google.rpc.Status).
type answer struct {
	Error struct {
		Message string
		Details []detail
	}
}

type detail struct {
	Type            string `json:"@type"`
	ErrorCode       string // of google.firebase.fcm.v1.FcmError
	FieldViolations []struct {
		Field string
	} // of google.rpc.BadRequest
}

// translate returns the outcome of an answer other than 200. token must not show in it.
func translate(status int, h http.Header, body []byte, token string, now time.Time) crier.Outcome {
	var a answer
	_ = json.Unmarshal(body, &a) // what is no JSON is known by its status
	code, field := "", ""
	for _, d := range a.Error.Details {
		if strings.HasSuffix(d.Type, "/google.firebase.fcm.v1.FcmError") {
			code = d.ErrorCode
		}
		for _, v := range d.FieldViolations {
			field = v.Field
		}
	}
	reason := reasonOf(status, code)
	if reason == "INVALID_ARGUMENT" && (field == "message.token" || field == "" && strings.HasPrefix(a.Error.Message, badToken)) {
		reason, field = reasonInvalidToken, ""
	}
	wait := notice.RetryAfter(h, now)
	if reason == "QUOTA_EXCEEDED" && wait == 0 {
		wait = quotaWait
	}
	text := ""
	switch {
	case field != "":
		text = "field " + crier.Quote(field)
	case reason == reasonUnexpected || reason == "UNSPECIFIED_ERROR":
		text = http.StatusText(status) + " " + crier.Quote(strings.ReplaceAll(a.Error.Message, token, "TOKEN"))
	}
	return failure.After(failures.Outcome(reason, text), wait)
}

func reasonOf(status int, code string) string {
	if code != "" && failures.Has(code) {
		return code
	}
	if reason, ok := byStatus[status]; ok {
		return reason
	}
	if status >= http.StatusInternalServerError {
		return "UNAVAILABLE"
	}
	return reasonUnexpected
}
