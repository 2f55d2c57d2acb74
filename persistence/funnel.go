package persistence

import (
	"math"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

const (
	// keepExplained is how long it can be told what became of a campaign, after its end.
	keepExplained = 24 * time.Hour
	// attemptsMost bounds the attempts of a campaign that a partition remembers; over it, only failures are
	// remembered, up to twice as many.
	attemptsMost = 20_000
)

// remember stores what explanations and the funnel of a campaign need. Who matched is in m.words[0], which it uses up.
func (m *Machine) remember(state *appState, c *crier.Campaign, funnel *logv1.Funnel) {
	until := m.now()
	if c.Expires().After(until) {
		until = c.Expires()
	}
	until = until.Add(keepExplained)
	m.putUntil(m.keys.seq(kindFunnel, c.App, c.Seq), marshal(funnel), until)
	m.putWho(state, c)
}

// count changes the funnel of a campaign, if it is still remembered.
func (m *Machine) count(app crier.AppID, seq uint64, change func(*logv1.Funnel)) {
	key := m.keys.seq(kindFunnel, app, seq)
	f := new(logv1.Funnel)
	switch v, err := m.get(key); {
	case err != nil:
		_ = m.broken(err) // the process ends
		return
	case v == nil || m.decode(key, v, f) != nil:
		return // forgotten; a damaged one is not worth a refused acknowledgement
	}
	change(f)
	m.putProto(key, f)
}

// recordOnline stores who was connected, and where, when a campaign came. The first time counts: a campaign that comes again finds only those that have it coming still.
func (m *Machine) recordOnline(c *logv1.RecordOnline) any {
	app, places := crier.AppID(c.GetApp()), c.GetPlaces()
	if len(c.GetOnline()) > 0 {
		places = append(places, &logv1.Place{State: string(crier.Online), Ordinals: c.GetOnline()})
	}
	online := roaring.New()
	for _, p := range places {
		at, err := readBitmap(p.GetOrdinals())
		if err != nil {
			return internal(err)
		}
		online.Or(at)
	}
	m.count(app, c.GetSeq(), func(f *logv1.Funnel) {
		if f.GetOnline() > 0 {
			return
		}
		f.Online = online.GetCardinality()
		m.putProto(m.keys.seq(kindPlaces, app, c.GetSeq()), &logv1.Places{Places: places})
	})
	return nil
}

// placesOf returns where an account was connected when a campaign came.
func (m *Machine) placesOf(app crier.AppID, seq uint64, ordinal uint32) (at []crier.Place, err error) {
	var places logv1.Places
	if err := m.getProto(m.keys.seq(kindPlaces, app, seq), &places); err != nil {
		return nil, internal(err)
	}
	for _, p := range places.GetPlaces() {
		b, err := readBitmap(p.GetOrdinals())
		if err != nil {
			return nil, internal(err)
		}
		if b.Contains(ordinal) {
			at = append(at, crier.Place{Node: p.GetNode(), Platform: crier.Platform(p.GetPlatform()), State: crier.PresenceState(p.GetState())})
		}
	}
	return at, nil
}

// forgetExplanation ends what remember began.
func (m *Machine) forgetExplanation(app crier.AppID, seq uint64) error {
	m.delete(m.keys.seq(kindFunnel, app, seq))
	m.delete(m.keys.seq(kindPlaces, app, seq))
	for _, kind := range []byte{kindMatched, kindAttempts, kindSendings} {
		m.deleteUnder(m.keys.seq(kind, app, seq))
	}
	return nil
}

// deleteUnder deletes every key with the prefix. A disk that can't be read ends the group: what it would leave is not what
// other replicas have.
func (m *Machine) deleteUnder(prefix []byte) {
	keys, err := m.under(prefix)
	if err != nil {
		_ = m.broken(err) // the process ends
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
	key := r.m.keys.seq(kindFunnel, c.App, c.Seq)
	v, err := r.m.get(key)
	if err != nil {
		return nil, internal(err)
	}
	who, err := r.m.readWho(c.App, c.Seq)
	if err != nil {
		return nil, internal(err)
	}
	e.Exists, e.Known = a != nil, v != nil && who != nil
	if !e.Exists || !e.Known {
		return e, nil
	}
	p := new(logv1.Funnel)
	if err := r.m.decode(key, v, p); err != nil {
		return nil, internal(err)
	}
	e.SendingsMissing = p.GetSendingsMissed() > 0
	return e, r.m.explain(e, c, a, who, names)
}

// explain fills in what is known of an account. The caller holds mu.
func (m *Machine) explain(e *crier.Explanation, c *crier.Campaign, a *crier.Account, who *matched, names *crier.AttrNames) error {
	e.Matched, e.Changed = who.accounts.Contains(a.Ordinal), a.Changed.After(c.Accepted)
	var err error
	if e.Connected, err = m.placesOf(c.App, c.Seq, a.Ordinal); err != nil {
		return err
	}
	e.Online = len(e.Connected) > 0
	switch {
	case !e.Changed:
		e.Because = c.Condition.Explain(a, names)
	case a.Created.After(c.Accepted):
		e.Because = []string{"the account was made after the push"}
	case e.Matched:
		first, err := who.term(a.Ordinal)
		if err != nil {
			return internal(err)
		}
		e.Because = recall(&c.Condition, first, names)
	}
	if _, x := m.app(c.App).find(c.Seq); x != nil && x.remaining.Contains(a.Ordinal) {
		e.Delivery = crier.DeliveryWaiting
		if x.todo.Contains(a.Ordinal) {
			e.Vendor = crier.NotifyToDo
		}
	} else if e.Matched && c.Kept() {
		e.Delivery = crier.DeliveryAcknowledged
		if expired, err := m.hasExpired(c.App, c.Seq, a.Ordinal); err != nil {
			return internal(err)
		} else if expired {
			e.Delivery = crier.DeliveryExpired
		}
	}
	if e.Sendings, err = m.sendingsOf(c.App, c.Seq, a.Ordinal); err != nil {
		return err
	}
	attempts, err := m.attemptsOf(c.App, c.Seq, a.Ordinal)
	if e.Attempts = attempts; len(attempts) > 0 && e.Vendor == crier.NotifyNone {
		e.Vendor = crier.NotifyDone
	}
	return err
}

// recall returns the parts of the condition that an account had which has changed since: all that it needed, and of
// those of which it needed one, the first that it had.
func recall(c *crier.Condition, first int, names *crier.AttrNames) []string {
	had := crier.Account{Tags: slices.Clone(c.TagsAnd)}
	for _, t := range c.AttrsAnd {
		had.Attrs[t.Slot] = t.Value
	}
	if len(c.TagsOr) > 0 {
		had.Tags = append(had.Tags, c.TagsOr[first])
	}
	if len(c.AttrsOr) > 0 {
		had.Attrs[c.AttrsOr[first].Slot] = c.AttrsOr[first].Value
	}
	slices.Sort(had.Tags)
	return c.Explain(&had, names)
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
		for _, g := range record.GetGroups() {
			attempts = appendGroup(attempts, g, ordinal)
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

// groupAttempts brings attempts into groups, in their order.
func groupAttempts(attempts []crier.Attempt) (groups []*logv1.AttemptGroup) {
	type kind struct {
		vendor          crier.Vendor
		outcome, reason string
		tries           int
	}
	of := make(map[kind]*logv1.AttemptGroup)
	attempts = slices.Clone(attempts)
	slices.SortStableFunc(attempts, func(a, b crier.Attempt) int { return a.Time.Compare(b.Time) }) // none is before its group
	for _, a := range attempts {
		k, ms := kind{a.Vendor, a.Outcome, a.Reason, a.Tries}, a.Time.UnixMilli()
		g := of[k]
		if g == nil {
			g = &logv1.AttemptGroup{Vendor: string(a.Vendor), Outcome: a.Outcome, Reason: a.Reason, Tries: uint32(a.Tries), TimeMs: ms}
			of[k], groups = g, append(groups, g)
		}
		g.Ordinals = append(g.Ordinals, a.Ordinal)
		g.AfterMs = append(g.AfterMs, uint32(ms-g.GetTimeMs()))
		g.Devices = append(g.Devices, a.Device)
	}
	return groups
}

// appendGroup appends a group's attempts of one account.
func appendGroup(attempts []crier.Attempt, g *logv1.AttemptGroup, ordinal uint32) []crier.Attempt {
	for i, o := range g.GetOrdinals() {
		if o == ordinal && i < len(g.GetAfterMs()) && i < len(g.GetDevices()) {
			attempts = append(attempts, crier.Attempt{
				Ordinal: ordinal, Time: time.UnixMilli(g.GetTimeMs() + int64(g.GetAfterMs()[i])).UTC(), Vendor: crier.Vendor(g.GetVendor()),
				Device: g.GetDevices()[i], Outcome: g.GetOutcome(), Reason: g.GetReason(), Tries: int(g.GetTries()),
			})
		}
	}
	return attempts
}
