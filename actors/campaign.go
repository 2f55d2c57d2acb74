package actors

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// headStart is how long a campaign waits after its caller was answered: all partitions at once take every processor of a
	// node for some ten milliseconds, and the answer, which is on its way to the caller's connection, would come after them.
	headStart = 2 * time.Millisecond
	// partitionsAtOnce is how many partitions a campaign is sent to at a time.
	partitionsAtOnce = 32
	// campaignTry bounds one attempt at a partition; it waits there for its predecessor.
	campaignTry = 3 * time.Second
	// campaignPause is the longest pause between two attempts.
	campaignPause = 2 * time.Second
	// progressEvery is how often the progress of a long campaign is stored.
	progressEvery = 500 * time.Millisecond
)

// runCampaign asks a partition to start the actor of a campaign that lives there.
type runCampaign struct{ campaign *crier.Campaign }

// appProps makes the actor that accepts the pushes of one app.
func appProps(d Deps, parent *actor.PID) *actor.Props {
	return crossingProps(d.Metrics, func() actor.Actor { return &app{Deps: d, parent: parent} })
}

// app accepts the pushes of one app. What it decides, it decides by one
// command of the log: the interval, the quota, the MsgRandom, the place.
type app struct {
	Deps
	parent   *actor.PID
	commands sync.WaitGroup
}

// Receive takes one message.
func (a *app) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Stopped:
		a.commands.Wait()
	case acceptPush:
		a.onPush(ctx, m.request)
	default:
		unknownMessage(ctx, a.Metrics)
	}
}

// onPush accepts a push and starts its campaign. The caller is answered at the commit.
func (a *app) onPush(ctx actor.Context, req *crier.PushRequest) {
	settings := a.System.App(req.App)
	switch {
	case settings == nil:
		ctx.Respond(failed{crier.Errorf(crier.CodeUnknownApp, "there is no app %d", req.App)})
		return
	case !settings.PushEnabled:
		ctx.Respond(failed{crier.Errorf(crier.CodePushOff, "push is not enabled for app %d", req.App)})
		return
	}
	sender, root, limits := ctx.Sender(), outboxOf(ctx.ActorSystem()), settings.Limits
	a.commands.Go(func() {
		c, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		campaign, err := a.Replica.CreateCampaign(c, req, &limits)
		switch {
		case err != nil && campaign != nil:
			root.Send(sender, repeated{campaign, err})
		case err != nil:
			root.Send(sender, failed{err})
		default:
			a.Metrics.campaigns.Inc()
			root.Send(sender, campaign)
			time.Sleep(headStart)
			root.Send(a.parent, runCampaign{campaign}) // where this is lost with the node, the partition's next leader finds the campaign unfinished
		}
	})
}

// campaignProps makes the actor that drives a campaign.
func campaignProps(d Deps, c *crier.Campaign) *actor.Props {
	return crossingProps(d.Metrics, func() actor.Actor {
		return &campaign{Deps: d, campaign: c, log: d.Logger.With("component", "actors", "task", c.Task.String())}
	})
}

// campaign drives one push through every partition. All that it has done is in
// the log: the partitions answer a repeat with what they answered the first time, so
// the actor can begin again on another node at any moment.
type campaign struct {
	Deps
	campaign *crier.Campaign
	log      *slog.Logger
	cancel   context.CancelFunc
	drive    sync.WaitGroup
}

// Receive takes one message.
func (a *campaign) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		c, cancel := context.WithCancel(context.Background())
		a.cancel = cancel
		self, root := ctx.Self(), ctx.ActorSystem().Root
		a.drive.Go(func() {
			a.run(c)
			if c.Err() == nil {
				root.Stop(self)
			}
		})
	case *actor.Stopping:
		a.cancel()
	case *actor.Stopped:
		a.drive.Wait()
	default:
		unknownMessage(ctx, a.Metrics)
	}
}

// progress adds up what the partitions answer.
type progress struct {
	mu     sync.Mutex
	report crier.Report
}

func (p *progress) add(total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Total += total
	p.report.Finished += total
}

func (p *progress) now() crier.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report
}

// run ends when every partition has answered and that is stored, or c ends.
func (a *campaign) run(c context.Context) {
	p := &progress{report: crier.Report{Task: a.campaign.Task, Status: crier.StatusRunning, Started: a.started()}}
	finished := make(chan struct{})
	a.drive.Go(func() { a.storeWhile(c, finished, p) })
	slots := make(chan struct{}, partitionsAtOnce)
	var partitions sync.WaitGroup
	for i := range a.Directory.Partitions() {
		partitions.Go(func() {
			if total, ok := a.partition(c, i, slots); ok {
				p.add(total)
			}
		})
	}
	partitions.Wait()
	close(finished)
	if c.Err() == nil {
		report := p.now()
		report.Status = crier.StatusDone
		a.store(c, report)
	}
}

// started is when the campaign began: now, unless it had begun before its actor moved.
func (a *campaign) started() time.Time {
	reports, err := a.Replica.Reports(a.campaign.App, []crier.TaskID{a.campaign.Task})
	if err == nil && !reports[0].Started.IsZero() {
		return reports[0].Started
	}
	return time.Now().UTC().Truncate(time.Millisecond)
}

// partition sends the campaign to one partition until that has answered. It holds a slot while it asks, not between: partitions that can't take it hold up no others.
func (a *campaign) partition(c context.Context, p int, slots chan struct{}) (total uint64, ok bool) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, campaignPause) {
		slots <- struct{}{}
		try, cancel := context.WithTimeout(c, campaignTry)
		answer, err := a.Directory.Request(try, crier.KindPartition, strconv.Itoa(p), startCampaign{a.campaign, a.Replica.Settled(a.campaign.App)})
		cancel()
		<-slots
		if s, ok := answer.(started); err == nil && ok {
			return s.total, true
		}
		if pause == campaignPause {
			a.log.Warn("a partition does not take the campaign yet", "partition", p, "err", err)
		}
		select {
		case <-c.Done():
			return 0, false
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// storeWhile stores that the campaign runs, and its progress if it takes long.
// Receivers don't wait for it: what comes after the end is ignored by the log.
func (a *campaign) storeWhile(c context.Context, finished <-chan struct{}, p *progress) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	last := p.now()
	a.store(c, last)
	for {
		select {
		case <-finished:
			return
		case <-c.Done():
			return
		case <-tick.C:
			if now := p.now(); now != last {
				last = now
				a.store(c, now)
			}
		}
	}
}

// store writes the progress, and goes on trying: a report that is never done would
// be driven again at every start.
func (a *campaign) store(c context.Context, report crier.Report) {
	for pause := 10 * time.Millisecond; c.Err() == nil; pause = min(2*pause, campaignPause) {
		try, cancel := context.WithTimeout(c, commandTimeout)
		err := a.Replica.RecordProgress(try, a.campaign.App, report)
		cancel()
		if err == nil {
			return
		}
		if c.Err() == nil {
			a.log.Warn("progress can't be stored yet", "err", err)
		}
		select {
		case <-c.Done():
		case <-time.After(pause):
		}
	}
}
