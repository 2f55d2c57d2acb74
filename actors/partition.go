// Package actors is what Crier does, as virtual actors: an app decides on its
// pushes, a campaign drives one push to its end, a partition finds who is to get it, a
// user delivers to its sessions and takes their acknowledgements. DESIGN.md has the
// messages and their order.
package actors

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// commandTimeout bounds a command to the log.
	commandTimeout = 5 * time.Second
	// commandsMost bounds the commands of a partition that are under way; more are refused.
	commandsMost = 1024
	// parkedMost bounds the campaigns of an app that wait for their predecessor in a partition.
	parkedMost = 1024
	// changesMost bounds the changes that wait in a partition; more are refused.
	changesMost = 50_000
	// changesBatch bounds the changes of one command, but for a call that has more by itself.
	changesBatch = 500
	// changesAtOnce is how many commands of changes a partition has under way: while the log syncs one, the next is
	// on its way to it, and what comes meanwhile gathers for the one after.
	changesAtOnce = 2
	// ackDelay is how long acknowledgements gather before they become one command.
	ackDelay = 5 * time.Millisecond
	// acksMost is how many make a command at once.
	acksMost = 1024
	// acksKept bounds those that wait while the log can't be written. Over it the oldest are forgotten: their
	// messages come once more at the next login, and the SDK shows them once.
	acksKept = 100_000
	// sweepEvery is how often a partition looks whether something has expired.
	sweepEvery = 2 * time.Second
)

var errBusy = crier.Errorf(crier.CodeTimeout, "the partition is busy: nothing was changed, try again")

// Deps is what the actors of a partition work with.
type Deps struct {
	Partition crier.PartitionID
	Replica   Replica
	System    SystemReplica
	Directory Directory
	Vendors   Vendors
	Grace     time.Duration // DefaultGrace
	Metrics   *Metrics
	Logger    *slog.Logger
}

// PartitionProps makes the actor of a partition. It is the router of every
// actor that lives in the partition.
func PartitionProps(d Deps) *actor.Props {
	return crossingProps(d.Metrics, func() actor.Actor { return newPartition(d) })
}

// partition is the actor of one partition on its leader. It never blocks: commands
// run beside it and come back as messages.
type partition struct {
	Deps
	log       *slog.Logger
	root      outbox
	self      *actor.PID
	users     map[userKey]*actor.PID
	present   map[userKey]*sessionsChanged                // accounts with sessions
	online    map[crier.AppID]map[uint32]*sessionsChanged // the same by ordinal
	apps      map[crier.AppID]*actor.PID
	campaigns map[crier.TaskID]*actor.PID
	queues    map[crier.AppID]*campaignQueue
	changes   []queuedChanges // calls that wait for the command under way
	acks      map[crier.AppID][]crier.Ack
	flushing  bool
	sweeping  bool
	notifying map[crier.TaskID]bool // campaigns of which vendors are being told
	since     time.Time             // when this actor began

	changing      int // commands of changes that are under way
	changesQueued int // changes of the calls that wait

	lifetime context.Context // ends with leadership
	end      context.CancelFunc
	commands sync.WaitGroup
	running  int
}

// campaignQueue orders the campaigns of an app: one is on its way to the log,
// later ones wait for their predecessor.
type campaignQueue struct {
	running bool
	parked  map[uint64]*campaignStart
}

type campaignStart struct {
	campaign *crier.Campaign
	sender   *actor.PID
}

// queuedChanges is a request that waits, and who is to be answered.
type queuedChanges struct {
	calls  []crier.AccountChanges
	size   int // changes in them
	sender *actor.PID
}

// Results of commands, from the goroutines that ran them.
type (
	commandDone struct{ then func(actor.Context) }
	flushTick   struct{}
	sweepTick   struct{}
)

func newPartition(d Deps) *partition {
	p := &partition{
		Deps: d, log: d.Logger.With("component", "actors", "partition", d.Partition.String()),
		users: make(map[userKey]*actor.PID), present: make(map[userKey]*sessionsChanged),
		online: make(map[crier.AppID]map[uint32]*sessionsChanged), apps: make(map[crier.AppID]*actor.PID),
		campaigns: make(map[crier.TaskID]*actor.PID), queues: make(map[crier.AppID]*campaignQueue),
		acks: make(map[crier.AppID][]crier.Ack), notifying: make(map[crier.TaskID]bool), since: time.Now(),
	}
	p.lifetime, p.end = context.WithCancel(context.Background())
	return p
}

// Receive takes one message.
func (p *partition) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		p.onStarted(ctx)
	case *actor.Stopping:
		p.end()
		p.commands.Wait()
	case *actor.Terminated:
		p.onTerminated(m.Who)
	case commandDone:
		p.running--
		m.then(ctx)
	case flushTick:
		p.onFlush()
	case sweepTick:
		p.onSweep(ctx)
	case acknowledged:
		p.onAcknowledged(m)
	case sessionsChanged:
		p.onSessionsChanged(&m)
	case passivate:
		p.onPassivate(ctx, m)
	case changeAccounts:
		p.onChangeAccounts(ctx, m)
	case checkChanges:
		p.onCheckChanges(ctx, m)
	case readAccounts:
		p.onReadAccounts(ctx, m)
	case readPresence:
		p.onReadPresence(ctx, m)
	case readReports:
		p.onReadReports(ctx, m)
	case startCampaign:
		p.onStartCampaign(ctx, m)
	case readFunnel:
		f, err := p.Replica.Funnel(m.app, m.seq)
		respond(ctx, f, err)
	case readCampaign:
		p.onReadCampaign(ctx, m)
	case explain:
		p.onExplain(ctx, m)
	case claimDevice:
		p.onClaimDevice(ctx, m)
	case whoIsConnected:
		p.onWhoIsConnected(m)
	case notified:
		delete(p.notifying, m.task)
	case acceptPush:
		ctx.Forward(p.app(ctx, m.request.App))
	case attachSession:
		ctx.Forward(p.user(ctx, userKey{m.login.App, m.login.User}))
	case runCampaign:
		p.onRunCampaign(ctx, m)
	default:
		unknownMessage(ctx, p.Metrics)
	}
}

// unknownMessage counts a message that the actor does not understand, and says so to who waits.
func unknownMessage(ctx actor.Context, m *Metrics) {
	switch ctx.Message().(type) {
	case actor.AutoReceiveMessage, actor.SystemMessage, *actor.Stopped, *actor.Restarting, *actor.ReceiveTimeout:
		return
	}
	m.unknown.Inc()
	if ctx.Sender() != nil {
		ctx.Respond(failed{crier.Errorf(crier.CodeInternal, "a message of type %T is not understood: is the node older than the caller?", ctx.Message())})
	}
}

// onStarted takes up the campaigns that the leader before left unfinished.
func (p *partition) onStarted(ctx actor.Context) {
	p.root, p.self = outboxOf(ctx.ActorSystem()), ctx.Self()
	p.after(sweepEvery, sweepTick{})
	campaigns, err := p.Replica.Unfinished()
	if err != nil {
		p.log.Error("unfinished campaigns can't be read", "err", err)
		return
	}
	for _, c := range campaigns {
		p.onRunCampaign(ctx, runCampaign{c})
	}
	work, err := p.Replica.VendorWork()
	if err != nil {
		p.log.Error("what vendors are to be told can't be read", "err", err)
	}
	for _, c := range work {
		p.notify(c)
	}
}

// after sends a message to the actor itself, later.
func (p *partition) after(d time.Duration, msg any) {
	time.AfterFunc(d, func() {
		if p.lifetime.Err() == nil {
			p.root.Send(p.self, msg)
		}
	})
}

// command runs a blocking call beside the actor; its result is taken as a
// message. It reports false, and runs nothing, when too many are under way.
func (p *partition) command(call func(context.Context) func(actor.Context)) bool {
	if p.running >= commandsMost {
		return false
	}
	p.running++
	p.commands.Go(func() {
		ctx, cancel := context.WithTimeout(p.lifetime, commandTimeout)
		defer cancel()
		then := call(ctx)
		p.root.Send(p.self, commandDone{then})
	})
	return true
}

func (p *partition) onTerminated(who *actor.PID) {
	for task, pid := range p.campaigns {
		if pid.Equal(who) {
			delete(p.campaigns, task)
			return
		}
	}
	for key, pid := range p.users {
		if pid.Equal(who) {
			delete(p.users, key)
			p.absent(key)
			return
		}
	}
}

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
		for i, err := range own {
			if err == nil {
				p.tellUsers(ctx, &q.calls[i])
			}
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
		r, err := p.check(&m.calls[i])
		if err != nil {
			ctx.Respond(failed{err})
			return
		}
		answer.refusals[i] = r
	}
	ctx.Respond(answer)
}

// check applies changes to copies of the accounts. The error is of reading them.
func (p *partition) check(call *crier.AccountChanges) (refusal, error) {
	users := make([]crier.UserID, len(call.Changes))
	for i := range call.Changes {
		users[i] = call.Changes[i].User
	}
	accounts, err := p.Replica.Accounts(call.App, users)
	if err != nil {
		return refusal{}, err
	}
	now := make(map[crier.UserID]*crier.Account, len(users))
	for i, a := range accounts {
		now[users[i]] = a
	}
	for i := range call.Changes {
		a, old := crier.Account{}, now[users[i]]
		if old != nil {
			a = *old
		}
		exists, err := call.Changes[i].Apply(&a, old != nil, time.Now())
		if err != nil {
			return refusal{i, err}, nil
		}
		if now[users[i]] = nil; exists {
			now[users[i]] = &a
		}
	}
	return refusal{}, nil
}

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
	respond(ctx, e, err)
}

func (p *partition) onClaimDevice(ctx actor.Context, m claimDevice) {
	sender := ctx.Sender()
	ok := p.command(func(c context.Context) func(actor.Context) {
		former, err := p.Replica.ClaimDevice(c, m.app, m.vendor, m.token, m.user, m.removed)
		return func(ctx actor.Context) {
			if err != nil {
				ctx.Send(sender, failed{err})
				return
			}
			ctx.Send(sender, former)
		}
	})
	if !ok {
		ctx.Respond(failed{errBusy})
	}
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

// onStartCampaign proposes the campaign, once its predecessor is through.
func (p *partition) onStartCampaign(ctx actor.Context, m startCampaign) {
	app := m.campaign.App
	q := p.queues[app]
	if q == nil {
		q = &campaignQueue{parked: make(map[uint64]*campaignStart)}
		p.queues[app] = q
	}
	waits := m.campaign.Seq > p.Replica.LastCampaign(app)+1 // one that can go has room: all others wait for it
	if waits && q.parked[m.campaign.Seq] == nil && len(q.parked) >= parkedMost {
		ctx.Respond(failed{errBusy})
		return
	}
	q.parked[m.campaign.Seq] = &campaignStart{m.campaign, ctx.Sender()}
	p.nextCampaign(ctx, app, q)
}

// nextCampaign takes one that can go: the next in sequence, or one that was
// started before and only asks again.
func (p *partition) nextCampaign(ctx actor.Context, app crier.AppID, q *campaignQueue) {
	if q.running {
		return
	}
	next := p.Replica.LastCampaign(app) + 1
	var start *campaignStart
	for seq, s := range q.parked {
		if seq <= next {
			start = s
			break
		}
	}
	if start == nil {
		return
	}
	delete(q.parked, start.campaign.Seq)
	q.running = p.command(func(c context.Context) func(actor.Context) {
		audience, err := p.Replica.StartCampaign(c, start.campaign)
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
	var online []uint32
	for ordinal, at := range p.online[s.campaign.App] {
		if !audience.Contains(ordinal) {
			continue
		}
		online = append(online, ordinal)
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

// recordOnline stores who was connected, for reports and explanations; receivers don't wait for it.
func (p *partition) recordOnline(c *crier.Campaign, online []uint32) {
	if len(online) == 0 {
		return
	}
	p.command(func(ctx context.Context) func(actor.Context) {
		if err := p.Replica.RecordOnline(ctx, c.App, c.Seq, online); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Warn("who was connected could not be stored", "task", c.Task, "err", err)
		}
		return func(actor.Context) {}
	})
}

func (p *partition) language(app crier.AppID) crier.Language {
	if a := p.System.App(app); a != nil {
		return a.Language
	}
	return ""
}

// onSessionsChanged keeps who is connected. Only the account's present actor is heard: one
// that was replaced knows nothing of its successor's sessions.
func (p *partition) onSessionsChanged(m *sessionsChanged) {
	if pid := p.users[m.user]; pid == nil || !pid.Equal(m.pid) {
		return
	}
	p.absent(m.user)
	if len(m.sessions) == 0 {
		return
	}
	p.present[m.user] = m
	if p.online[m.user.app] == nil {
		p.online[m.user.app] = make(map[uint32]*sessionsChanged)
	}
	p.online[m.user.app][m.ordinal] = m
}

func (p *partition) absent(key userKey) {
	if at := p.present[key]; at != nil {
		delete(p.present, key)
		delete(p.online[key.app], at.ordinal)
	}
}

func (p *partition) onPassivate(ctx actor.Context, m passivate) {
	if pid := p.users[m.user]; pid != nil && pid.Equal(m.pid) && p.present[m.user] == nil {
		delete(p.users, m.user)
		ctx.Poison(pid)
	}
}

// user returns the actor of an account, and starts it where it is not.
func (p *partition) user(ctx actor.Context, key userKey) *actor.PID {
	pid := p.users[key]
	if pid == nil {
		pid = ctx.Spawn(userProps(p.Deps, key, ctx.Self()))
		p.users[key] = pid
	}
	return pid
}

func (p *partition) app(ctx actor.Context, id crier.AppID) *actor.PID {
	pid := p.apps[id]
	if pid == nil {
		pid = ctx.Spawn(appProps(p.Deps, ctx.Self()))
		p.apps[id] = pid
	}
	return pid
}

// onRunCampaign starts the actor that drives a campaign.
func (p *partition) onRunCampaign(ctx actor.Context, m runCampaign) {
	if p.campaigns[m.campaign.Task] == nil {
		p.campaigns[m.campaign.Task] = ctx.Spawn(campaignProps(p.Deps, m.campaign))
	}
}

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
		batch := acks[:min(len(acks), acksMost)]
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

// onSweep forgets what has expired, by a command of the log.
func (p *partition) onSweep(actor.Context) {
	p.after(sweepEvery, sweepTick{})
	next := p.Replica.NextExpiry()
	if p.sweeping || next.IsZero() || next.After(time.Now()) {
		return
	}
	p.sweeping = p.command(func(c context.Context) func(actor.Context) {
		err := p.Replica.Sweep(c)
		return func(actor.Context) {
			p.sweeping = false
			if err != nil && !errors.Is(err, context.Canceled) {
				p.log.Warn("what has expired can't be forgotten yet", "err", err)
			}
		}
	})
}
