package actors

import (
	"context"
	"time"

	"github.com/crier-im/crier"
)

// Replica is a partition's replica on its leader: what the actors of the
// partition decide with. Commands block until they are committed and applied, or until
// ctx ends, when their outcome is unknown; each is safe to repeat. Errors are *crier.Error,
// or wrap one of the sentinels named. Reads see every command that has returned on this node, do not
// block on the network, and their results must not be changed. Safe for concurrent use.
type Replica interface {
	// Verify blocks until it is certain that this node led at a moment after the call began: what is read then is not older than
	// that. CodeTimeout: another may lead, or ctx has ended.
	Verify(ctx context.Context) error
	// Alone reports whether nobody but this node can lead, so that Verify is not needed.
	Alone() bool

	// ChangeAccounts applies the changes of one call in order, all or nothing.
	ChangeAccounts(ctx context.Context, app crier.AppID, changes []crier.Change) error
	// ChangeAccountsBatch applies several calls, one after the other, by one command. Each is all or nothing for
	// itself; the result has the error of each. A call that was applied before, as its ID tells, is not applied again, and is no error.
	ChangeAccountsBatch(ctx context.Context, calls []crier.AccountChanges) []error
	// CheckChanges tells what ChangeAccounts would answer now: refused, and the place of the first change that is; nil where all would be taken.
	CheckChanges(app crier.AppID, changes []crier.Change) (at int, refused, err error)
	// Accounts returns the accounts asked for, nil in the place of one that does not exist.
	Accounts(app crier.AppID, users []crier.UserID) ([]*crier.Account, error)

	// StartCampaign evaluates the condition at this place in the partition's log and keeps
	// the message for whom it matched, if it is to be kept. Campaigns of an app come in
	// the order of their Seq without gaps (else crier.ErrCampaignGap), but for those up to settled, which are done: where they are not here, a recovery has lost them.
	// A repeat returns the Total of the first time.
	StartCampaign(ctx context.Context, c *crier.Campaign, settled uint64) (crier.Audience, error)
	// LastCampaign returns the Seq of the last campaign of the app that was started here.
	LastCampaign(app crier.AppID) uint64
	// Acknowledge takes kept messages out of mailboxes. Unknown ones are no error.
	Acknowledge(ctx context.Context, app crier.AppID, acks []crier.Ack) error
	// Mailbox returns up to limit campaigns that wait for the account with a Seq over after, in order; fewer are all of them.
	Mailbox(app crier.AppID, ordinal uint32, after uint64, limit int) ([]*crier.Campaign, error)

	// CreateCampaign accepts a push: only at the app's home partition. It checks PushInterval, PushesPerDay,
	// MsgRandomWindow and KeptPushes of limits (CodePushTooSoon, CodePushQuota, CodePushRepeated; with the last
	// one the first campaign is returned too).
	CreateCampaign(ctx context.Context, req *crier.PushRequest, limits *crier.Limits) (*crier.Campaign, error)
	// RecordProgress stores how far a campaign is: only at the home partition.
	RecordProgress(ctx context.Context, app crier.AppID, report crier.Report) error
	// Reports returns the progress of campaigns, in the order asked; CodeUnknownTask names the first unknown one.
	Reports(app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error)
	// Settled returns up to which Seq all campaigns of the app are StatusDone: only at the home partition.
	Settled(app crier.AppID) uint64
	// Unfinished returns the campaigns that live here and are not StatusDone, by app and Seq.
	Unfinished() ([]*crier.Campaign, error)

	// Campaign returns a campaign that lives here, nil where there is none.
	Campaign(app crier.AppID, task crier.TaskID) (*crier.Campaign, error)

	// RecordOnline stores who was connected when a campaign came, and where.
	RecordOnline(ctx context.Context, app crier.AppID, seq uint64, places []crier.OnlinePlace) error
	// RecordSendings stores what went over connections. What is known of it already may be stored again.
	RecordSendings(ctx context.Context, campaigns []crier.CampaignSendings) error
	// ClaimDevice gives a token to an account and returns who had it before and may have it still, without those in
	// removed: only at the token's partition.
	ClaimDevice(ctx context.Context, app crier.AppID, vendor crier.Vendor, token string, user crier.UserID, removed []crier.UserID) ([]crier.UserID, error)
	// VendorWork returns the campaigns with accounts here that may need a notification still, in no order.
	VendorWork() ([]*crier.Campaign, error)
	// VendorTargets returns up to limit of them with an ordinal over after, ascending; -1: from the first.
	VendorTargets(app crier.AppID, seq uint64, after int64, limit int) ([]crier.VendorTarget, error)
	// VendorProgress stores what has become of some.
	VendorProgress(ctx context.Context, app crier.AppID, p *crier.VendorProgress) error
	// Funnel returns what became of those who matched here; nil where it is not known.
	Funnel(app crier.AppID, seq uint64) (*crier.Funnel, error)
	// Explain returns what became of a campaign for an account of this partition.
	Explain(c *crier.Campaign, user crier.UserID, names *crier.AttrNames) (*crier.Explanation, error)

	// NextExpiry returns when Sweep will next have something to forget; zero: nothing.
	NextExpiry() time.Time
	// Sweep forgets what has expired: mailboxes, used MsgRandoms, old reports.
	Sweep(ctx context.Context) error
}

// SystemReplica is this node's replica of the system group. Reads answer from
// memory, as of what this node has applied of the group's log: on a node that is behind they are old. Commands work on the group's
// leader only and block as Replica's do; one that comes again under its id has the outcome of the first time.
type SystemReplica interface {
	// App returns an app, nil where there is none.
	App(id crier.AppID) *crier.App
	// Index returns how far this node's replica is, an index of the group's log.
	Index() uint64
	// Verify is Replica's.
	Verify(ctx context.Context) error
	// Apps returns every app by id.
	Apps() []*crier.App
	// CreateApp adds an app; CodeBadParameter if the id is taken.
	CreateApp(ctx context.Context, id crier.CommandID, app *crier.App) error
	// UpdateApp replaces everything of an app but its attribute names; CodeUnknownApp if there is none.
	UpdateApp(ctx context.Context, id crier.CommandID, app *crier.App) error
	// SetAttrNames sets the names of slots; CodeBadAttr as crier.AttrNames.With.
	SetAttrNames(ctx context.Context, id crier.CommandID, app crier.AppID, set map[int]string) error
}

// Vendors brings notifications to devices. Safe for concurrent use.
type Vendors interface {
	// Send blocks until the vendor has answered or ctx ends, and tries once.
	Send(ctx context.Context, app *crier.App, p *crier.DevicePush) crier.Outcome
	// Lane names what notifications to the device share with others: where one fails for it, so do they. That is the
	// credential and, for Web Push, the push service.
	Lane(d *crier.Device) string
	// CheckDevice checks a registration and fills in what the app's credentials leave no choice of. Errors carry
	// CodeBadParameter and name the field.
	CheckDevice(app *crier.App, d crier.Device) (crier.Device, error)
}

// Directory finds virtual actors. Request sends msg to the actor with that kind and
// identity, activates it where it is not, and waits for its answer. Where that does not come, or is CodeTimeout, it looks up the leader
// again and sends msg once more, until ctx ends: a message may be taken more than once, and must be one that can. What fails for want of an answer is CodeTimeout. An answer
// with a method Failure comes back as that error. What goes to another node, and its answer, pass Codec.
type Directory interface {
	Request(ctx context.Context, kind, identity string, msg any) (any, error)
	// RequestEach sends each partition its message, by one message a node, and calls take once for each, one at a
	// time, with the answer or the error. It returns when all are through.
	RequestEach(ctx context.Context, messages map[crier.PartitionID]any, take func(p crier.PartitionID, answer any, err error))
	// Partitions returns P.
	Partitions() int
}

// Router is a Directory that tells when partitions move.
type Router interface {
	Directory
	// Term returns the raft term in which the partition was led last, as far as this node knows. It never falls.
	Term(p crier.PartitionID) uint64
	// News returns a channel that is closed when this node knows more of who leads partitions than at the call.
	News() <-chan struct{}
}
