package persistence

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

const (
	// keepExplained is how long it can be told what became of a campaign, at least; longer if it is kept longer.
	keepExplained = 24 * time.Hour
	// attemptsMost bounds the attempts of a campaign that a partition remembers; over it, only failures are
	// remembered, up to twice as many.
	attemptsMost = 20_000
	// The parts of kindMatched: who matched, who was connected, and from partOr on for which tag of TagsOr, or else
	// value of AttrsOr.
	partAll    = 0
	partOnline = 1
	partOr     = 2
)

// remember stores what explanations and the funnel of a campaign need.
func (m *Machine) remember(state *appState, c *crier.Campaign, matched *roaring.Bitmap, funnel *logv1.Funnel) {
	until := m.now().Add(keepExplained)
	if c.Expires().After(until) {
		until = c.Expires()
	}
	m.putUntil(m.keys.seq(kindFunnel, c.App, c.Seq), marshal(funnel), until)
	m.putMatched(c.App, c.Seq, partAll, matched)
	rest := matched.Clone() // each account under the first term that it has: all terms of all would be twice as much
	for i, t := range orTerms(&c.Condition) {
		part := roaring.And(rest, state.index.postings[t].bitmap())
		rest.AndNot(part)
		m.putMatched(c.App, c.Seq, byte(partOr+i), part)
	}
}

// orTerms are the terms of which an account needs only one: which it had can't be told from the condition. One
// alone is no choice.
func orTerms(c *crier.Condition) (terms []term) {
	if len(c.TagsOr) > 1 {
		for _, t := range c.TagsOr {
			terms = append(terms, tagTerm(t))
		}
	}
	if len(c.AttrsOr) > 1 {
		for _, t := range c.AttrsOr {
			terms = append(terms, attrTerm(t.Slot, t.Value))
		}
	}
	return terms
}

// putMatched stores a part, as a whole: it is never changed.
func (m *Machine) putMatched(app crier.AppID, seq uint64, part byte, b *roaring.Bitmap) {
	if b.IsEmpty() {
		return
	}
	same := roaring.FromDense(b.ToDense(), false) // the same bits are the same bytes, whatever operations made them
	same.RunOptimize()
	v, err := same.ToBytes()
	if err != nil {
		panic("persistence: " + err.Error()) // writes to memory only
	}
	m.put(m.keys.matched(app, seq, part), v)
}

// count changes the funnel of a campaign, if it is still remembered.
func (m *Machine) count(app crier.AppID, seq uint64, change func(*logv1.Funnel)) {
	key := m.keys.seq(kindFunnel, app, seq)
	f := new(logv1.Funnel)
	if v, err := m.get(key); err != nil || v == nil || m.decode(key, v, f) != nil {
		return // forgotten; an unreadable one is not worth refusing an acknowledgement
	}
	change(f)
	m.putProto(key, f)
}

// recordOnline stores who was connected when a campaign came.
func (m *Machine) recordOnline(c *logv1.RecordOnline) any {
	app := crier.AppID(c.GetApp())
	online := roaring.New()
	err := online.UnmarshalBinary(c.GetOnline())
	if err == nil {
		err = online.Validate()
	}
	if err != nil {
		return internal(err)
	}
	m.count(app, c.GetSeq(), func(f *logv1.Funnel) {
		f.Online = online.GetCardinality()
		m.putMatched(app, c.GetSeq(), partOnline, online)
	})
	return nil
}

// forgetExplanation ends what remember began.
func (m *Machine) forgetExplanation(app crier.AppID, seq uint64) error {
	m.delete(m.keys.seq(kindFunnel, app, seq))
	for _, kind := range []byte{kindMatched, kindAttempts} {
		m.deleteUnder(m.keys.seq(kind, app, seq))
	}
	return nil
}

// deleteUnder deletes every key with the prefix. A disk that can't be read ends the group: what it would leave is not what
// other replicas have.
func (m *Machine) deleteUnder(prefix []byte) {
	keys, err := m.under(prefix)
	if err != nil {
		m.failed = true
		m.store.cfg.Fatal(fmt.Errorf("read the state of partition %s: %w", m.group, err))
		return
	}
	for _, k := range keys {
		m.delete(k)
	}
}

// under returns every key with the prefix.
func (m *Machine) under(prefix []byte) ([][]byte, error) {
	return m.keysUnder(prefix, nil, math.MaxInt)
}

// Funnel is actors.Replica's.
func (r *Replica) Funnel(app crier.AppID, seq uint64) (*crier.Funnel, error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	key := r.m.keys.seq(kindFunnel, app, seq)
	v, err := r.m.get(key)
	if err != nil || v == nil {
		return nil, err
	}
	p := new(logv1.Funnel)
	if err := r.m.decode(key, v, p); err != nil {
		return nil, internal(err)
	}
	f := &crier.Funnel{
		Matched: p.GetMatched(), Online: p.GetOnline(), Kept: p.GetKept(), Acknowledged: p.GetAcknowledged(), Later: p.GetLater(),
		Expired: p.GetExpired(), Deleted: p.GetDeleted(),
		Vendor: crier.VendorFunnel{
			Wanted: p.GetVendor(), NoDevice: p.GetNoDevice(), Accepted: p.GetAccepted(), NotNeeded: p.GetNotNeeded(),
			Failed: p.GetFailed(), Expired: p.GetVendorExpired(), Deleted: p.GetVendorDeleted(),
		},
	}
	if state := r.m.apps[app]; state != nil {
		if _, x := state.find(seq); x != nil {
			f.Waiting, f.Vendor.ToDo = x.remaining.GetCardinality(), x.todo.GetCardinality()
		}
	}
	return f, nil
}

// Explain is actors.Replica's.
func (r *Replica) Explain(c *crier.Campaign, user crier.UserID, names *crier.AttrNames) (*crier.Explanation, error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	e := &crier.Explanation{Task: c.Task, User: user, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone}
	a, err := r.m.account(c.App, user)
	if err != nil {
		return nil, internal(err)
	}
	funnel, err := r.m.get(r.m.keys.seq(kindFunnel, c.App, c.Seq))
	if err != nil {
		return nil, internal(err)
	}
	e.Exists, e.Known = a != nil, funnel != nil
	if a == nil || funnel == nil {
		return e, nil
	}
	return e, r.m.explain(e, c, a, names)
}

// explain fills in what is known of an account. The caller holds mu.
func (m *Machine) explain(e *crier.Explanation, c *crier.Campaign, a *crier.Account, names *crier.AttrNames) error {
	in := func(part byte) bool { return m.inMatched(c.App, c.Seq, part, a.Ordinal) }
	e.Matched, e.Online, e.Changed = in(partAll), in(partOnline), a.Changed.After(c.Accepted)
	switch {
	case !e.Changed:
		e.Because = c.Condition.Explain(a, names)
	case a.Created.After(c.Accepted):
		e.Because = []string{"the account was made after the push"}
	case e.Matched:
		e.Because = m.recall(c, in, names)
	}
	if _, x := m.app(c.App).find(c.Seq); x != nil && x.remaining.Contains(a.Ordinal) {
		e.Delivery = crier.DeliveryWaiting
		if x.todo.Contains(a.Ordinal) {
			e.Vendor = crier.NotifyToDo
		}
	} else if e.Matched && c.Kept() {
		e.Delivery = crier.DeliveryAcknowledged
	}
	attempts, err := m.attemptsOf(c.App, c.Seq, a.Ordinal)
	if e.Attempts = attempts; len(attempts) > 0 && e.Vendor == crier.NotifyNone {
		e.Vendor = crier.NotifyDone
	}
	return err
}

// recall returns the parts of the condition that an account had which has changed since: all that it needed, and of
// those of which it needed one, the first that it had.
func (m *Machine) recall(c *crier.Campaign, in func(part byte) bool, names *crier.AttrNames) []string {
	had := crier.Account{Tags: slices.Clone(c.Condition.TagsAnd)}
	for _, t := range c.Condition.AttrsAnd {
		had.Attrs[t.Slot] = t.Value
	}
	part := byte(partOr)
	for _, t := range c.Condition.TagsOr {
		if len(c.Condition.TagsOr) == 1 || in(part) {
			had.Tags = append(had.Tags, t)
		}
		part++
	}
	if len(c.Condition.TagsOr) == 1 {
		part--
	}
	for _, t := range c.Condition.AttrsOr {
		if len(c.Condition.AttrsOr) == 1 || in(part) {
			had.Attrs[t.Slot] = t.Value
		}
		part++
	}
	slices.Sort(had.Tags)
	return c.Condition.Explain(&had, names)
}

// inMatched reports whether a part of kindMatched has the ordinal.
func (m *Machine) inMatched(app crier.AppID, seq uint64, part byte, ordinal uint32) bool {
	v, err := m.get(m.keys.matched(app, seq, part))
	if err != nil || v == nil {
		return false
	}
	b := roaring.New()
	return b.UnmarshalBinary(v) == nil && b.Validate() == nil && b.Contains(ordinal)
}

// attemptsOf returns what was tried for an account, in the order of time.
func (m *Machine) attemptsOf(app crier.AppID, seq uint64, ordinal uint32) (attempts []crier.Attempt, err error) {
	keys, err := m.under(m.keys.seq(kindAttempts, app, seq))
	if err != nil {
		return nil, internal(err)
	}
	for _, k := range keys {
		record := new(logv1.Attempts)
		if err := m.getProto(k, record); err != nil {
			return nil, internal(err)
		}
		for _, p := range record.GetAttempts() {
			if p.GetOrdinal() == ordinal {
				attempts = append(attempts, crier.Attempt{
					Ordinal: ordinal, Time: time.UnixMilli(p.GetTimeMs()).UTC(), Vendor: crier.Vendor(p.GetVendor()), Device: p.GetDevice(),
					Outcome: p.GetOutcome(), Reason: p.GetReason(), Tries: int(p.GetTries()),
				})
			}
		}
	}
	return attempts, nil
}
