package actorstest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crier-im/crier"
)

// Vendors is vendors that note what they are given. It implements actors.Vendors. Safe for
// concurrent use.
type Vendors struct {
	mu     sync.Mutex
	pushes []*crier.DevicePush
	answer func(*crier.DevicePush) crier.Outcome
}

// Answer sets what is answered from now on; nil: everything is accepted.
func (v *Vendors) Answer(f func(*crier.DevicePush) crier.Outcome) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer = f
}

// Send is actors.Vendors'.
func (v *Vendors) Send(_ context.Context, _ *crier.App, p *crier.DevicePush) crier.Outcome {
	v.mu.Lock()
	answer := v.answer
	v.pushes = append(v.pushes, p)
	v.mu.Unlock()
	if answer == nil {
		return crier.Outcome{Class: crier.OutcomeAccepted}
	}
	return answer(p)
}

// Lane is actors.Vendors'.
func (v *Vendors) Lane(d *crier.Device) string { return string(d.Vendor) + d.Target }

// CheckDevice is actors.Vendors'.
func (v *Vendors) CheckDevice(_ *crier.App, d crier.Device) (crier.Device, error) {
	return d, d.Validate()
}

// Pushes returns what was sent, in the order of sending.
func (v *Vendors) Pushes() []*crier.DevicePush {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.pushes)
}

// Tokens returns the tokens that were sent to, sorted.
func (v *Vendors) Tokens() []string {
	var tokens []string
	for _, p := range v.Pushes() {
		tokens = append(tokens, p.Device.Token)
	}
	slices.Sort(tokens)
	return tokens
}

// Campaign is actors.Replica's.
func (r *Replica) Campaign(app crier.AppID, id crier.TaskID) (*crier.Campaign, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.app(app).home.task(app, id)
	if err != nil {
		return nil, nil
	}
	return t.campaign, nil
}

// RecordOnline is actors.Replica's.
func (r *Replica) RecordOnline(ctx context.Context, app crier.AppID, seq uint64, places []crier.OnlinePlace) error {
	return r.command(ctx, "RecordOnline", func() error {
		online := make(map[uint32]bool)
		for _, p := range places {
			for _, ordinal := range p.Ordinals {
				online[ordinal] = true
			}
		}
		if f := r.app(app).funnel(seq); f.Online == 0 {
			f.Online = uint64(len(online))
			r.app(app).places[seq] = places
		}
		return nil
	})
}

// RecordSendings is actors.Replica's.
func (r *Replica) RecordSendings(ctx context.Context, campaigns []crier.CampaignSendings) error {
	return r.command(ctx, "RecordSendings", func() error {
		for _, s := range campaigns {
			a := r.app(s.App)
			a.sendings[s.Seq] = slices.AppendSeq(a.sendings[s.Seq], s.Records)
			a.missed[s.Seq] += s.Missed
		}
		return nil
	})
}

// ClaimDevice is actors.Replica's.
func (r *Replica) ClaimDevice(ctx context.Context, app crier.AppID, vendor crier.Vendor, token string, user crier.UserID, removed []crier.UserID) (former []crier.UserID, err error) {
	err = r.command(ctx, "ClaimDevice", func() error {
		owners := r.app(app).owners
		key := string(vendor) + token
		all := owners[key]
		former = slices.DeleteFunc(slices.Clone(all), func(u crier.UserID) bool { return u == user || slices.Contains(removed, u) })
		owners[key] = append(slices.Clone(former), user)
		return nil
	})
	return former, err
}

// VendorWork is actors.Replica's.
func (r *Replica) VendorWork() (campaigns []*crier.Campaign, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.apps {
		for _, m := range a.mail {
			if len(m.todo) > 0 {
				campaigns = append(campaigns, m.campaign)
			}
		}
	}
	return campaigns, nil
}

// VendorTargets is actors.Replica's.
func (r *Replica) VendorTargets(app crier.AppID, seq uint64, after int64, limit int) (targets []crier.VendorTarget, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.app(app)
	for _, m := range a.mail {
		if m.campaign.Seq != seq {
			continue
		}
		for ordinal := range m.todo {
			if int64(ordinal) > after {
				targets = append(targets, crier.VendorTarget{Ordinal: ordinal, Account: a.byOrdinal(ordinal), Waiting: 1})
			}
		}
	}
	slices.SortFunc(targets, func(x, y crier.VendorTarget) int { return cmp.Compare(x.Ordinal, y.Ordinal) })
	return targets[:min(len(targets), limit)], nil
}

// byOrdinal returns the account with the ordinal, nil where it has no device.
func (a *replicaApp) byOrdinal(ordinal uint32) *crier.Account {
	for _, account := range a.accounts {
		if account.Ordinal == ordinal && len(account.Devices) > 0 {
			return account
		}
	}
	return nil
}

// VendorProgress is actors.Replica's.
func (r *Replica) VendorProgress(ctx context.Context, app crier.AppID, p *crier.VendorProgress) error {
	return r.command(ctx, "VendorProgress", func() error {
		a := r.app(app)
		for _, m := range a.mail {
			for _, d := range p.Done {
				if m.campaign.Seq == p.Seq && m.todo[d.Ordinal] {
					delete(m.todo, d.Ordinal)
					a.funnel(p.Seq).Vendor.Accepted++
				}
			}
		}
		for i := range p.Gone {
			_, _ = a.change(crier.AccountChanges{App: app, Changes: p.Gone[i : i+1]}, time.Now(), true) // an account that is no more has no device
		}
		return nil
	})
}

func (a *replicaApp) funnel(seq uint64) *crier.Funnel {
	if a.funnels[seq] == nil {
		a.funnels[seq] = new(crier.Funnel)
	}
	return a.funnels[seq]
}

// Funnel is actors.Replica's.
func (r *Replica) Funnel(app crier.AppID, seq uint64) (*crier.Funnel, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.app(app)
	if seq > a.seq {
		return nil, nil
	}
	f := *a.funnel(seq)
	f.Matched = a.totals[seq]
	return &f, nil
}

// Explain is actors.Replica's; it knows only whether the account matches now, and where it was connected.
func (r *Replica) Explain(c *crier.Campaign, user crier.UserID, names *crier.AttrNames) (*crier.Explanation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &crier.Explanation{Task: c.Task, User: user}
	if account := r.app(c.App).accounts[user]; account != nil {
		for _, p := range r.app(c.App).places[c.Seq] {
			if slices.Contains(p.Ordinals, account.Ordinal) {
				e.Online, e.Connected = true, append(e.Connected, p.Place)
			}
		}
		e.SendingsMissing = r.app(c.App).missed[c.Seq] > 0
		for _, s := range r.app(c.App).sendings[c.Seq] {
			if s.Ordinal != account.Ordinal {
				continue
			}
			if !s.Acknowledged {
				e.Sendings = append(e.Sendings, crier.Sending{Time: s.Time, Session: s.Session, Place: s.Place, Mailbox: s.Mailbox})
				continue
			}
			for i := range e.Sendings {
				if e.Sendings[i].Session == s.Session {
					e.Sendings[i].Acked = s.Time
				}
			}
		}
		e.Exists, e.Known, e.Matched, e.Because = true, true, c.Condition.Match(account), c.Condition.Explain(account, names)
	}
	return e, nil
}
