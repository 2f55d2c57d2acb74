package crier

import (
	"context"
	"time"
	"unicode/utf8"
)

// Vendor is a push service of a maker of devices or browsers.
type Vendor string

// The vendors.
const (
	APNs    Vendor = "apns"    // Apple
	FCM     Vendor = "fcm"     // Google, HTTP v1
	WebPush Vendor = "webpush" // browsers, RFC 8030
)

// Valid reports whether v is one of the vendors.
func (v Vendor) Valid() bool { return v == APNs || v == FCM || v == WebPush }

// Device is a registration of an account with a vendor: where a notification can
// reach one phone or browser.
type Device struct {
	Vendor Vendor
	// Token names the device: APNs the token in hexadecimal digits, FCM the registration token, Web Push the
	// subscription as the browser gives it, {"endpoint":...,"keys":{"p256dh":...,"auth":...}}.
	Token      string
	Target     string // what of the vendor the token belongs to: APNs the bundle id, FCM the project id, Web Push nothing
	Sandbox    bool   // APNs: a token of the development environment
	Platform   Platform
	Language   string    // BCP 47, such as "zh-Hans"; "" unknown
	BadgeBase  int       // unread messages that the app told of when it went to the background
	Registered time.Time // when the token was given last, in milliseconds
	// LastSeen is when the device was registered or logged in last. A login is taken for that of the one device that the account has of
	// its platform, and is noted where LastSeen is over SeenEvery ago.
	LastSeen time.Time
}

// SeenEvery is how old Device.LastSeen becomes before a login is noted: a write for each would be many.
const SeenEvery = 24 * time.Hour

// MaxTokenBytes bounds a device's token. Web Push subscriptions are the longest.
const MaxTokenBytes = 4096

// Same reports whether both name the same device of a vendor.
func (d *Device) Same(other *Device) bool { return d.Vendor == other.Vendor && d.Token == other.Token }

// ShortToken returns enough of the token to tell devices apart, and not enough to send to one.
func (d *Device) ShortToken() string {
	const enough = 8
	if len(d.Token) <= 2*enough {
		return "..."
	}
	return d.Token[len(d.Token)-enough:]
}

// Validate checks what every vendor's registrations have in common. Errors carry CodeBadParameter and name the field.
func (d *Device) Validate() error {
	switch {
	case !d.Vendor.Valid():
		return Errorf(CodeBadParameter, "vendor %s is not apns, fcm or webpush", Quote(string(d.Vendor)))
	case d.Token == "" || len(d.Token) > MaxTokenBytes || !utf8.ValidString(d.Token):
		return Errorf(CodeBadParameter, "token is empty, over %d bytes or not UTF-8", MaxTokenBytes)
	case len(d.Target) > 255 || !utf8.ValidString(d.Target):
		return Errorf(CodeBadParameter, "target is over 255 bytes or not UTF-8")
	case len(d.Language) > 35 || !utf8.ValidString(d.Language):
		return Errorf(CodeBadParameter, "language is over 35 bytes or not UTF-8")
	case !d.Platform.Valid():
		return Errorf(CodeBadParameter, "platform %s is not one of the platforms", Quote(string(d.Platform)))
	}
	return nil
}

// DevicePush is one notification to one device.
type DevicePush struct {
	App      AppID
	Task     TaskID
	Device   *Device
	Message  *Message // shared by all devices of a campaign: not to be changed
	Language Language // of words such as "[Location]"
	// Badge is the number that the app's icon is to show; nil leaves it as it is.
	Badge *int
	// Expires is when the vendor may stop trying; zero: try once.
	Expires time.Time
}

// Credential is what an app shows to a vendor. Its Secret is never shown again; where an App holds the
// Credential, the Secret is sealed.
type Credential struct {
	Vendor  Vendor            `json:"vendor"`
	Target  string            `json:"target,omitempty"`  // the devices with this Target use it: APNs the bundle id, FCM the project id
	Sandbox bool              `json:"sandbox,omitempty"` // APNs: for the development environment
	Form    string            `json:"form"`              // what Secret is: "p8", "p12", "service-account", "vapid"
	Params  map[string]string `json:"params,omitempty"`  // what belongs to it and is no secret, such as "key_id" and "team_id"
	Secret  []byte            `json:"secret,omitempty"`  // the content of the file
	Added   time.Time         `json:"added,omitzero"`
}

// OutcomeClass says what an answer of a vendor means for Crier.
type OutcomeClass string

// The classes of outcomes. What is retryable is Throttled, Unavailable and Unknown.
const (
	OutcomeAccepted      OutcomeClass = "accepted"      // the vendor has taken it
	OutcomeGone          OutcomeClass = "gone"          // the device is no more: remove it
	OutcomeRejected      OutcomeClass = "rejected"      // the message's fault: every device would refuse it
	OutcomeConfiguration OutcomeClass = "configuration" // the operator's fault: the credential does not fit. What waits is sent when it is mended
	OutcomeThrottled     OutcomeClass = "throttled"     // too fast: try later
	OutcomeUnavailable   OutcomeClass = "unavailable"   // the vendor did not answer, or is out of order: try later
	OutcomeUnknown       OutcomeClass = "unknown"       // an answer that is not in the vendor's documents
)

// Retryable reports whether the same push may succeed later, without anybody's doing.
func (c OutcomeClass) Retryable() bool {
	return c == OutcomeThrottled || c == OutcomeUnavailable || c == OutcomeUnknown
}

// Outcome is what became of one notification.
type Outcome struct {
	Class      OutcomeClass
	Reason     string        // the vendor's word, of a bounded set: "Unregistered"; "" when accepted
	Info       string        // a sentence for the operator: what it means and what to do
	ID         string        // the vendor's name of the notification, where it gives one
	RetryAfter time.Duration // how long the vendor asks to wait; 0: it does not say
	GoneSince  time.Time     // OutcomeGone: a registration after it is not meant; zero: not told
	DeviceOnly bool          // OutcomeConfiguration: the credential works for other devices, so that waiting does not help this one
}

// Sender sends notifications with one credential. Safe for concurrent use.
type Sender interface {
	// Send blocks until the vendor has answered, or ctx ends (OutcomeUnavailable). It tries once: the caller retries. A
	// repeat of the same push to the same device replaces the notification on the device, where the vendor can.
	Send(ctx context.Context, p *DevicePush) Outcome
	// Close ends the connections. Sends under way fail.
	Close() error
}
