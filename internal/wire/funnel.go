package wire

import (
	"github.com/crier-im/crier"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// FromFunnel returns the protobuf form; nil for nil.
func FromFunnel(f *crier.Funnel) *typesv1.Funnel {
	if f == nil {
		return nil
	}
	v := &f.Vendor
	return &typesv1.Funnel{
		Matched: f.Matched, Online: f.Online, Kept: f.Kept, Acknowledged: f.Acknowledged, Later: f.Later,
		Expired: f.Expired, Deleted: f.Deleted, Waiting: f.Waiting,
		Vendor: &typesv1.VendorFunnel{
			Wanted: v.Wanted, NoDevice: v.NoDevice, Accepted: v.Accepted, NotNeeded: v.NotNeeded, Failed: v.Failed,
			Expired: v.Expired, Deleted: v.Deleted, ToDo: v.ToDo,
		},
	}
}

// ToFunnel returns the funnel; nil for nil.
func ToFunnel(p *typesv1.Funnel) *crier.Funnel {
	if p == nil {
		return nil
	}
	v := p.GetVendor()
	return &crier.Funnel{
		Matched: p.GetMatched(), Online: p.GetOnline(), Kept: p.GetKept(), Acknowledged: p.GetAcknowledged(), Later: p.GetLater(),
		Expired: p.GetExpired(), Deleted: p.GetDeleted(), Waiting: p.GetWaiting(),
		Vendor: crier.VendorFunnel{
			Wanted: v.GetWanted(), NoDevice: v.GetNoDevice(), Accepted: v.GetAccepted(), NotNeeded: v.GetNotNeeded(), Failed: v.GetFailed(),
			Expired: v.GetExpired(), Deleted: v.GetDeleted(), ToDo: v.GetToDo(),
		},
	}
}

// FromExplanation returns the protobuf form.
func FromExplanation(e *crier.Explanation) *typesv1.Explanation {
	p := &typesv1.Explanation{
		Task: string(e.Task), User: string(e.User), Exists: e.Exists, Known: e.Known, Matched: e.Matched, Because: e.Because,
		Changed: e.Changed, Online: e.Online, Delivery: e.Delivery, Vendor: e.Vendor, LeaderSinceNs: fromNanos(e.LeaderSince),
		SendingsMissing: e.SendingsMissing,
	}
	for _, place := range e.Connected {
		p.Connected = append(p.Connected, fromPlace(place))
	}
	for _, s := range e.Sendings {
		p.Sendings = append(p.Sendings, &typesv1.Sending{
			TimeNs: fromNanos(s.Time), Session: string(s.Session), Place: fromPlace(s.Place), Mailbox: s.Mailbox, AcknowledgedNs: fromNanos(s.Acked),
		})
	}
	for _, a := range e.Attempts {
		p.Attempts = append(p.Attempts, &typesv1.Attempt{
			Ordinal: a.Ordinal, TimeNs: fromNanos(a.Time), Vendor: string(a.Vendor), Device: a.Device,
			Outcome: a.Outcome, Reason: a.Reason, Tries: uint32(a.Tries),
		})
	}
	return p
}

// ToExplanation returns the explanation.
func ToExplanation(p *typesv1.Explanation) *crier.Explanation {
	e := &crier.Explanation{
		Task: crier.TaskID(p.GetTask()), User: crier.UserID(p.GetUser()), Exists: p.GetExists(), Known: p.GetKnown(),
		Matched: p.GetMatched(), Because: p.GetBecause(), Changed: p.GetChanged(), Online: p.GetOnline(),
		Delivery: p.GetDelivery(), Vendor: p.GetVendor(), LeaderSince: toNanos(p.GetLeaderSinceNs()),
		SendingsMissing: p.GetSendingsMissing(),
	}
	for _, place := range p.GetConnected() {
		e.Connected = append(e.Connected, toPlace(place))
	}
	for _, s := range p.GetSendings() {
		e.Sendings = append(e.Sendings, crier.Sending{
			Time: toNanos(s.GetTimeNs()), Session: crier.SessionID(s.GetSession()), Place: toPlace(s.GetPlace()),
			Mailbox: s.GetMailbox(), Acked: toNanos(s.GetAcknowledgedNs()),
		})
	}
	for _, a := range p.GetAttempts() {
		e.Attempts = append(e.Attempts, crier.Attempt{
			Ordinal: a.GetOrdinal(), Time: toNanos(a.GetTimeNs()), Vendor: crier.Vendor(a.GetVendor()), Device: a.GetDevice(),
			Outcome: a.GetOutcome(), Reason: a.GetReason(), Tries: int(a.GetTries()),
		})
	}
	return e
}

func fromPlace(p crier.Place) *typesv1.Place {
	return &typesv1.Place{Node: p.Node, Platform: string(p.Platform), State: string(p.State)}
}

func toPlace(p *typesv1.Place) crier.Place {
	return crier.Place{Node: p.GetNode(), Platform: crier.Platform(p.GetPlatform()), State: crier.PresenceState(p.GetState())}
}
