package wire

import (
	"time"

	"github.com/crier-im/crier"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// FromLogin returns the protobuf form.
func FromLogin(l *crier.Login) *typesv1.Login {
	return &typesv1.Login{
		App: uint32(l.App), User: string(l.User), Session: string(l.Session), Platform: string(l.Platform), SigTimeNs: fromNanos(l.SigTime),
		Node: l.Node, Instance: l.Instance, Attempt: l.Attempt,
	}
}

// ToLogin returns the login.
func ToLogin(p *typesv1.Login) *crier.Login {
	return &crier.Login{
		App: crier.AppID(p.GetApp()), User: crier.UserID(p.GetUser()), Session: crier.SessionID(p.GetSession()),
		Node: p.GetNode(), Platform: crier.Platform(p.GetPlatform()), SigTime: toNanos(p.GetSigTimeNs()),
		Instance: p.GetInstance(), Attempt: p.GetAttempt(),
	}
}

// FromDelivery returns the protobuf form.
func FromDelivery(d *crier.Delivery) *typesv1.Delivery {
	return &typesv1.Delivery{
		App: uint32(d.App), Task: string(d.Task), Seq: d.Seq, From: string(d.From), AcceptedMs: fromTime(d.Accepted),
		Elements: fromElements(d.Elements),
		Notification: &typesv1.Notification{
			Title: d.Notification.Title, Text: d.Notification.Text, Ext: d.Notification.Ext, Sound: d.Notification.Sound,
		},
		Kept: d.Kept, ExpiresMs: fromTime(d.Expires), FromMailbox: d.FromMailbox,
	}
}

// ToDelivery returns the delivery.
func ToDelivery(p *typesv1.Delivery) *crier.Delivery {
	n := p.GetNotification()
	return &crier.Delivery{
		App: crier.AppID(p.GetApp()), Task: crier.TaskID(p.GetTask()), Seq: p.GetSeq(), From: crier.UserID(p.GetFrom()),
		Accepted: toTime(p.GetAcceptedMs()), Elements: toElements(p.GetElements()),
		Notification: crier.Notification{Title: n.GetTitle(), Text: n.GetText(), Ext: n.GetExt(), Sound: n.GetSound()},
		Kept:         p.GetKept(), Expires: toTime(p.GetExpiresMs()), FromMailbox: p.GetFromMailbox(),
	}
}

// FromPresence returns the protobuf form.
func FromPresence(x *crier.Presence) *typesv1.Presence {
	p := &typesv1.Presence{User: string(x.User), Exists: x.Exists, State: string(x.State)}
	for _, s := range x.Sessions {
		p.Sessions = append(p.Sessions, &typesv1.SessionPresence{
			Id: string(s.ID), Node: s.Node, Platform: string(s.Platform), State: string(s.State), SinceNs: fromNanos(s.Since),
		})
	}
	return p
}

// ToPresence returns the presence.
func ToPresence(p *typesv1.Presence) crier.Presence {
	x := crier.Presence{User: crier.UserID(p.GetUser()), Exists: p.GetExists(), State: crier.PresenceState(p.GetState())}
	for _, s := range p.GetSessions() {
		x.Sessions = append(x.Sessions, crier.SessionPresence{
			ID: crier.SessionID(s.GetId()), Node: s.GetNode(), Platform: crier.Platform(s.GetPlatform()),
			State: crier.PresenceState(s.GetState()), Since: toNanos(s.GetSinceNs()),
		})
	}
	return x
}

// fromNanos returns Unix nanoseconds, 0 for the zero time.
func fromNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func toNanos(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
