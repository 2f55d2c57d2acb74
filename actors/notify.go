package actors

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// notifyChunk is how many accounts a partition notifies at a time: after each chunk the log has what became of
	// them, so that a crash repeats one chunk at most.
	notifyChunk = 64
	// restedChunks is after how many chunks for which nothing could be tried a pass ends; the next one goes on from there.
	restedChunks = 4
	// restedFirst is the same for the first pass, which is to find those of other lanes.
	restedFirst = 64
	// firstRetry and lastRetry bound the pause before those that a vendor did not take are tried again, and
	// lastMend that before a refusal is that only the operator can end.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	lastMend   = 5 * time.Minute
	// askedMost bounds the pause that a vendor may ask for.
	askedMost = 5 * time.Minute
	// restHere is how long a notifier waits by itself. Before longer rests it ends, and the partition runs it again: it may
	// have many that wait for days.
	restHere = 5 * time.Second
	// unknownTries is how often an answer that no document has is tried again.
	unknownTries = 3
	// DefaultGrace is how long sessions have to come back after a partition has come to lead, before
	// vendors are told of who seems to be away.
	DefaultGrace = 5 * time.Second
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
	if p.notifiers[c.Task] != nil {
		return
	}
	n := &notifier{
		Deps: p.Deps, campaign: c, partition: p.self, root: p.root, log: p.log.With("task", c.Task),
		lanes: make(map[string]*lane), unsure: make(map[uint32]*unsure), from: -1, due: p.since.Add(p.Grace),
	}
	options, _ := c.Message.Offline.ApnsOptions() // usable all the same
	n.badgeSet, n.badgeAdd = options.Badge(true)
	p.notifiers[c.Task] = n
	p.runNotifier(n)
}

// runNotifier runs a notifier until it has done all, or has to rest for long.
func (p *partition) runNotifier(n *notifier) {
	n.running = true
	p.commands.Go(func() { p.root.Send(p.self, notified{n, n.run(p.lifetime)}) })
}

// notified is the end of a run of a notifier.
type notified struct {
	*notifier
	left bool // it has more to do, when its rest is over
}

func (p *partition) onNotified(m notified) {
	if m.running = false; !m.left {
		delete(p.notifiers, m.campaign.Task)
	}
}

// wakeNotifiers runs those whose rest is over.
func (p *partition) wakeNotifiers() {
	for _, n := range p.notifiers {
		if !n.running && n.rested() {
			p.runNotifier(n)
		}
	}
}

// notifier brings a campaign to the vendors for the accounts of one partition that may need it. What is still to do is
// in the replicated state; a notifier that begins anew goes on from there.
type notifier struct {
	Deps
	campaign  *crier.Campaign
	partition *actor.PID
	root      outbox
	log       *slog.Logger
	lanes     map[string]*lane
	unsure    map[uint32]*unsure // accounts of which something is to be tried again
	badgeSet  *int               // what the message sets badges to; nil: it adds
	badgeAdd  int

	looked bool       // a pass has been made
	from   int64      // the next pass begins with the ordinals over it
	due    time.Time  // when that is
	app    *crier.App // as the last pass knew it: a change may mend what it failed of

	running bool // the partition's
}

// unsure is what a notifier knows of an account that it will come back to.
type unsure struct {
	devices []tried
	took    bool   // a vendor has taken it for one of them
	reason  string // why the last did not
}

// tried is what a notifier knows of one device.
type tried struct {
	vendor crier.Vendor
	token  string
	times  int
	class  crier.OutcomeClass // the last answer
	reason string
	final  bool // no further try
}

// device returns what is known of a device.
func (u *unsure) device(d *crier.Device) *tried {
	for i := range u.devices {
		if t := &u.devices[i]; t.vendor == d.Vendor && t.token == d.Token {
			return t
		}
	}
	u.devices = append(u.devices, tried{vendor: d.Vendor, token: d.Token})
	return &u.devices[len(u.devices)-1]
}

// verdict is what one pass found for an account.
type verdict struct {
	done     bool
	reason   string // of done; "" where a vendor has taken it
	attempts []crier.Attempt
	gone     []crier.Change
	sent     []sent
	retry    bool // something is to be tried again
	mend     bool // and of that nothing but what the operator has to mend first
}

// sent is one notification that was tried.
type sent struct {
	lane string
	crier.Outcome
	retry bool
}

// run makes passes until there is nothing left to do, ctx ends, or it has to rest for longer than restHere. It reports whether
// something is left. A pass tries each device once; who is connected is looked at again when their time to acknowledge is over.
func (n *notifier) run(ctx context.Context) (left bool) {
	for {
		for !n.rested() {
			if wait := time.Until(n.due); wait > restHere || !pause(ctx, wait) {
				return true
			}
		}
		if n.pass(ctx); ctx.Err() != nil {
			return true
		}
		if n.due.IsZero() {
			return false
		}
	}
}

// rested reports whether the next pass may begin: its time has come, or the app was changed, with it perhaps what was refused.
func (n *notifier) rested() bool {
	if n.app != nil && n.app != n.System.App(n.campaign.App) {
		clear(n.lanes)
		return true
	}
	return !time.Now().Before(n.due)
}

// disabled reports whether the campaign's app is disabled: nobody hears from it, until it is changed again, or the campaign is over.
func (n *notifier) disabled() bool {
	app := n.System.App(n.campaign.App)
	return app != nil && app.Disabled && time.Now().Before(n.campaign.Expires())
}

// fallback is when accounts that have not acknowledged get a notification although they seem connected.
func (n *notifier) fallback() time.Time {
	app := n.System.App(n.campaign.App)
	if app == nil || app.Limits.FallbackAfter == 0 {
		return n.campaign.Expires()
	}
	return n.campaign.Accepted.Add(app.Limits.FallbackAfter)
}

// pass goes over what is to do once, beginning where the last one gave up, and sets when the next one is due; zero: nothing is left.
func (n *notifier) pass(ctx context.Context) {
	n.app = n.System.App(n.campaign.App)
	now := time.Now()
	for _, l := range n.lanes {
		l.begin(now)
	}
	var connected, gaveUp bool
	idle, most, from := 0, restedChunks, n.from
	if !n.looked {
		most = restedFirst
	}
	n.from = -1
	for _, part := range [][2]int64{{from, math.MaxUint32}, {-1, from}} {
		for last := part[0]; last < part[1] && !gaveUp; {
			if n.disabled() {
				n.due = n.campaign.Expires()
				return
			}
			targets, err := n.Replica.VendorTargets(n.campaign.App, n.campaign.Seq, last, notifyChunk)
			if err != nil {
				n.log.Error("who is to be notified can't be read", "err", err)
				n.due = time.Now().Add(lastRetry)
				return
			}
			targets = slices.DeleteFunc(targets, func(t crier.VendorTarget) bool { return int64(t.Ordinal) > part[1] })
			if len(targets) == 0 {
				break
			}
			last = int64(targets[len(targets)-1].Ordinal)
			verdicts := n.chunk(ctx, targets)
			if ctx.Err() != nil {
				return
			}
			n.record(ctx, targets, verdicts)
			switch sent, waits := n.note(verdicts, &connected); {
			case sent:
				idle = 0
			case waits:
				idle++
			}
			gaveUp = idle == most
			if n.from < 0 && (gaveUp || n.tired()) {
				n.from = last
			}
		}
	}
	n.looked = true
	n.due = n.next(connected, !gaveUp)
}

// note brings what a chunk has come to into the lanes, and reports whether anything was sent, and whether anybody waits.
func (n *notifier) note(verdicts []verdict, connected *bool) (any, waits bool) {
	for _, v := range verdicts {
		*connected = *connected || !v.done && !v.retry
		waits = waits || v.retry
		for _, s := range v.sent {
			any = true
			n.lane(s.lane).add(s)
		}
	}
	return any, waits
}

// tired reports whether a lane has come to rest in this pass.
func (n *notifier) tired() bool {
	for _, l := range n.lanes {
		if l.tired() {
			return true
		}
	}
	return false
}

// next ends a pass, which has come to everybody or not, and returns when the next one is due; zero: there is nothing left to do.
func (n *notifier) next(connected, all bool) (due time.Time) {
	earlier := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	now := time.Now()
	for name, l := range n.lanes {
		if l.end(now, all); l.until.IsZero() {
			delete(n.lanes, name)
		} else {
			earlier(l.until)
		}
	}
	if connected {
		earlier(later(n.fallback(), now.Add(firstRetry)))
	}
	return due
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (n *notifier) lane(name string) *lane {
	l := n.lanes[name]
	if l == nil {
		l = new(lane)
		n.lanes[name] = l
	}
	return l
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
	tries := make([]*unsure, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		if tries[i] = n.unsure[t.Ordinal]; tries[i] == nil {
			tries[i] = new(unsure)
		}
		wg.Go(func() { verdicts[i] = n.target(ctx, t, devicesFor(t.Account, sessions[t.Ordinal], late), tries[i]) })
	}
	wg.Wait()
	for i, v := range verdicts {
		if v.done || len(tries[i].devices) == 0 {
			delete(n.unsure, targets[i].Ordinal)
		} else {
			n.unsure[targets[i].Ordinal] = tries[i]
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
func (n *notifier) target(ctx context.Context, t crier.VendorTarget, devices []crier.Device, u *unsure) (v verdict) {
	switch {
	case t.Account == nil || len(t.Account.Devices) == 0:
		return verdict{done: true, reason: crier.ReasonNoDevice}
	case !n.campaign.Expires().After(time.Now()):
		return verdict{done: true, reason: crier.ReasonExpired}
	case len(devices) == 0:
		return verdict{} // connected: look again when the time to acknowledge is over
	}
	v.mend = true
	for i := range devices {
		d := &devices[i]
		at := u.device(d)
		if at.final {
			continue
		}
		name := n.Vendors.Lane(d)
		if l := n.lanes[name]; l != nil && l.rests() {
			v.retry = true
			v.mend = v.mend && l.class == crier.OutcomeConfiguration
			continue
		}
		outcome := n.send(ctx, d, n.badge(d, t.Waiting))
		if ctx.Err() != nil {
			return verdict{}
		}
		n.judge(&v, u, t, d, at, outcome)
		v.sent = append(v.sent, sent{name, outcome, !at.final})
	}
	// Who was told on one device does not wait for the operator to mend the other: after a crash the first would be told again.
	if v.done = !v.retry || u.took && v.mend; !u.took {
		v.reason = u.reason
	}
	return v
}

// judge adds the outcome of one notification to a verdict.
func (n *notifier) judge(v *verdict, u *unsure, t crier.VendorTarget, d *crier.Device, at *tried, o crier.Outcome) {
	at.times++
	// The same answer again is told after 2, 4, 8 ... tries: what waits for days must not fill the explanation.
	if news := at.class != o.Class || at.reason != o.Reason; news || at.times&(at.times-1) == 0 {
		v.attempts = append(v.attempts, crier.Attempt{
			Ordinal: t.Ordinal, Time: time.Now().UTC(), Vendor: d.Vendor, Device: d.ShortToken(),
			Outcome: string(o.Class), Reason: o.Reason, Tries: at.times,
		})
	}
	at.class, at.reason, at.final = o.Class, o.Reason, true
	switch {
	case o.Class == crier.OutcomeAccepted:
		u.took = true
		n.Metrics.notified(d.Vendor, time.Since(n.campaign.Accepted))
	case o.Class == crier.OutcomeConfiguration && !o.DeviceOnly, o.Class.Retryable() && (o.Class != crier.OutcomeUnknown || at.times < unknownTries):
		at.final, v.retry = false, true
		v.mend = v.mend && o.Class == crier.OutcomeConfiguration
	default:
		if u.reason = o.Reason; u.reason == "" {
			u.reason = string(o.Class)
		}
		if o.Class == crier.OutcomeGone && !(d.Registered.After(o.GoneSince) && !o.GoneSince.IsZero()) {
			gone := *d // as it was read: one that was registered again meanwhile stays
			v.gone = append(v.gone, crier.Change{Op: crier.OpRemoveDevice, User: t.Account.User, Device: &gone})
		}
	}
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
