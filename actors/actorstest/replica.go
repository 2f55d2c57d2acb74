package actorstest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crier-im/crier"
)

// Hook is called with the name of a command, such as "StartCampaign". What it
// returns is the command's error. It may block; it should end with ctx.
type Hook func(ctx context.Context, command string) error

// Replica is a partition in memory. It implements actors.Replica, and keeps to the
// contract written there; conditions are asked of every account (crier.Condition.Match). It
// outlives the actors of its partition, as a log does. Safe for concurrent use.
type Replica struct {
	mu     sync.Mutex
	apps   map[crier.AppID]*replicaApp
	before Hook
	after  Hook
	calls  map[string]int
	behind time.Duration // of its clock
	alone  atomic.Bool
	fails  atomic.Bool
	done   map[crier.CommandID]bool // calls that were applied, without Oldest
}

// replicaApp is what a partition knows of one app.
type replicaApp struct {
	accounts map[crier.UserID]*crier.Account
	ordinals uint32
	seq      uint64            // the last campaign started here
	totals   map[uint64]uint64 // by Seq
	mail     []*mail           // ascending Seq
	funnels  map[uint64]*crier.Funnel
	places   map[uint64][]crier.OnlinePlace
	sendings map[uint64][]crier.SendingRecord
	missed   map[uint64]uint64
	owners   map[string][]crier.UserID // of tokens, the present one last
	home     home
}

// mail is one kept message, and who has it coming.
type mail struct {
	campaign  *crier.Campaign
	remaining map[uint32]bool
	todo      map[uint32]bool // who may still get a notification
}

// NewReplica returns an empty partition.
func NewReplica() *Replica {
	r := &Replica{apps: make(map[crier.AppID]*replicaApp), calls: make(map[string]int), done: make(map[crier.CommandID]bool)}
	r.alone.Store(true)
	return r
}

// Intercept sets what is called before a command is applied, so that a test can fail or
// hold it, and what is called after it was applied and before it returns, so that a test can hold
// its result. Nil removes a hook.
func (r *Replica) Intercept(before, after Hook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.after = before, after
}

// SetBehind sets how far the clock of changes is behind.
func (r *Replica) SetBehind(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behind = d
}

// Commands returns how many commands of the name have come.
func (r *Replica) Commands(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[name]
}

// command applies one command between its hooks.
func (r *Replica) command(ctx context.Context, name string, apply func() error) error {
	r.mu.Lock()
	r.calls[name]++
	before, after := r.before, r.after
	r.mu.Unlock()
	if before != nil {
		if err := before(ctx, name); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return crier.Errorf(crier.CodeTimeout, "%s", err)
	}
	r.mu.Lock()
	err := apply()
	r.mu.Unlock()
	if after != nil {
		if failed := after(ctx, name); failed != nil {
			return failed
		}
	}
	return err
}

// Verify is actors.Replica's: a command between hooks, which changes nothing.
func (r *Replica) Verify(ctx context.Context) error {
	return r.command(ctx, "Verify", func() error { return nil })
}

// Alone is actors.Replica's.
func (r *Replica) Alone() bool { return r.alone.Load() }

// SetAlone says whether reads need no Verify; they do at first.
func (r *Replica) SetAlone(alone bool) { r.alone.Store(alone) }

// app returns the state of an app. The caller holds mu.
func (r *Replica) app(id crier.AppID) *replicaApp {
	if r.apps[id] == nil {
		r.apps[id] = &replicaApp{
			accounts: make(map[crier.UserID]*crier.Account), totals: make(map[uint64]uint64), home: newHome(),
			funnels: make(map[uint64]*crier.Funnel), places: make(map[uint64][]crier.OnlinePlace), owners: make(map[string][]crier.UserID),
			sendings: make(map[uint64][]crier.SendingRecord), missed: make(map[uint64]uint64),
		}
	}
	return r.apps[id]
}

// ChangeAccounts is actors.Replica's.
func (r *Replica) ChangeAccounts(ctx context.Context, app crier.AppID, changes []crier.Change) error {
	return r.ChangeAccountsBatch(ctx, []crier.AccountChanges{{App: app, Changes: changes}})[0]
}

// ChangeAccountsBatch is actors.Replica's.
func (r *Replica) ChangeAccountsBatch(ctx context.Context, calls []crier.AccountChanges) []error {
	errs := make([]error, len(calls))
	err := r.command(ctx, "ChangeAccounts", func() error {
		for i, call := range calls {
			id := crier.CommandID{Origin: call.ID.Origin, Number: call.ID.Number}
			if id.Origin != 0 && r.done[id] {
				continue
			}
			_, errs[i] = r.app(call.App).change(call, time.Now().Add(-r.behind), true)
			r.done[id] = errs[i] == nil
		}
		return nil
	})
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// change applies the changes of one call to a copy, and keeps that if all were taken and it is to. The error is that of the change at the place.
func (a *replicaApp) change(call crier.AccountChanges, now time.Time, keep bool) (at int, err error) {
	accounts, ordinals := maps.Clone(a.accounts), a.ordinals
	var forgotten []uint32
	for i := range call.Changes {
		c := &call.Changes[i]
		account, old := crier.Account{App: call.App}, accounts[c.User]
		if old != nil {
			account = *old
		}
		exists, err := c.Apply(&account, old != nil, now)
		switch {
		case err != nil:
			return i, err
		case !exists:
			forgotten = append(forgotten, account.Ordinal)
			delete(accounts, c.User)
			continue
		case old == nil:
			account.Ordinal = ordinals
			ordinals++
		}
		accounts[c.User] = &account
	}
	if !keep {
		return 0, nil
	}
	a.accounts, a.ordinals = accounts, ordinals
	for _, m := range a.mail {
		for _, ordinal := range forgotten {
			delete(m.remaining, ordinal)
			delete(m.todo, ordinal)
		}
	}
	return 0, nil
}

// CheckChanges is actors.Replica's.
func (r *Replica) CheckChanges(app crier.AppID, changes []crier.Change) (at int, refused, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, refused = r.app(app).change(crier.AccountChanges{App: app, Changes: changes}, time.Now(), false)
	return at, refused, nil
}

// Accounts is actors.Replica's.
func (r *Replica) Accounts(app crier.AppID, users []crier.UserID) ([]*crier.Account, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	accounts := make([]*crier.Account, len(users))
	for i, user := range users {
		accounts[i] = r.app(app).accounts[user] // replaced by changes, never written
	}
	return accounts, nil
}

// StartCampaign is actors.Replica's.
func (r *Replica) StartCampaign(ctx context.Context, c *crier.Campaign, settled uint64) (crier.Audience, error) {
	var result audience
	err := r.command(ctx, "StartCampaign", func() (err error) {
		result, err = r.app(c.App).start(c, settled)
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (a *replicaApp) start(c *crier.Campaign, settled uint64) (audience, error) {
	switch {
	case c.Seq <= a.seq: // a repeat: its first total, and who has it coming still
		again := audience{total: a.totals[c.Seq]}
		for _, m := range a.mail {
			if m.campaign.Seq == c.Seq {
				again.ordinals, again.toNotify = maps.Clone(m.remaining), uint64(len(m.todo))
			}
		}
		return again, nil
	case c.Seq > max(a.seq, settled)+1:
		return audience{}, crier.ErrCampaignGap
	}
	matched := make(map[uint32]bool)
	for _, account := range a.accounts {
		if c.Condition.Match(account) {
			matched[account.Ordinal] = true
		}
	}
	a.seq, a.totals[c.Seq] = c.Seq, uint64(len(matched))
	result := audience{total: uint64(len(matched)), ordinals: matched}
	if c.Kept() && len(matched) > 0 {
		m := &mail{c, maps.Clone(matched), make(map[uint32]bool)}
		a.mail = append(a.mail, m)
		for ordinal := range matched {
			if !c.Message.Offline.NoVendor && a.byOrdinal(ordinal) != nil {
				m.todo[ordinal] = true
			}
		}
		result.toNotify = uint64(len(m.todo))
	}
	return result, nil
}

// audience implements crier.Audience.
type audience struct {
	total    uint64
	ordinals map[uint32]bool
	toNotify uint64
}

// ToNotify returns for how many a vendor may have something to do.
func (a audience) ToNotify() uint64 { return a.toNotify }

// Total returns how many accounts matched.
func (a audience) Total() uint64 { return a.total }

// Contains reports whether the account is to get the message now.
func (a audience) Contains(ordinal uint32) bool { return a.ordinals[ordinal] }

// LastCampaign is actors.Replica's.
func (r *Replica) LastCampaign(app crier.AppID) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.app(app).seq
}

// Acknowledge is actors.Replica's.
func (r *Replica) Acknowledge(ctx context.Context, app crier.AppID, acks []crier.Ack) error {
	return r.command(ctx, "Acknowledge", func() error {
		a := r.app(app)
		for _, ack := range acks {
			i, found := slices.BinarySearchFunc(a.mail, ack.Seq, bySeq)
			if found {
				delete(a.mail[i].remaining, ack.Ordinal)
				delete(a.mail[i].todo, ack.Ordinal)
			}
		}
		return nil
	})
}

func bySeq(m *mail, seq uint64) int { return cmp.Compare(m.campaign.Seq, seq) }

// Fail makes the next Mailbox panic.
func (r *Replica) Fail() { r.fails.Store(true) }

// Mailbox is actors.Replica's.
func (r *Replica) Mailbox(app crier.AppID, ordinal uint32, after uint64, limit int) ([]*crier.Campaign, error) {
	if r.fails.CompareAndSwap(true, false) {
		panic("a mailbox that was to fail")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	mail := r.app(app).mail
	from, _ := slices.BinarySearchFunc(mail, after+1, bySeq)
	var page []*crier.Campaign
	for _, m := range mail[from:] {
		if len(page) == limit {
			break
		}
		if m.remaining[ordinal] {
			page = append(page, m.campaign)
		}
	}
	return page, nil
}

// NextExpiry is actors.Replica's.
func (r *Replica) NextExpiry() (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.apps {
		for _, m := range a.mail {
			if end := m.campaign.Expires(); next.IsZero() || end.Before(next) {
				next = end
			}
		}
	}
	return next
}

// Sweep is actors.Replica's.
func (r *Replica) Sweep(ctx context.Context) error {
	return r.command(ctx, "Sweep", func() error {
		now := time.Now()
		for _, a := range r.apps {
			a.mail = slices.DeleteFunc(a.mail, func(m *mail) bool { return !m.campaign.Expires().After(now) })
		}
		return nil
	})
}
