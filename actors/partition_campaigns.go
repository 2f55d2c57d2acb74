package actors

import (
	"context"
	"errors"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// onStartCampaign proposes the campaign, once its predecessor is through.
func (p *partition) onStartCampaign(ctx actor.Context, m startCampaign) {
	app := m.campaign.App
	q := p.queues[app]
	if q == nil {
		q = &campaignQueue{parked: make(map[uint64]*campaignStart)}
		p.queues[app] = q
	}
	start := &campaignStart{m, ctx.Sender()}
	if !start.follows(p.Replica.LastCampaign(app)) && q.parked[m.campaign.Seq] == nil && len(q.parked) >= parkedMost {
		ctx.Respond(failed{errBusy})
		return
	}
	q.parked[m.campaign.Seq] = start // one that can go has room: all others wait for it
	p.nextCampaign(ctx, app, q)
}

// nextCampaign takes one that can go: the next in sequence, or one that was
// started before and only asks again.
func (p *partition) nextCampaign(ctx actor.Context, app crier.AppID, q *campaignQueue) {
	if q.running {
		return
	}
	last := p.Replica.LastCampaign(app)
	var start *campaignStart
	for _, s := range q.parked {
		if s.follows(last) && (start == nil || s.campaign.Seq < start.campaign.Seq) {
			start = s
		}
	}
	if start == nil {
		return
	}
	delete(q.parked, start.campaign.Seq)
	q.running = p.command(func(c context.Context) func(actor.Context) {
		audience, err := p.Replica.StartCampaign(c, start.campaign, start.settled)
		return func(ctx actor.Context) {
			q.running = false
			p.onCampaignStarted(ctx, start, audience, err)
			p.nextCampaign(ctx, app, q)
		}
	})
	if !q.running {
		ctx.Send(start.sender, failed{errBusy})
	}
}

// onCampaignStarted hands the message to who is online. One delivery is shared by all.
func (p *partition) onCampaignStarted(ctx actor.Context, s *campaignStart, audience crier.Audience, err error) {
	if err != nil {
		ctx.Send(s.sender, failed{err})
		return
	}
	p.Metrics.matched.Add(float64(audience.Total()))
	var message *deliver
	all := p.online[s.campaign.App]
	online := make([]*sessionsChanged, 0, min(uint64(len(all)), audience.Total()))
	for ordinal, at := range all {
		if !audience.Contains(ordinal) {
			continue
		}
		online = append(online, at)
		if message == nil {
			message = &deliver{crier.NewDelivery(s.campaign, p.language(s.campaign.App))}
		}
		ctx.Send(at.pid, message)
	}
	ctx.Send(s.sender, started{audience.Total()})
	p.recordOnline(s.campaign, online)
	if audience.ToNotify() > 0 {
		p.notify(s.campaign)
	}
}

// recordOnline stores who was connected, and where, for reports and explanations; receivers don't wait for it.
func (p *partition) recordOnline(c *crier.Campaign, online []*sessionsChanged) {
	if len(online) == 0 {
		return
	}
	p.command(func(ctx context.Context) func(actor.Context) {
		if err := p.Replica.RecordOnline(ctx, c.App, c.Seq, placesOf(online)); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Warn("who was connected could not be stored", "task", c.Task, "err", err)
		}
		return func(actor.Context) {}
	})
}

// placesOf groups accounts by where they are connected: a bitmap for each place is smaller than a place for each account.
func placesOf(online []*sessionsChanged) (places []crier.OnlinePlace) {
	index, last := make(map[crier.Place]int), 0
	for _, at := range online {
		for _, s := range at.sessions {
			place := placeOf(s)
			i := last // most are where the one before was
			if len(places) == 0 || places[i].Place != place {
				var ok bool
				if i, ok = index[place]; !ok {
					i = len(places)
					index[place], places = i, append(places, crier.OnlinePlace{Place: place})
				}
				last = i
			}
			places[i].Ordinals = append(places[i].Ordinals, at.ordinal)
		}
	}
	return places
}

func placeOf(s crier.SessionPresence) crier.Place {
	return crier.Place{Node: s.Node, Platform: s.Platform, State: s.State}
}

func (p *partition) language(app crier.AppID) crier.Language {
	if a := p.System.App(app); a != nil {
		return a.Language
	}
	return ""
}

// onRunCampaign starts the actor that drives a campaign.
func (p *partition) onRunCampaign(ctx actor.Context, m runCampaign) {
	if p.campaigns[m.campaign.Task] == nil {
		p.campaigns[m.campaign.Task] = ctx.Spawn(campaignProps(p.Deps, m.campaign))
	}
}
