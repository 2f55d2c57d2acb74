package actors

import (
	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// encodeLive sets the kind of b to what sessions and users send one another; another message leaves it.
func encodeLive(b *actorv1.Body, msg any) error {
	switch m := msg.(type) {
	case attachSession:
		if m.login == nil {
			return errIncomplete
		}
		b.Kind = &actorv1.Body_AttachSession{AttachSession: &actorv1.AttachSession{
			Login: wire.FromLogin(m.login), Session: fromPID(m.session), Cursor: m.cursor, Unacked: m.unacked, Again: m.again,
		}}
	case *crier.Delivery:
		if m == nil {
			return errIncomplete
		}
		b.Kind = &actorv1.Body_Delivery{Delivery: wire.FromDelivery(m)}
	case acknowledge:
		b.Kind = &actorv1.Body_Acknowledge{Acknowledge: &actorv1.Acknowledge{Session: string(m.session), Seqs: m.seqs, Cumulative: m.cumulative}}
	case moveSession:
		b.Kind = &actorv1.Body_MoveSession{MoveSession: &actorv1.MoveSession{
			Session: string(m.session), Background: m.background, Unread: int64(m.unread),
		}}
	case confirmSession:
		b.Kind = &actorv1.Body_ConfirmSession{ConfirmSession: &actorv1.ConfirmSession{Session: string(m.session)}}
	case detachSession:
		b.Kind = &actorv1.Body_DetachSession{DetachSession: &actorv1.DetachSession{Session: string(m.session)}}
	case closeSession:
		b.Kind = &actorv1.Body_CloseSession{CloseSession: &actorv1.CloseSession{Reason: string(m.reason)}}
	case sessionForgotten:
		b.Kind = &actorv1.Body_SessionForgotten{SessionForgotten: &actorv1.SessionForgotten{User: fromPID(m.user)}}
	case fanout:
		b.Kind = &actorv1.Body_Fanout{Fanout: fromFanout(m)}
	case fanoutTaken:
		b.Kind = &actorv1.Body_FanoutTaken{FanoutTaken: &actorv1.FanoutTaken{Missing: m.missing}}
	}
	return nil
}

// decodeLive returns what sessions and users send one another, nil for another message.
func decodeLive(b *actorv1.Body) (any, error) {
	switch k := b.GetKind().(type) {
	case *actorv1.Body_AttachSession:
		m := k.AttachSession
		if m.GetLogin() == nil {
			return nil, errIncomplete
		}
		session, err := toPID(m.GetSession())
		return attachSession{wire.ToLogin(m.GetLogin()), session, m.GetCursor(), m.GetUnacked(), m.GetAgain()}, err
	case *actorv1.Body_Delivery:
		return wire.ToDelivery(k.Delivery), nil
	case *actorv1.Body_Acknowledge:
		m := k.Acknowledge
		return acknowledge{crier.SessionID(m.GetSession()), m.GetSeqs(), m.GetCumulative()}, nil
	case *actorv1.Body_MoveSession:
		m := k.MoveSession
		return moveSession{crier.SessionID(m.GetSession()), m.GetBackground(), int(m.GetUnread())}, nil
	case *actorv1.Body_ConfirmSession:
		return confirmSession{crier.SessionID(k.ConfirmSession.GetSession())}, nil
	case *actorv1.Body_DetachSession:
		return detachSession{crier.SessionID(k.DetachSession.GetSession())}, nil
	case *actorv1.Body_CloseSession:
		return closeSession{crier.CloseReason(k.CloseSession.GetReason())}, nil
	case *actorv1.Body_SessionForgotten:
		user, err := toPID(k.SessionForgotten.GetUser())
		return sessionForgotten{user}, err
	case *actorv1.Body_Fanout:
		return toFanout(k.Fanout)
	case *actorv1.Body_FanoutTaken:
		return fanoutTaken{k.FanoutTaken.GetMissing()}, nil
	}
	return nil, nil
}

func fromFanout(m fanout) *actorv1.Fanout {
	p := &actorv1.Fanout{Bodies: m.bodies}
	for _, l := range m.letters {
		p.Sessions, p.Places = append(p.Sessions, l.session), append(p.Places, uint32(l.body))
	}
	return p
}

func toFanout(p *actorv1.Fanout) (any, error) {
	if len(p.GetSessions()) != len(p.GetPlaces()) {
		return nil, errIncomplete
	}
	m := fanout{bodies: p.GetBodies()}
	for i, session := range p.GetSessions() {
		m.letters = append(m.letters, letter{session, int(p.GetPlaces()[i])})
	}
	return m, nil
}
