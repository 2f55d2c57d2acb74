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
	// readsMost bounds the reads that wait for a verification in a partition; more are refused.
	readsMost = 50_000
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
	// sweepEvery is how often a partition looks whether something has expired, or is to be told to vendors.
	sweepEvery = 2 * time.Second
)

var errBusy = crier.Errorf(crier.CodeTimeout, "the partition is busy: nothing was changed, try again")

// Deps is what the actors of a partition work with.
type Deps struct {
	Partition crier.PartitionID
	Term      uint64 // in which it is led here
	Replica   Replica
	System    SystemReplica
	Directory Directory
	Vendors   Vendors
	Fanout    *Fanout
	Grace     time.Duration // DefaultGrace
	Idle      time.Duration // DefaultIdle
	Metrics   *Metrics
	Logger    *slog.Logger
}

// PartitionProps makes the actor of a partition. It is the router of every
// actor that lives in the partition.
func PartitionProps(d Deps) *actor.Props {
	return crossingProps(d.Metrics, func() actor.Actor { return newPartition(d) })
}

// account is what a partition knows of a user actor.
type account struct {
	key      userKey
	attaches int // attachSession that it was given
}

// partition is the actor of one partition on its leader. It never blocks: commands
// run beside it and come back as messages.
type partition struct {
	Deps
	log       *slog.Logger
	root      outbox
	self      *actor.PID
	spawner   *spawner // of users
	users     map[userKey]*actor.PID
	accounts  map[string]*account                         // of user actors that have not ended, by the ids of their processes
	present   map[userKey]*sessionsChanged                // accounts with sessions
	online    map[crier.AppID]map[uint32]*sessionsChanged // the same by ordinal
	apps      map[crier.AppID]*actor.PID
	campaigns map[crier.TaskID]*actor.PID
	queues    map[crier.AppID]*campaignQueue
	changes   []queuedChanges // calls that wait for the command under way
	acks      map[crier.AppID][]crier.Ack
	flushing  bool
	sweeping  bool
	notifiers map[crier.TaskID]*notifier // of campaigns of which vendors are to be told
	since     time.Time                  // when this actor began

	reads     []queuedRead // that wait for the verification under way to end
	verifying bool

	recorder   *recorder
	recording  bool            // its command is under way
	explaining []queuedExplain // that wait for its end

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
	startCampaign
	sender *actor.PID
}

// follows reports whether the campaign can go once last is through.
func (s *campaignStart) follows(last uint64) bool { return s.campaign.Seq <= max(last, s.settled)+1 }

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
	recordTick  struct{}
)

func newPartition(d Deps) *partition {
	p := &partition{
		Deps: d, log: d.Logger.With("component", "actors", "partition", d.Partition.String()),
		spawner: newSpawner(d.Metrics, users), users: make(map[userKey]*actor.PID), accounts: make(map[string]*account), present: make(map[userKey]*sessionsChanged),
		online: make(map[crier.AppID]map[uint32]*sessionsChanged), apps: make(map[crier.AppID]*actor.PID),
		campaigns: make(map[crier.TaskID]*actor.PID), queues: make(map[crier.AppID]*campaignQueue),
		acks: make(map[crier.AppID][]crier.Ack), notifiers: make(map[crier.TaskID]*notifier), since: time.Now(),
	}
	p.recorder = &recorder{wake: func(after time.Duration) { p.after(after, recordTick{}) }}
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
	case recordTick:
		p.onRecord(ctx)
	case sweepTick:
		p.onSweep(ctx)
	case acknowledged:
		p.onAcknowledged(m)
	case sessionsChanged:
		p.onSessionsChanged(&m)
	case passivate:
		p.onPassivate(ctx, m)
	case userFailed:
		p.onUserFailed(m)
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
		p.read(ctx, func() (any, error) { return p.Replica.Funnel(m.app, m.seq) })
	case readCampaign:
		p.onReadCampaign(ctx, m)
	case explain:
		p.onExplain(ctx, m)
	case claimDevice:
		p.onClaimDevice(ctx, m)
	case whoIsConnected:
		p.onWhoIsConnected(m)
	case notified:
		p.onNotified(m)
	case acceptPush:
		ctx.Forward(p.app(ctx, m.request.App))
	case attachSession:
		pid := p.user(ctx, userKey{m.login.App, m.login.User})
		p.accounts[pid.GetId()].attaches++
		ctx.Forward(pid)
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
	p.sweepLater()
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

// onTerminated is the end of a child. Many users may end at a time, which must cost no more than they are.
func (p *partition) onTerminated(who *actor.PID) {
	if a := p.accounts[who.GetId()]; a != nil {
		delete(p.accounts, who.GetId())
		if pid := p.users[a.key]; pid != nil && pid.Equal(who) { // else another has taken its place
			delete(p.users, a.key)
			p.absent(a.key)
		}
		return
	}
	for task, pid := range p.campaigns {
		if pid.Equal(who) {
			delete(p.campaigns, task)
			return
		}
	}
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
	if p.isIdle(m) {
		delete(p.users, m.user)
		ctx.Poison(m.pid)
	}
}

// onUserFailed forgets a user actor before its sessions hear of its end and attach again.
func (p *partition) onUserFailed(m userFailed) {
	if pid := p.users[m.user]; pid != nil && pid.Equal(m.pid) {
		delete(p.users, m.user)
		p.absent(m.user)
	}
}

// isIdle reports whether a user actor that asks to be stopped may be: not where it was replaced, or a login is on the way to it.
func (p *partition) isIdle(m passivate) bool {
	pid := p.users[m.user]
	return pid != nil && pid.Equal(m.pid) && p.present[m.user] == nil && p.accounts[pid.GetId()].attaches == m.attaches
}

// user returns the actor of an account, and starts it where it is not.
func (p *partition) user(ctx actor.Context, key userKey) *actor.PID {
	pid := p.users[key]
	if pid == nil {
		pid = p.spawner.spawn(ctx, &user{Deps: &p.Deps, key: key, parent: ctx.Self(), recorder: p.recorder})
		p.users[key], p.accounts[pid.GetId()] = pid, &account{key: key}
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

// sweepLater has the partition sweep at the next full sweepEvery, as the others do: timers that end together wake an idle process once.
func (p *partition) sweepLater() {
	now := time.Now()
	p.after(now.Truncate(sweepEvery).Add(sweepEvery).Sub(now), sweepTick{})
}

// onSweep forgets what has expired, by a command of the log.
func (p *partition) onSweep(actor.Context) {
	p.sweepLater()
	p.wakeNotifiers()
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
