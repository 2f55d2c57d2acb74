package crier

import (
	"iter"
	"time"
)

// Funnel is what became of the accounts that a push matched. Of a kept push,
// Acknowledged + Later + Expired + Deleted + Waiting = Matched.
type Funnel struct {
	Matched      uint64       `json:"matched"`
	Online       uint64       `json:"online"`       // were connected when the push came to their partition, and got it over the connection
	Kept         bool         `json:"kept"`         // the message waits for who did not get it
	Acknowledged uint64       `json:"acknowledged"` // got it live and acknowledged it
	Later        uint64       `json:"later"`        // got it from their mailbox and acknowledged it
	Expired      uint64       `json:"expired"`      // its time was over before they acknowledged it
	Deleted      uint64       `json:"deleted"`      // were deleted before
	Waiting      uint64       `json:"waiting"`      // have it coming
	Vendor       VendorFunnel `json:"vendor"`
}

// VendorFunnel is what vendors had to do with the accounts that a push matched. Where it is wanted,
// NoDevice + Accepted + NotNeeded + all of Failed + Expired + Deleted + ToDo = Matched.
type VendorFunnel struct {
	Wanted    bool              `json:"wanted"`           // the push is kept, has a text, and PushFlag is 0
	NoDevice  uint64            `json:"no_device"`        // have registered none
	Accepted  uint64            `json:"accepted"`         // a vendor has taken it for one of the devices
	NotNeeded uint64            `json:"not_needed"`       // acknowledged it over the connection before
	Failed    map[string]uint64 `json:"failed,omitempty"` // by reason: no vendor took it
	Expired   uint64            `json:"expired"`          // its time was over before
	Deleted   uint64            `json:"deleted"`          // were deleted before
	ToDo      uint64            `json:"to_do"`
}

// Add adds what became of others.
func (f *Funnel) Add(g *Funnel) {
	f.Matched += g.Matched
	f.Online += g.Online
	f.Kept = f.Kept || g.Kept
	f.Acknowledged += g.Acknowledged
	f.Later += g.Later
	f.Expired += g.Expired
	f.Deleted += g.Deleted
	f.Waiting += g.Waiting
	v, w := &f.Vendor, &g.Vendor
	v.Wanted = v.Wanted || w.Wanted
	v.NoDevice += w.NoDevice
	v.Accepted += w.Accepted
	v.NotNeeded += w.NotNeeded
	v.Expired += w.Expired
	v.Deleted += w.Deleted
	v.ToDo += w.ToDo
	for reason, n := range w.Failed {
		if v.Failed == nil {
			v.Failed = make(map[string]uint64)
		}
		v.Failed[reason] += n
	}
}

// Explanation is what became of one push for one account.
type Explanation struct {
	Task    TaskID `json:"task"`
	User    UserID `json:"user"`
	Exists  bool   `json:"exists"`  // the account exists now
	Known   bool   `json:"known"`   // what is told below is; else the push is too old, or has not come to the partition yet
	Matched bool   `json:"matched"` // as of the push's place in the partition's log
	// Because are the parts of the condition that decided, such as `tag "vip"`, or `not tag "vip"` where the account did not match.
	Because []string `json:"because,omitempty"`
	// Changed tells that the account's tags or attributes have changed since: what Because says of an account that did
	// not match is left out then, since it can't be told any more.
	Changed   bool    `json:"changed,omitempty"`
	Online    bool    `json:"online"`              // was connected when the push came
	Connected []Place `json:"connected,omitempty"` // and where
	// Sendings are what went over connections, in the order of time. They are recorded a second at a time: where the partition has been led
	// from LeaderSince on only, what was sent in the second before may be missing.
	Sendings    []Sending `json:"sendings,omitempty"`
	LeaderSince time.Time `json:"leader_since,omitzero"`
	// SendingsMissing tells that the push had more of them in the partition than it records, so that those of this account may be missing.
	SendingsMissing bool      `json:"sendings_missing,omitempty"`
	Delivery        string    `json:"delivery"` // where the message stands: one of the Delivery texts
	Vendor          string    `json:"vendor"`   // where the notification stands: one of the Notify texts
	Attempts        []Attempt `json:"attempts,omitempty"`
}

// Sending is one message over one connection.
type Sending struct {
	Time    time.Time `json:"time"`    // when it was handed to the session
	Session SessionID `json:"session"` // SessionID.Short
	Place             // as of then
	Mailbox bool      `json:"mailbox,omitempty"`     // read from the mailbox, not live
	Acked   time.Time `json:"acknowledged,omitzero"` // when; zero: it was not
}

// SendingRecord is what a partition records of a connection: a message that was handed to a session, or the acknowledgement of one.
type SendingRecord struct {
	Ordinal      uint32
	Time         time.Time // to the millisecond
	Session      SessionID // SessionID.Short
	Place                  // as of then
	Mailbox      bool      // the message was read from the mailbox; not told of an acknowledgement
	Acknowledged bool      // it is an acknowledgement
}

// CampaignSendings is what is to be recorded of one campaign.
type CampaignSendings struct {
	App     AppID
	Seq     uint64
	Records iter.Seq[SendingRecord] // can be gone through again; nil: none
	Count   int                     // of Records
	Missed  uint64                  // more that are not recorded, since they were too many
}

// What Explanation.Delivery and Vendor say.
const (
	DeliveryNone         = "none"         // nothing is kept for the account
	DeliveryWaiting      = "waiting"      // in the mailbox
	DeliveryAcknowledged = "acknowledged" // by one of the account's devices
	DeliveryExpired      = "expired"      // its time was over before it was acknowledged
	NotifyNone           = "none"         // no notification is wanted, or the account had no device
	NotifyToDo           = "to do"
	NotifyDone           = "done"
)

// Attempt is one notification to one device of an account.
type Attempt struct {
	Ordinal uint32    `json:"-"`
	Time    time.Time `json:"time"`
	Vendor  Vendor    `json:"vendor"`
	Device  string    `json:"device"` // Device.ShortToken
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
	Tries   int       `json:"tries"`
}

// VendorTarget is an account that a push is to be notified to.
type VendorTarget struct {
	Ordinal uint32
	Account *Account // nil: it has no devices any more
	Waiting int      // kept messages that it has coming, this one included
}

// VendorProgress is what has become of some targets of a campaign in a partition.
type VendorProgress struct {
	Seq      uint64
	Done     []VendorResult
	Attempts []Attempt
	Gone     []Change // OpRemoveDevice for devices that are no more
}

// VendorResult is a target that nothing more is to be done for. Reason is "" where a vendor has taken the notification.
type VendorResult struct {
	Ordinal uint32
	Reason  string
}

// The reasons of VendorResult that are not a vendor's.
const (
	ReasonNoDevice = "NoDevice" // the devices of the account have gone since it matched
	ReasonExpired  = "Expired"  // the message's time is over
)
