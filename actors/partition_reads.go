package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

func (p *partition) onReadAccounts(ctx actor.Context, m readAccounts) {
	accounts, err := p.Replica.Accounts(m.app, m.users)
	respond(ctx, accounts, err)
}

func (p *partition) onReadReports(ctx actor.Context, m readReports) {
	reports, err := p.Replica.Reports(m.app, m.tasks)
	respond(ctx, reports, err)
}

func (p *partition) onReadCampaign(ctx actor.Context, m readCampaign) {
	c, err := p.Replica.Campaign(m.app, m.task)
	if err == nil && c == nil {
		err = crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(m.task)))
	}
	respond(ctx, c, err)
}

func (p *partition) onExplain(ctx actor.Context, m explain) {
	var names *crier.AttrNames
	if app := p.System.App(m.campaign.App); app != nil {
		names = &app.AttrNames
	}
	e, err := p.Replica.Explain(m.campaign, m.user, names)
	if err != nil {
		ctx.Respond(failed{err})
		return
	}
	e.Remembered = p.since.UTC()
	key := userKey{m.campaign.App, m.user}
	if pid := p.users[key]; pid != nil {
		ctx.Send(pid, recall{m.campaign.Seq, e, ctx.Sender()})
		return
	}
	sent, _ := p.left.Peek(key)
	e.Sendings = sent.of(m.campaign.Seq)
	ctx.Respond(e)
}

func respond(ctx actor.Context, answer any, err error) {
	if err != nil {
		answer = failed{err}
	}
	ctx.Respond(answer)
}

func (p *partition) onReadPresence(ctx actor.Context, m readPresence) {
	accounts, err := p.Replica.Accounts(m.app, m.users)
	if err != nil {
		ctx.Respond(failed{err})
		return
	}
	answer := make([]crier.Presence, len(m.users))
	for i, user := range m.users {
		answer[i] = crier.Presence{User: user, Exists: accounts[i] != nil, State: crier.Offline}
		if at := p.present[userKey{m.app, user}]; at != nil {
			answer[i].Sessions = at.sessions
			answer[i].State = presenceState(at.sessions)
		}
	}
	ctx.Respond(answer)
}

// presenceState is that of the most reachable session.
func presenceState(sessions []crier.SessionPresence) crier.PresenceState {
	state := crier.Offline
	for _, s := range sessions {
		if s.State == crier.Online {
			return crier.Online
		}
		state = s.State
	}
	return state
}
