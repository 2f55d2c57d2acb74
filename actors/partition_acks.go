package actors

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// onAcknowledged gathers acknowledgements.
func (p *partition) onAcknowledged(m acknowledged) {
	acks := append(p.acks[m.app], m.ack)
	if len(acks) > acksKept {
		acks = acks[len(acks)-acksKept:]
	}
	p.acks[m.app] = acks
	if len(acks) == acksMost {
		p.onFlush()
	} else if !p.flushing {
		p.flushing = true
		p.after(ackDelay, flushTick{})
	}
}

// onFlush proposes what has gathered, a command an app. What fails is proposed
// again a second later.
func (p *partition) onFlush() {
	p.flushing = false
	for app, acks := range p.acks {
		n := min(len(acks), acksMost)
		batch := acks[:n:n] // what is appended to it must not come over the acknowledgements after it
		ok := p.command(func(c context.Context) func(actor.Context) {
			err := p.Replica.Acknowledge(c, app, batch)
			return func(actor.Context) { p.onFlushed(app, batch, err) }
		})
		if !ok {
			p.retryFlush()
			return
		}
		if p.acks[app] = acks[len(batch):]; len(p.acks[app]) == 0 {
			delete(p.acks, app)
		} else {
			p.retryFlush()
		}
	}
}

func (p *partition) onFlushed(app crier.AppID, batch []crier.Ack, err error) {
	if err == nil {
		p.Metrics.acks.Add(float64(len(batch)))
		if len(p.acks[app]) >= acksMost { // a backlog
			p.onFlush()
		}
		return
	}
	if !errors.Is(err, context.Canceled) {
		p.log.Warn("acknowledgements wait for the log", "app", app, "count", len(batch), "err", err)
	}
	p.acks[app] = append(batch, p.acks[app]...)
	p.retryFlush()
}

func (p *partition) retryFlush() {
	if !p.flushing {
		p.flushing = true
		p.after(time.Second, flushTick{})
	}
}
