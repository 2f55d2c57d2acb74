package crier

import "time"

// Bounds that no setting changes: they are part of the wire contract.
const (
	// MaxAttrs is how many attribute names an app has: slots "0".."9".
	MaxAttrs = 10
	// MaxNameBytes bounds attribute names, attribute values and tags.
	MaxNameBytes = 50
	// MaxConditionTags bounds each tag list of a condition.
	MaxConditionTags = 10
	// MaxReportTasks bounds the TaskIds of one im_get_push_report.
	MaxReportTasks = 500
	// MaxLifeTime is the longest that a message is kept.
	MaxLifeTime = 7 * 24 * time.Hour
)

// Limits are the settings of an app that bound what its back end may do. Zero
// means unlimited in every field.
type Limits struct {
	PushInterval     time.Duration `json:"push_interval"`      // least time between two pushes (90024)
	PushesPerDay     int           `json:"pushes_per_day"`     // pushes a calendar day, UTC+8 (90047)
	PushBodyBytes    int           `json:"push_body_bytes"`    // body of im_push (90056)
	BodyBytes        int           `json:"body_bytes"`         // body of every other command (93000)
	MsgRandomWindow  time.Duration `json:"msg_random_window"`  // how long a MsgRandom stays used (90025); zero: not checked
	CallsPerSecond   int           `json:"calls_per_second"`   // calls a second for each command (60007)
	AccountsPerCall  int           `json:"accounts_per_call"`  // accounts of an attribute, tag or presence call (90018)
	AddTagAccounts   int           `json:"add_tag_accounts"`   // accounts of one im_add_tag (90018)
	ImportsPerCall   int           `json:"imports_per_call"`   // accounts of an account_ call (70402)
	TagsPerCall      int           `json:"tags_per_call"`      // tags an account in one im_add_tag (90032)
	TagsPerAccount   int           `json:"tags_per_account"`   // tags an account in all (90046)
	KeptPushes       int           `json:"kept_pushes"`        // pushes kept at one time; one more is refused (90047)
	SessionsPerUser  int           `json:"sessions_per_user"`  // live sessions an account; one more evicts the oldest
	InFlightMessages int           `json:"in_flight_messages"` // kept messages sent and not yet acknowledged, a session
	DevicesPerUser   int           `json:"devices_per_user"`   // devices an account; one more drops the longest registered
	FallbackAfter    time.Duration `json:"fallback_after"`     // how long a connected account has to acknowledge before vendors are told; zero: they are not
}

// DefaultLimits are the limits of the service that Crier is compatible with,
// and Crier's own where that one has none.
func DefaultLimits() Limits {
	return Limits{
		PushInterval:     time.Second,
		PushesPerDay:     100,
		PushBodyBytes:    10 << 10,
		BodyBytes:        1 << 20,
		MsgRandomWindow:  7 * 24 * time.Hour,
		CallsPerSecond:   100,
		AccountsPerCall:  500,
		AddTagAccounts:   100,
		ImportsPerCall:   100,
		TagsPerCall:      10,
		TagsPerAccount:   100,
		KeptPushes:       1000,
		SessionsPerUser:  10,
		InFlightMessages: 32,
		DevicesPerUser:   10,
		FallbackAfter:    10 * time.Second,
	}
}

// SessionPolicy says which older sessions of an account a new login evicts.
type SessionPolicy string

// The session policies. The zero value stands for OnePerPlatform.
const (
	OnePerPlatform SessionPolicy = "one-per-platform"
	OnePerAccount  SessionPolicy = "one-per-account"
	ManySessions   SessionPolicy = "many"
)

// Valid reports whether p is one of the policies, or empty.
func (p SessionPolicy) Valid() bool {
	switch p {
	case "", OnePerPlatform, OnePerAccount, ManySessions:
		return true
	}
	return false
}

// Language chooses the words for elements without a text of their own, such as
// "[Location]". The zero value stands for English.
type Language string

// The languages.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// Valid reports whether l is one of the languages, or empty.
func (l Language) Valid() bool { return l == "" || l == English || l == Chinese }
