package actors

import (
	"context"
	"errors"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// queuedExplain is an explanation that waits until what went over connections so far is recorded.
type queuedExplain struct {
	explain
	sender *actor.PID
}

func (p *partition) onExplain(ctx actor.Context, m explain) {
	if len(p.explaining) >= readsMost {
		ctx.Respond(failed{errBusy})
		return
	}
	p.explaining = append(p.explaining, queuedExplain{m, ctx.Sender()})
	p.onRecord(ctx)
}

// onRecord records what went over connections, by a command of the log, and then answers the explanations that wait for it. What can't be
// recorded now is tried again.
func (p *partition) onRecord(ctx actor.Context) {
	if p.recording {
		return // what has come meanwhile follows
	}
	waiting := p.explaining
	p.explaining = nil
	taken := p.recorder.take()
	if len(taken) == 0 {
		p.answer(ctx, waiting)
		return
	}
	p.recording = p.command(func(c context.Context) func(actor.Context) {
		err := p.Replica.RecordSendings(c, toRecord(taken))
		return func(ctx actor.Context) {
			p.recording = false
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					p.log.Warn("what went over connections can't be recorded yet", "err", err)
				}
				p.recorder.back(taken)
			}
			p.answer(ctx, waiting)
			if len(p.explaining) > 0 {
				p.onRecord(ctx)
			}
		}
	})
	if !p.recording {
		p.recorder.back(taken)
		p.answer(ctx, waiting)
	}
}

// answer answers explanations, once it is confirmed that this node leads.
func (p *partition) answer(ctx actor.Context, waiting []queuedExplain) {
	for _, q := range waiting {
		p.confirm(ctx, q.sender, func(ctx actor.Context, sender *actor.PID, err error) {
			var e *crier.Explanation
			if err == nil {
				e, err = p.explain(q.explain)
			}
			if err != nil {
				ctx.Send(sender, failed{err})
				return
			}
			ctx.Send(sender, e)
		})
	}
}

func (p *partition) explain(m explain) (*crier.Explanation, error) {
	var names *crier.AttrNames
	if app := p.System.App(m.campaign.App); app != nil {
		names = &app.AttrNames
	}
	e, err := p.Replica.Explain(m.campaign, m.user, names)
	if err != nil {
		return nil, err
	}
	e.LeaderSince = p.since.UTC()
	return e, nil
}
