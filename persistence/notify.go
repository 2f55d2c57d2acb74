package persistence

import (
	"context"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// formerMost bounds the former owners of a token that are remembered.
const formerMost = 16

// badgeMost bounds the messages that a badge counts.
const badgeMost = 999

// claimDevice gives a token to an account and answers with the former owners, which may have the device still.
func (m *Machine) claimDevice(c *logv1.ClaimDevice) any {
	key := m.keys.owner(crier.AppID(c.GetApp()), c.GetVendor(), c.GetToken())
	var o logv1.Owner
	if err := m.getProto(key, &o); err != nil {
		return m.broken(err)
	}
	former := o.GetFormer()
	if o.GetUser() != "" && o.GetUser() != c.GetUser() {
		former = append(former, o.GetUser())
	}
	former = slices.DeleteFunc(former, func(u string) bool { return u == c.GetUser() || slices.Contains(c.GetRemoved(), u) })
	former = former[max(0, len(former)-formerMost):]
	m.putProto(key, &logv1.Owner{User: c.GetUser(), Former: former})
	users := make([]crier.UserID, len(former))
	for i, u := range former {
		users[i] = crier.UserID(u)
	}
	return users
}

// vendorProgress stores what has become of notifications. A target that has acknowledged the message
// meanwhile is counted already.
func (m *Machine) vendorProgress(c *logv1.VendorProgress) any {
	app := crier.AppID(c.GetApp())
	state := m.app(app)
	if _, x := state.find(c.GetSeq()); x != nil {
		m.finish(app, x, c)
	}
	m.putAttempts(app, c.GetSeq(), &logv1.Attempts{Attempts: c.GetAttempts(), Groups: c.GetGroups()})
	for _, gone := range c.GetGone() {
		// An account that is no more has no device: the refusal is what was wanted.
		_ = m.changeAccounts(app, []crier.Change{wire.ToChange(gone)})
	}
	return nil
}

// finish takes targets off the list.
func (m *Machine) finish(app crier.AppID, x *mail, c *logv1.VendorProgress) {
	dirty := roaring.New() // chunks
	done := func(ordinal uint32) bool {
		if !x.todo.CheckedRemove(ordinal) {
			return false
		}
		dirty.Add(chunkOf(ordinal))
		return true
	}
	m.count(app, x.seq, func(f *logv1.Funnel) {
		for _, ordinal := range c.GetTaken() {
			if done(ordinal) {
				f.Accepted++
			}
		}
		for _, d := range c.GetDone() {
			if !done(d.GetOrdinal()) {
				continue
			}
			switch d.GetReason() {
			case "":
				f.Accepted++
			case crier.ReasonNoDevice:
				f.NoDevice++
			case crier.ReasonExpired:
				f.VendorExpired++
			default:
				if f.Failed == nil {
					f.Failed = make(map[string]uint64)
				}
				f.Failed[d.GetReason()]++
			}
		}
	})
	for it := dirty.Iterator(); it.HasNext(); {
		m.writeChunk(kindTodo, app, x, it.Next())
	}
}

// putAttempts remembers what was tried, up to attemptsMost.
func (m *Machine) putAttempts(app crier.AppID, seq uint64, a *logv1.Attempts) {
	if len(a.GetAttempts())+len(a.GetGroups()) == 0 {
		return
	}
	m.count(app, seq, func(f *logv1.Funnel) {
		if f.GetAttempts() >= attemptsMost {
			accepted := string(crier.OutcomeAccepted)
			a.Attempts = slices.DeleteFunc(a.Attempts, func(t *logv1.Attempt) bool { return t.GetOutcome() == accepted })
			a.Groups = slices.DeleteFunc(a.Groups, func(g *logv1.AttemptGroup) bool { return g.GetOutcome() == accepted })
		}
		n := len(a.GetAttempts())
		for _, g := range a.GetGroups() {
			n += len(g.GetOrdinals())
		}
		if n == 0 || f.GetAttempts() >= 2*attemptsMost {
			return
		}
		m.putProto(m.keys.record(kindAttempts, app, seq, f.GetRecords()), a)
		f.Records++
		f.Attempts += uint64(n)
	})
}

// ClaimDevice is actors.Replica's.
func (r *Replica) ClaimDevice(ctx context.Context, app crier.AppID, vendor crier.Vendor, token string, user crier.UserID, removed []crier.UserID) ([]crier.UserID, error) {
	c := &logv1.ClaimDevice{App: uint32(app), Vendor: string(vendor), Token: token, User: string(user)}
	for _, u := range removed {
		c.Removed = append(c.Removed, string(u))
	}
	result, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_ClaimDevice{ClaimDevice: c}})
	if err != nil {
		return nil, err
	}
	return answer[[]crier.UserID](result)
}

// RecordOnline is actors.Replica's.
func (r *Replica) RecordOnline(ctx context.Context, app crier.AppID, seq uint64, places []crier.OnlinePlace) error {
	c := &logv1.RecordOnline{App: uint32(app), Seq: seq}
	for _, p := range places {
		b := roaring.BitmapOf(p.Ordinals...)
		b.RunOptimize()
		ordinals, err := b.ToBytes()
		if err != nil {
			return internal(err)
		}
		c.Places = append(c.Places, &logv1.Place{Node: p.Node, Platform: string(p.Platform), State: string(p.State), Ordinals: ordinals})
	}
	_, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_RecordOnline{RecordOnline: c}})
	return err
}

// VendorProgress is actors.Replica's.
func (r *Replica) VendorProgress(ctx context.Context, app crier.AppID, p *crier.VendorProgress) error {
	c := &logv1.VendorProgress{App: uint32(app), Seq: p.Seq, Groups: groupAttempts(p.Attempts)}
	for _, d := range p.Done {
		if d.Reason == "" {
			c.Taken = append(c.Taken, d.Ordinal)
		} else {
			c.Done = append(c.Done, &logv1.VendorResult{Ordinal: d.Ordinal, Reason: d.Reason})
		}
	}
	for i := range p.Gone {
		c.Gone = append(c.Gone, wire.FromChange(&p.Gone[i]))
	}
	_, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_VendorProgress{VendorProgress: c}})
	return err
}

// VendorWork is actors.Replica's.
func (r *Replica) VendorWork() (campaigns []*crier.Campaign, err error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	for app, state := range r.m.apps {
		for _, x := range state.mail {
			if x.todo.IsEmpty() {
				continue
			}
			c, err := r.m.campaign(r.m.keys.seq(kindMessage, app, x.seq), r.m.get)
			if err != nil {
				return nil, internal(err)
			}
			if c != nil {
				campaigns = append(campaigns, c)
			}
		}
	}
	return campaigns, nil
}

// VendorTargets is actors.Replica's.
func (r *Replica) VendorTargets(app crier.AppID, seq uint64, after int64, limit int) (targets []crier.VendorTarget, _ error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	for _, ordinal := range r.m.todo(app, seq, after, limit) {
		account, err := r.m.holder(app, ordinal)
		if err != nil {
			return nil, internal(err)
		}
		targets = append(targets, crier.VendorTarget{Ordinal: ordinal, Account: account, Waiting: len(r.m.waiting(app, ordinal, 0, badgeMost))})
	}
	return targets, nil
}

// todo returns up to limit ordinals over after that may get a notification still. The caller holds mu.
func (m *Machine) todo(app crier.AppID, seq uint64, after int64, limit int) (ordinals []uint32) {
	state := m.apps[app]
	if state == nil {
		return nil
	}
	_, x := state.find(seq)
	if x == nil {
		return nil
	}
	it := x.todo.Iterator()
	it.AdvanceIfNeeded(uint32(after + 1))
	for it.HasNext() && len(ordinals) < limit {
		ordinals = append(ordinals, it.Next())
	}
	return ordinals
}

// holder returns the account with the ordinal, nil where it has no devices. The caller holds mu.
func (m *Machine) holder(app crier.AppID, ordinal uint32) (*crier.Account, error) {
	user, err := m.get(m.keys.holder(app, ordinal))
	if err != nil || user == nil {
		return nil, err
	}
	return m.find(app, crier.UserID(user), false)
}
