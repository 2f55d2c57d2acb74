package actors

import (
	"context"
	"errors"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// onChangeAccounts queues changes. While enough commands are on their way, later
// requests gather for the next one: a call over many accounts has a few in every partition, and
// what a command costs does not depend on how many changes are in it.
func (p *partition) onChangeAccounts(ctx actor.Context, m changeAccounts) {
	q := queuedChanges{calls: m.calls, sender: ctx.Sender()}
	for _, c := range m.calls {
		q.size += len(c.Changes)
	}
	if p.changesQueued+q.size > changesMost {
		ctx.Respond(failed{errBusy})
		return
	}
	p.changesQueued += q.size
	p.changes = append(p.changes, q)
	p.nextChanges()
}

// nextChanges proposes what has gathered. Active users are told before the callers.
func (p *partition) nextChanges() {
	if p.changing == changesAtOnce || len(p.changes) == 0 {
		return
	}
	n, size := 0, 0
	var calls []crier.AccountChanges
	for n < len(p.changes) && (n == 0 || size+p.changes[n].size <= changesBatch) {
		size += p.changes[n].size
		calls = append(calls, p.changes[n].calls...)
		n++
	}
	batch := p.changes[:n:n]
	taken := p.command(func(c context.Context) func(actor.Context) {
		errs := p.Replica.ChangeAccountsBatch(c, calls)
		return func(ctx actor.Context) {
			p.changing--
			p.onChanged(ctx, batch, errs)
			p.nextChanges()
		}
	})
	p.changes = p.changes[n:]
	p.changesQueued -= size
	if taken {
		p.changing++
		return
	}
	for _, q := range batch {
		p.root.Send(q.sender, failed{errBusy})
	}
}

func (p *partition) onChanged(ctx actor.Context, batch []queuedChanges, errs []error) {
	for _, q := range batch {
		own := errs[:len(q.calls)]
		errs = errs[len(q.calls):]
		var again error // the command may not have been taken: the directory sends it once more
		for i, err := range own {
			switch {
			case err == nil:
				p.tellUsers(ctx, &q.calls[i])
			case errors.Is(err, crier.CodeTimeout):
				again = err
			}
		}
		if again != nil {
			ctx.Send(q.sender, failed{again})
			continue
		}
		ctx.Send(q.sender, changed{own})
	}
}

// tellUsers ends the sessions of accounts that were kicked or deleted.
func (p *partition) tellUsers(ctx actor.Context, call *crier.AccountChanges) {
	for i := range call.Changes {
		c := &call.Changes[i]
		pid := p.users[userKey{call.App, c.User}]
		if pid == nil {
			continue
		}
		switch c.Op {
		case crier.OpKick:
			ctx.Send(pid, endSessions{crier.CloseKicked})
		case crier.OpDelete:
			ctx.Send(pid, endSessions{crier.CloseDeleted})
			p.absent(userKey{call.App, c.User})
		}
	}
}

// onCheckChanges tells of each call whether it would be taken now.
func (p *partition) onCheckChanges(ctx actor.Context, m checkChanges) {
	answer := checked{make([]refusal, len(m.calls))}
	for i := range m.calls {
		at, refused, err := p.Replica.CheckChanges(m.calls[i].App, m.calls[i].Changes)
		if err != nil {
			ctx.Respond(failed{err})
			return
		}
		answer.refusals[i] = refusal{at, refused}
	}
	ctx.Respond(answer)
}
