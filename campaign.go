package crier

import (
	"errors"
	"time"
)

// PushRequest is one im_push, checked.
type PushRequest struct {
	App       AppID
	Random    uint32 // MsgRandom
	Message   Message
	Condition Condition
	LifeTime  time.Duration // whole seconds; 0: online accounts only, nothing is kept
	// RequestID names the attempt: the same id with the same MsgRandom is the
	// same call tried again and gets the same answer, not CodePushRepeated.
	RequestID string
}

// Campaign is one accepted push. The API calls it a task.
type Campaign struct {
	App       AppID
	Task      TaskID
	Seq       uint64 // place in the app's sequence, from 1, without gaps
	Random    uint32
	Message   Message
	Condition Condition
	LifeTime  time.Duration
	Accepted  time.Time // in milliseconds, by the log
}

// Kept reports whether the message is kept for accounts that did not get it.
func (c *Campaign) Kept() bool { return c.LifeTime > 0 }

// Expires returns when the message is no longer kept.
func (c *Campaign) Expires() time.Time { return c.Accepted.Add(c.LifeTime) }

// Status is how far a campaign is. Its numbers are the wire contract's.
type Status int

// The states of a campaign.
const (
	StatusWaiting Status = 0
	StatusRunning Status = 1
	StatusDone    Status = 2
)

// Report is the progress of a campaign.
type Report struct {
	Task     TaskID
	Status   Status
	Started  time.Time // zero while StatusWaiting
	Finished uint64    // accounts handled so far
	Total    uint64    // accounts that match, of the partitions that have answered
}

// Delivery is a message on its way to a receiver. Values are shared between
// all receivers of a campaign: treat a Delivery as immutable.
type Delivery struct {
	App          AppID
	Task         TaskID
	Seq          uint64
	From         UserID
	Accepted     time.Time
	Elements     []Element
	Notification Notification
	Kept         bool      // to be acknowledged; comes again until it is
	Expires      time.Time // zero unless Kept
	FromMailbox  bool      // read from the mailbox; else it comes as the campaign does
}

// NewDelivery returns what receivers get of a campaign.
func NewDelivery(c *Campaign, lang Language) *Delivery {
	d := &Delivery{
		App: c.App, Task: c.Task, Seq: c.Seq, From: c.Message.From, Accepted: c.Accepted,
		Elements: c.Message.Elements, Notification: c.Message.Notification(lang), Kept: c.Kept(),
	}
	if d.Kept {
		d.Expires = c.Expires()
	}
	return d
}

// ErrCampaignGap is the answer of a partition to a campaign whose predecessor in
// the app's sequence has not come yet: try again a little later.
var ErrCampaignGap = errors.New("an earlier campaign of the app has not come to the partition yet")

// Audience is whom a campaign matched in one partition, by ordinal. Safe for
// concurrent use.
type Audience interface {
	// Total returns how many accounts matched.
	Total() uint64
	// Contains reports whether the account with the ordinal is to get the message now.
	Contains(ordinal uint32) bool
	// ToNotify returns for how many of them a vendor may have something to do.
	ToNotify() uint64
}
