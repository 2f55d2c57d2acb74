package actors

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// notifyChunk is how many accounts a partition notifies at a time: after each chunk the log has what became of
	// them, so that a crash repeats one chunk at most.
	notifyChunk = 64
	// firstRetry and lastRetry bound the pause before those that a vendor did not take are tried again.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// unknownTries is how often an answer that no document has is tried again.
	unknownTries = 3
	// DefaultGrace is how long sessions have to come back after a partition has come to lead, before
	// vendors are told of who seems to be away.
	DefaultGrace = 5 * time.Second
	// reasonExpired is that of a target whose message's time is over.
	reasonExpired = "Expired"
)

// whoIsConnected asks the partition's actor for the sessions of accounts. reply has room for the answer.
type whoIsConnected struct {
	app      crier.AppID
	ordinals []uint32
	reply    chan<- map[uint32][]crier.SessionPresence
}

func (p *partition) onWhoIsConnected(m whoIsConnected) {
	answer := make(map[uint32][]crier.SessionPresence)
	for _, ordinal := range m.ordinals {
		if at := p.online[m.app][ordinal]; at != nil {
			answer[ordinal] = at.sessions
		}
	}
	m.reply <- answer
}

// notify starts to tell vendors of a campaign, once sessions have had their time to come back.
func (p *partition) notify(c *crier.Campaign) {
	if p.notifying[c.Task] {
		return
	}
	p.notifying[c.Task] = true
	n := &notifier{
		Deps: p.Deps, campaign: c, partition: p.self, root: p.root, log: p.log.With("task", c.Task),
		unsure: make(map[uint32]*unsure),
	}
	options, _ := c.Message.Offline.ApnsOptions() // usable all the same
	n.badgeSet, n.badgeAdd = options.Badge(true)
	wait := time.Until(p.since.Add(p.Grace))
	p.commands.Go(func() {
		if pause(p.lifetime, wait) {
			n.run(p.lifetime)
		}
		p.root.Send(p.self, notified{c.Task})
	})
}

// notified is the end of a notifier.
type notified struct{ task crier.TaskID }

// notifier brings a campaign to the vendors for the accounts of one partition that may need it. What is still to do is
// in the replicated state; a notifier that begins anew goes on from there.
type notifier struct {
	Deps
	campaign  *crier.Campaign
	partition *actor.PID
	root      outbox
	log       *slog.Logger
	unsure    map[uint32]*unsure // accounts of which something is to be tried again
	badgeSet  *int               // what the message sets badges to; nil: it adds
	badgeAdd  int
}

// unsure is what a notifier knows of an account that it will come back to.
type unsure struct {
	tried  map[string]bool // devices, by vendor and token, that need no further try
	took   bool            // a vendor has taken it for one of them
	reason string          // why the last did not
	tries  int
}

// verdict is what one pass found for an account.
type verdict struct {
	done     bool
	reason   string // of done; "" where a vendor has taken it
	attempts []crier.Attempt
	gone     []crier.Change
	retry    bool          // a vendor could not take it now
	after    time.Duration // how long the vendor asks to wait
	sent     int           // notifications that were tried
	down     int           // of them, those to a vendor that was out of order
}

// run goes over what is to do until there is nothing, or ctx ends. A pass tries each device once; who is connected is
// looked at again when their time to acknowledge is over.
func (n *notifier) run(ctx context.Context) {
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		left, retry, after := n.pass(ctx)
		if !left {
			return
		}
		if !retry {
			wait = firstRetry
			after = max(after, time.Until(n.fallback()))
		}
		if !pause(ctx, max(wait/2+rand.N(wait), min(after, 10*lastRetry))) {
			return
		}
	}
}

// fallback is when accounts that have not acknowledged get a notification although they seem connected.
func (n *notifier) fallback() time.Time {
	app := n.System.App(n.campaign.App)
	if app == nil || app.Limits.FallbackAfter == 0 {
		return n.campaign.Expires()
	}
	return n.campaign.Accepted.Add(app.Limits.FallbackAfter)
}

// pass goes over what is to do once. It reports whether something is left, and whether because a vendor did not take it.
func (n *notifier) pass(ctx context.Context) (left, retry bool, after time.Duration) {
	for last := int64(-1); ctx.Err() == nil; {
		targets, err := n.Replica.VendorTargets(n.campaign.App, n.campaign.Seq, last, notifyChunk)
		if err != nil {
			n.log.Error("who is to be notified can't be read", "err", err)
			return true, true, 0
		}
		if len(targets) == 0 {
			return left, retry, after
		}
		last = int64(targets[len(targets)-1].Ordinal)
		verdicts := n.chunk(ctx, targets)
		if ctx.Err() != nil {
			return true, true, 0
		}
		n.record(ctx, targets, verdicts)
		sent, down := 0, 0
		for _, v := range verdicts {
			left = left || !v.done
			retry = retry || v.retry
			after = max(after, v.after)
			sent, down = sent+v.sent, down+v.down
		}
		if sent > 0 && sent == down {
			return true, true, after // the vendor is out of order: the rest would only hear the same
		}
	}
	return true, true, 0
}

// chunk tries some targets, all at a time.
func (n *notifier) chunk(ctx context.Context, targets []crier.VendorTarget) []verdict {
	ordinals := make([]uint32, len(targets))
	for i, t := range targets {
		ordinals[i] = t.Ordinal
	}
	sessions := n.connected(ctx, ordinals)
	late := !time.Now().Before(n.fallback())
	verdicts := make([]verdict, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		u := n.unsure[t.Ordinal]
		if u == nil {
			u = &unsure{tried: make(map[string]bool)}
			n.unsure[t.Ordinal] = u
		}
		wg.Go(func() { verdicts[i] = n.target(ctx, t, devicesFor(t.Account, sessions[t.Ordinal], late), u) })
	}
	wg.Wait()
	for i, v := range verdicts {
		if v.done || !v.retry && v.sent == 0 {
			delete(n.unsure, targets[i].Ordinal)
		}
	}
	return verdicts
}

// connected returns the sessions of accounts.
func (n *notifier) connected(ctx context.Context, ordinals []uint32) map[uint32][]crier.SessionPresence {
	reply := make(chan map[uint32][]crier.SessionPresence, 1)
	n.root.Send(n.partition, whoIsConnected{n.campaign.App, ordinals, reply})
	select {
	case sessions := <-reply:
		return sessions
	case <-ctx.Done():
		return nil
	}
}

// devicesFor returns where an account is to be notified now. A session in the foreground shows the message itself; one in
// the background does too, but for Apple's, where the app is asleep and only APNs reaches it. late: nothing was acknowledged in
// time, so that the sessions may be gone without a word.
func devicesFor(a *crier.Account, sessions []crier.SessionPresence, late bool) []crier.Device {
	switch {
	case a == nil:
		return nil
	case len(sessions) == 0 || late:
		return a.Devices
	case presenceState(sessions) == crier.Online:
		return nil
	}
	var devices []crier.Device
	for _, d := range a.Devices {
		for _, s := range sessions {
			if d.Vendor == crier.APNs && d.Platform == s.Platform && apple(s.Platform) {
				devices = append(devices, d)
				break
			}
		}
	}
	return devices
}

func apple(p crier.Platform) bool { return p == crier.IPhone || p == crier.IPad || p == crier.Mac }

// target notifies one account.
func (n *notifier) target(ctx context.Context, t crier.VendorTarget, devices []crier.Device, u *unsure) verdict {
	switch {
	case t.Account == nil || len(t.Account.Devices) == 0:
		return verdict{done: true, reason: crier.ReasonNoDevice}
	case !n.campaign.Expires().After(time.Now()):
		return verdict{done: true, reason: reasonExpired}
	case len(devices) == 0:
		return verdict{} // connected: look again when the time to acknowledge is over
	}
	v := verdict{}
	u.tries++
	for i := range devices {
		d := &devices[i]
		key := string(d.Vendor) + d.Token
		if u.tried[key] {
			continue
		}
		outcome := n.send(ctx, d, n.badge(d, t.Waiting))
		if ctx.Err() != nil {
			return verdict{}
		}
		u.tried[key] = n.judge(&v, u, t, d, outcome)
	}
	v.done = !v.retry
	if !u.took {
		v.reason = u.reason
	}
	return v
}

// judge adds the outcome of one notification to a verdict, and reports whether it is the last for the device.
func (n *notifier) judge(v *verdict, u *unsure, t crier.VendorTarget, d *crier.Device, o crier.Outcome) (last bool) {
	v.sent++
	v.attempts = append(v.attempts, crier.Attempt{
		Ordinal: t.Ordinal, Time: time.Now().UTC(), Vendor: d.Vendor, Device: d.ShortToken(),
		Outcome: string(o.Class), Reason: o.Reason, Tries: u.tries,
	})
	switch {
	case o.Class == crier.OutcomeAccepted:
		u.took = true
		n.Metrics.notified(d.Vendor, time.Since(n.campaign.Accepted))
	case o.Class.Retryable() && (o.Class != crier.OutcomeUnknown || u.tries < unknownTries):
		v.retry, v.after = true, max(v.after, o.RetryAfter)
		if o.Class == crier.OutcomeUnavailable {
			v.down++
		}
		return false
	default:
		if u.reason = o.Reason; u.reason == "" {
			u.reason = string(o.Class)
		}
		if o.Class == crier.OutcomeGone && !(d.Registered.After(o.GoneSince) && !o.GoneSince.IsZero()) {
			gone := *d // as it was read: one that was registered again meanwhile stays
			v.gone = append(v.gone, crier.Change{Op: crier.OpRemoveDevice, User: t.Account.User, Device: &gone})
		}
	}
	return true
}

// badge is the number for the icon of a device; nil leaves it.
func (n *notifier) badge(d *crier.Device, waiting int) *int {
	switch {
	case n.badgeSet != nil:
		return n.badgeSet
	case n.badgeAdd == 0:
		return nil
	}
	number := d.BadgeBase + max(waiting-1, 0) + n.badgeAdd
	return &number
}

// send tries one device once.
func (n *notifier) send(ctx context.Context, d *crier.Device, badge *int) crier.Outcome {
	app := n.System.App(n.campaign.App)
	if app == nil {
		return crier.Outcome{Class: crier.OutcomeConfiguration, Reason: "NoApp"}
	}
	return n.Vendors.Send(ctx, app, &crier.DevicePush{
		App: n.campaign.App, Task: n.campaign.Task, Device: d, Message: &n.campaign.Message, Language: app.Language,
		Badge: badge, Expires: n.campaign.Expires(),
	})
}

// record brings what a chunk has come to into the log, and goes on trying: else it would be sent again.
func (n *notifier) record(ctx context.Context, targets []crier.VendorTarget, verdicts []verdict) {
	progress := &crier.VendorProgress{Seq: n.campaign.Seq}
	for i, v := range verdicts {
		if v.done {
			progress.Done = append(progress.Done, crier.VendorResult{Ordinal: targets[i].Ordinal, Reason: v.reason})
		}
		progress.Attempts = append(progress.Attempts, v.attempts...)
		progress.Gone = append(progress.Gone, v.gone...)
	}
	if len(progress.Done)+len(progress.Attempts) == 0 {
		return
	}
	for wait := 10 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, campaignPause) {
		try, cancel := context.WithTimeout(ctx, commandTimeout)
		err := n.Replica.VendorProgress(try, n.campaign.App, progress)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			n.log.Warn("the progress of notifications can't be stored yet", "err", err)
		}
		pause(ctx, wait)
	}
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
