package actors

import (
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// encodeRequest sets the kind of b to a request to the actors of a partition; another message leaves it.
func encodeRequest(b *actorv1.Body, msg any) error {
	switch m := msg.(type) {
	case changeAccounts:
		b.Kind = &actorv1.Body_ChangeAccounts{ChangeAccounts: &actorv1.ChangeAccounts{Calls: fromCalls(m.calls)}}
	case checkChanges:
		b.Kind = &actorv1.Body_CheckChanges{CheckChanges: &actorv1.CheckChanges{Calls: fromCalls(m.calls)}}
	case readAccounts:
		b.Kind = &actorv1.Body_ReadAccounts{ReadAccounts: &actorv1.ReadAccounts{App: uint32(m.app), Users: fromTexts(m.users)}}
	case readPresence:
		b.Kind = &actorv1.Body_ReadPresence{ReadPresence: &actorv1.ReadPresence{App: uint32(m.app), Users: fromTexts(m.users)}}
	case readReports:
		b.Kind = &actorv1.Body_ReadReports{ReadReports: &actorv1.ReadReports{App: uint32(m.app), Tasks: fromTexts(m.tasks)}}
	case readFunnel:
		b.Kind = &actorv1.Body_ReadFunnel{ReadFunnel: &actorv1.ReadFunnel{App: uint32(m.app), Seq: m.seq}}
	case readCampaign:
		b.Kind = &actorv1.Body_ReadCampaign{ReadCampaign: &actorv1.ReadCampaign{App: uint32(m.app), Task: string(m.task)}}
	case explain:
		b.Kind = &actorv1.Body_Explain{Explain: &actorv1.Explain{Campaign: fromCampaign(m.campaign), User: string(m.user)}}
	case claimDevice:
		b.Kind = &actorv1.Body_ClaimDevice{ClaimDevice: &actorv1.ClaimDevice{
			App: uint32(m.app), Vendor: string(m.vendor), Token: m.token, User: string(m.user), Removed: fromTexts(m.removed),
		}}
	case startCampaign:
		b.Kind = &actorv1.Body_StartCampaign{StartCampaign: &actorv1.StartCampaign{Campaign: fromCampaign(m.campaign), Settled: m.settled}}
	case acceptPush:
		b.Kind = &actorv1.Body_AcceptPush{AcceptPush: fromPush(m.request)}
	}
	return nil
}

// decodeRequest returns a request to the actors of a partition, nil for another message.
func decodeRequest(b *actorv1.Body) (any, error) {
	switch k := b.GetKind().(type) {
	case *actorv1.Body_ChangeAccounts:
		return changeAccounts{toCalls(k.ChangeAccounts.GetCalls())}, nil
	case *actorv1.Body_CheckChanges:
		return checkChanges{toCalls(k.CheckChanges.GetCalls())}, nil
	case *actorv1.Body_ReadAccounts:
		return readAccounts{crier.AppID(k.ReadAccounts.GetApp()), texts[crier.UserID](k.ReadAccounts.GetUsers())}, nil
	case *actorv1.Body_ReadPresence:
		return readPresence{crier.AppID(k.ReadPresence.GetApp()), texts[crier.UserID](k.ReadPresence.GetUsers())}, nil
	case *actorv1.Body_ReadReports:
		return readReports{crier.AppID(k.ReadReports.GetApp()), texts[crier.TaskID](k.ReadReports.GetTasks())}, nil
	case *actorv1.Body_ReadFunnel:
		return readFunnel{crier.AppID(k.ReadFunnel.GetApp()), k.ReadFunnel.GetSeq()}, nil
	case *actorv1.Body_ReadCampaign:
		return readCampaign{crier.AppID(k.ReadCampaign.GetApp()), crier.TaskID(k.ReadCampaign.GetTask())}, nil
	case *actorv1.Body_Explain:
		campaign, err := toCampaign(k.Explain.GetCampaign())
		return explain{campaign, crier.UserID(k.Explain.GetUser())}, err
	case *actorv1.Body_ClaimDevice:
		m := k.ClaimDevice
		return claimDevice{
			crier.AppID(m.GetApp()), crier.Vendor(m.GetVendor()), m.GetToken(), crier.UserID(m.GetUser()), texts[crier.UserID](m.GetRemoved()),
		}, nil
	case *actorv1.Body_StartCampaign:
		campaign, err := toCampaign(k.StartCampaign.GetCampaign())
		return startCampaign{campaign, k.StartCampaign.GetSettled()}, err
	case *actorv1.Body_AcceptPush:
		request, err := toPush(k.AcceptPush)
		return acceptPush{request}, err
	}
	return nil, nil
}

func fromCalls(calls []crier.AccountChanges) []*actorv1.AccountChanges {
	var p []*actorv1.AccountChanges
	for i := range calls {
		c := &actorv1.AccountChanges{App: uint32(calls[i].App), Id: wire.FromCommandID(calls[i].ID)}
		for j := range calls[i].Changes {
			c.Changes = append(c.Changes, wire.FromChange(&calls[i].Changes[j]))
		}
		p = append(p, c)
	}
	return p
}

func toCalls(p []*actorv1.AccountChanges) []crier.AccountChanges {
	var calls []crier.AccountChanges
	for _, c := range p {
		call := crier.AccountChanges{App: crier.AppID(c.GetApp()), ID: wire.ToCommandID(c.GetId())}
		for _, change := range c.GetChanges() {
			call.Changes = append(call.Changes, wire.ToChange(change))
		}
		calls = append(calls, call)
	}
	return calls
}

// fromCampaign returns the protobuf form; nil for nil.
func fromCampaign(c *crier.Campaign) *typesv1.Campaign {
	if c == nil {
		return nil
	}
	return wire.FromCampaign(c)
}

// toCampaign returns the campaign, which must be there.
func toCampaign(p *typesv1.Campaign) (*crier.Campaign, error) {
	if p == nil {
		return nil, errIncomplete
	}
	return wire.ToCampaign(p), nil
}

func fromPush(r *crier.PushRequest) *actorv1.AcceptPush {
	if r == nil {
		return new(actorv1.AcceptPush)
	}
	return &actorv1.AcceptPush{
		Push: &typesv1.Campaign{
			App: uint32(r.App), Random: r.Random, Message: wire.FromMessage(&r.Message), Condition: wire.FromCondition(&r.Condition),
			LifeTimeS: uint32(r.LifeTime / time.Second),
		},
		RequestId: r.RequestID,
	}
}

func toPush(p *actorv1.AcceptPush) (*crier.PushRequest, error) {
	c, err := toCampaign(p.GetPush())
	if err != nil {
		return nil, err
	}
	return &crier.PushRequest{
		App: c.App, Random: c.Random, Message: c.Message, Condition: c.Condition, LifeTime: c.LifeTime, RequestID: p.GetRequestId(),
	}, nil
}
