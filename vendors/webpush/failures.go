package webpush

import (
	"encoding/json"
	"net/http"
	"regexp"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/failure"
	"github.com/crier-im/crier/vendors/internal/notice"
)

const (
	reasonBadRequest      = "BadRequest"
	reasonUnauthorized    = "Unauthorized"
	reasonForbidden       = "Forbidden"
	reasonNotFound        = "NotFound"
	reasonGone            = "Gone"
	reasonTooLarge        = "PayloadTooLarge"
	reasonTooMany         = "TooManyRequests"
	reasonServerError     = "ServerError"
	reasonUnexpected      = "UnexpectedAnswer"
	reasonBadSubscription = "BadSubscription"
	reasonInternal        = "InternalAddress"
	reasonNoText          = "NoText"
	reasonNetwork         = "Network"
	reasonTimeout         = "Timeout"
	reasonClosed          = "Closed"
)

// failures translates the statuses of push services (RFC 8030, 5 and 8.4; RFC 8292, 4.2), and what fails on this side.
var failures = failure.Table{
	failure.Row(reasonBadRequest, crier.OutcomeConfiguration, "The push service refuses a header of the request, most often the VAPID token: check the subject of the credential."),
	failure.Row(reasonUnauthorized, crier.OutcomeConfiguration, "The push service refuses the VAPID token: check the credential and the clock of this machine."),
	failure.Row(reasonForbidden, crier.OutcomeConfiguration, "The subscription was made for another VAPID key: the page must subscribe with the public_key of the credential."),
	failure.Row(reasonNotFound, crier.OutcomeGone, "The push service does not know the subscription, or has forgotten it: the device is removed."),
	failure.Row(reasonGone, crier.OutcomeGone, "The user has withdrawn the permission, or the browser has a new subscription: the device is removed."),
	failure.Row(reasonTooLarge, crier.OutcomeRejected, "The message is too large although its text was cut: shorten Ext."),
	failure.Row(reasonTooMany, crier.OutcomeThrottled, "The push service asks to send more slowly."),
	failure.Row(reasonServerError, crier.OutcomeUnavailable, "The push service is overloaded or out of order; it is tried again."),
	failure.Row(reasonUnexpected, crier.OutcomeUnknown, "The answer is not one of a push service."),
	failure.Row(reasonBadSubscription, crier.OutcomeGone, "The token is not a subscription that can be used: the device is removed."),
	failure.Row(reasonInternal, crier.OutcomeUnavailable, "The name of the push service leads to an internal address, where nothing is sent: check DNS, and who registered the device."),
	failure.Row(reasonNoText, crier.OutcomeRejected, "The message has no text to show: set Desc."),
	failure.Row(reasonNetwork, crier.OutcomeUnavailable, "The push service can't be reached: check DNS and the firewall."),
	failure.Row(reasonTimeout, crier.OutcomeUnavailable, "The push service did not answer in time; it is tried again."),
	failure.Row(reasonClosed, crier.OutcomeUnavailable, "The sender was closed: the node stops, or the credential was replaced."),
}

// byStatus is the reason of a status.
var byStatus = map[int]string{
	http.StatusBadRequest:            reasonBadRequest,
	http.StatusUnauthorized:          reasonUnauthorized,
	http.StatusForbidden:             reasonForbidden,
	http.StatusNotFound:              reasonNotFound,
	http.StatusRequestTimeout:        reasonServerError,
	http.StatusGone:                  reasonGone,
	http.StatusRequestEntityTooLarge: reasonTooLarge,
	http.StatusTooManyRequests:       reasonTooMany,
}

// word is the form of a reason that may stand in a sentence: Apple's {"reason":"BadJwtToken"}. Anything else of a
// body is left out, since an endpoint is anyone's server.
var word = regexp.MustCompile(`^[A-Za-z]{1,40}$`)

// translate returns the outcome of an answer that is not of success.
func translate(status int, h http.Header, body []byte, now time.Time) crier.Outcome {
	reason, ok := byStatus[status]
	switch {
	case !ok && status >= http.StatusInternalServerError:
		reason = reasonServerError
	case !ok:
		reason = reasonUnexpected
	}
	text := http.StatusText(status)
	var apple struct{ Reason string }
	if json.Unmarshal(body, &apple) == nil && word.MatchString(apple.Reason) {
		text = apple.Reason
	}
	return failure.After(failures.Outcome(reason, text), notice.RetryAfter(h, now))
}
