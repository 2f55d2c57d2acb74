package apns

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/crier-im/crier"
)

// The reasons that Crier gives itself, where no answer of APNs has one.
const (
	ReasonTimeout           = "Timeout"            // no answer in time
	ReasonConnection        = "ConnectionFailed"   // no connection, or it broke
	ReasonServerCertificate = "ServerNotTrusted"   // something else than APNs answered
	ReasonClosed            = "Closed"             // the sender was closed
	ReasonUndocumented      = "Undocumented"       // an answer outside Apple's table
	ReasonEnvironment       = "WrongEnvironment"   // the device's environment is not the credential's
	ReasonRefusedByTLS      = "CertificateRefused" // the handshake failed for our certificate
)

// Reason is one way to fail: APNs' word for it, or Crier's own.
type Reason struct {
	Name   string
	Status int // of the HTTP answer; 0: Crier's own
	Class  crier.OutcomeClass
	Info   string // a sentence for the operator: what it means and what to do
}

// Reasons returns every reason that an Outcome of this package may have, by status and name.
func Reasons() []Reason {
	return slices.SortedFunc(maps.Values(reasons), func(a, b Reason) int {
		if a.Status != b.Status {
			return a.Status - b.Status
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

var reasons = index(
	Reason{"BadCollapseId", 400, crier.OutcomeRejected, "The collapse id is longer than 64 bytes: report this as a bug of Crier."},
	Reason{"BadDeviceToken", 400, crier.OutcomeGone, "The token is not one of this environment: it is malformed, or a sandbox token was registered for production or the reverse. The device is removed; it comes back when its app registers again."},
	Reason{"BadExpirationDate", 400, crier.OutcomeRejected, "The expiration is not a time: report this as a bug of Crier."},
	Reason{"BadMessageId", 400, crier.OutcomeRejected, "The apns-id is not a UUID: report this as a bug of Crier."},
	Reason{"BadPriority", 400, crier.OutcomeRejected, "The priority does not fit the kind of push: report this as a bug of Crier."},
	Reason{"BadTopic", 400, crier.OutcomeConfiguration, "The bundle id of the credential is not one: correct its target."},
	Reason{"DeviceTokenNotForTopic", 400, crier.OutcomeConfiguration, "The token belongs to another app than the credential's bundle id: compare the target with the bundle id in Xcode."},
	Reason{"DuplicateHeaders", 400, crier.OutcomeRejected, "A header was sent twice: report this as a bug of Crier, or look at the proxy between."},
	Reason{"IdleTimeout", 400, crier.OutcomeUnavailable, "APNs closed a connection that was idle: Crier connects again."},
	Reason{"InvalidPushType", 400, crier.OutcomeRejected, "The push type is not one: report this as a bug of Crier."},
	Reason{"MissingDeviceToken", 400, crier.OutcomeGone, "The token is empty. The device is removed."},
	Reason{"MissingTopic", 400, crier.OutcomeConfiguration, "The bundle id is missing: set the credential's target."},
	Reason{"PayloadEmpty", 400, crier.OutcomeRejected, "The message has nothing to show: give it a text, or ContentAvailable."},
	Reason{"TopicDisallowed", 400, crier.OutcomeConfiguration, "The key's team, or the certificate, may not push to this bundle id: check the target and the team."},

	Reason{"BadCertificate", 403, crier.OutcomeConfiguration, "APNs does not take the certificate: it was revoked, or is not a push certificate. Upload a new one."},
	Reason{"BadCertificateEnvironment", 403, crier.OutcomeConfiguration, "Wrong environment: the certificate is for the sandbox and was used for production, or the reverse."},
	Reason{"BadEnvironmentKeyIdInToken", 403, crier.OutcomeConfiguration, "Wrong environment: the key is restricted to the sandbox and was used for production, or the reverse."},
	Reason{"ExpiredProviderToken", 403, crier.OutcomeConfiguration, "APNs holds the provider token for older than an hour although it was just made: the clock of this machine is wrong."},
	Reason{"Forbidden", 403, crier.OutcomeConfiguration, "APNs forbids it: check in Apple's developer account that push is allowed for the bundle id."},
	Reason{"InvalidProviderToken", 403, crier.OutcomeConfiguration, "The signature is not of a key that Apple knows: key_id, team_id and the .p8 file do not belong together, or the key was revoked."},
	Reason{"MissingProviderToken", 403, crier.OutcomeConfiguration, "APNs saw neither a certificate nor a provider token: a proxy between takes them away."},
	Reason{"UnrelatedKeyIdInToken", 403, crier.OutcomeConfiguration, "The key is not one for this bundle id: it is restricted to other topics. Use the app's own key."},

	Reason{"BadPath", 404, crier.OutcomeGone, "The token can't stand in a path. The device is removed."},
	Reason{"MethodNotAllowed", 405, crier.OutcomeConfiguration, "What answered takes no POST: the endpoint is not APNs."},
	Reason{"ExpiredToken", 410, crier.OutcomeGone, "The token has expired. The device is removed."},
	Reason{"Unregistered", 410, crier.OutcomeGone, "The app was removed from the device, or its notifications were turned off. The device is removed."},
	Reason{"PayloadTooLarge", 413, crier.OutcomeRejected, "Title, Ext and Image alone take more than 4096 bytes: shorten them."},
	Reason{"TooManyProviderTokenUpdates", 429, crier.OutcomeThrottled, "The provider token changed more often than every 20 minutes: another server uses the same key on this connection, or the clock jumps."},
	Reason{"TooManyRequests", 429, crier.OutcomeThrottled, "Too many pushes to one device in a short time: Crier waits and tries again."},
	Reason{"InternalServerError", 500, crier.OutcomeUnavailable, "APNs failed: Crier tries again."},
	Reason{"ServiceUnavailable", 503, crier.OutcomeUnavailable, "APNs is out of service: Crier tries again."},
	Reason{"Shutdown", 503, crier.OutcomeUnavailable, "The APNs server is going down: Crier connects to another and tries again."},

	Reason{ReasonClosed, 0, crier.OutcomeUnavailable, "The sender was closed while the push was under way, as when a credential is replaced: Crier tries again."},
	Reason{ReasonConnection, 0, crier.OutcomeUnavailable, "No connection to APNs, or it broke: check the network and that port 443 is open to Apple's 17.0.0.0/8."},
	Reason{ReasonEnvironment, 0, crier.OutcomeConfiguration, "Wrong environment: the device registered for the other of sandbox and production than the credential is for."},
	Reason{ReasonRefusedByTLS, 0, crier.OutcomeConfiguration, "APNs refused the certificate in the TLS handshake: it has expired, was revoked, or is for the other environment."},
	Reason{ReasonServerCertificate, 0, crier.OutcomeConfiguration, "The server's certificate is not trusted: a proxy stands between, or the system's root certificates are too old."},
	Reason{ReasonTimeout, 0, crier.OutcomeUnavailable, "APNs did not answer in time: Crier tries again."},
	Reason{ReasonUndocumented, 0, crier.OutcomeUnknown, "APNs gave an answer that is not in its documents."},
)

func index(all ...Reason) map[string]Reason {
	m := make(map[string]Reason, len(all))
	for _, r := range all {
		m[r.Name] = r
	}
	return m
}

// outcome returns the outcome of a reason in the table.
func outcome(name string) crier.Outcome {
	r := reasons[name]
	return crier.Outcome{Class: r.Class, Reason: r.Name, Info: r.Info}
}

// undocumented returns the outcome of an answer whose reason is not in the
// table: its status says the class, its text goes into the sentence and never into the label.
func undocumented(status int, reason string) crier.Outcome {
	o := outcome(ReasonUndocumented)
	o.Info = fmt.Sprintf("APNs gave an answer that is not in its documents: status %d, reason %s.", status, crier.Quote(reason))
	switch {
	case status == http.StatusTooManyRequests:
		o.Class = crier.OutcomeThrottled
	case status == http.StatusGone:
		o.Class = crier.OutcomeGone
	case status >= 500:
		o.Class = crier.OutcomeUnavailable
	}
	return o
}
