package actors

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// queuedRead is a read that waits. then answers the sender: with what the replica says, or the error.
type queuedRead struct {
	then   func(ctx actor.Context, sender *actor.PID, err error)
	sender *actor.PID
}

// confirm calls then once it is certain that this node still leads: another may have been elected while it hung. What comes while that is
// verified is verified together, the next time. With an error then has only that to tell.
func (p *partition) confirm(ctx actor.Context, sender *actor.PID, then func(actor.Context, *actor.PID, error)) {
	switch {
	case p.Replica.Alone():
		then(ctx, sender, nil)
	case len(p.reads) >= readsMost:
		then(ctx, sender, errBusy)
	default:
		p.reads = append(p.reads, queuedRead{then, sender})
		p.nextReads(ctx)
	}
}

// nextReads verifies for what has gathered.
func (p *partition) nextReads(ctx actor.Context) {
	if p.verifying || len(p.reads) == 0 {
		return
	}
	batch := p.reads
	p.reads = nil
	p.verifying = p.command(func(c context.Context) func(actor.Context) {
		err := p.Replica.Verify(c)
		return func(ctx actor.Context) {
			p.verifying = false
			for _, q := range batch {
				q.then(ctx, q.sender, err)
			}
			p.nextReads(ctx)
		}
	})
	if !p.verifying {
		for _, q := range batch {
			q.then(ctx, q.sender, errBusy)
		}
	}
}

// read answers with what the replica says, once that is confirmed.
func (p *partition) read(ctx actor.Context, read func() (any, error)) {
	p.confirm(ctx, ctx.Sender(), func(ctx actor.Context, sender *actor.PID, err error) {
		var answer any
		if err == nil {
			answer, err = read()
		}
		if err != nil {
			answer = failed{err}
		}
		ctx.Send(sender, answer)
	})
}

func (p *partition) onReadAccounts(ctx actor.Context, m readAccounts) {
	p.read(ctx, func() (any, error) { return p.Replica.Accounts(m.app, m.users) })
}

func (p *partition) onReadReports(ctx actor.Context, m readReports) {
	p.read(ctx, func() (any, error) { return p.Replica.Reports(m.app, m.tasks) })
}

func (p *partition) onReadCampaign(ctx actor.Context, m readCampaign) {
	p.read(ctx, func() (any, error) {
		c, err := p.Replica.Campaign(m.app, m.task)
		if err == nil && c == nil {
			err = crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(m.task)))
		}
		return c, err
	})
}

func (p *partition) onReadPresence(ctx actor.Context, m readPresence) {
	p.read(ctx, func() (any, error) { return p.presence(m) })
}

func (p *partition) presence(m readPresence) ([]crier.Presence, error) {
	accounts, err := p.Replica.Accounts(m.app, m.users)
	if err != nil {
		return nil, err
	}
	answer := make([]crier.Presence, len(m.users))
	for i, user := range m.users {
		answer[i] = crier.Presence{User: user, Exists: accounts[i] != nil, State: crier.Offline}
		if at := p.present[userKey{m.app, user}]; at != nil {
			answer[i].Sessions = at.sessions
			answer[i].State = presenceState(at.sessions)
		}
	}
	return answer, nil
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
