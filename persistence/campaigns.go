package persistence

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/dgraph-io/badger/v4"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

const (
	// keepTotals is how long a partition can repeat how many accounts a campaign matched.
	keepTotals = 24 * time.Hour
	// keepReports is how long the report of a campaign can be asked for.
	keepReports = 30 * 24 * time.Hour
	// keepRequest is how long a call can be repeated under its request id, at least.
	keepRequest = time.Minute
	// sweepMost bounds what one Sweep forgets; the rest is due at once again.
	sweepMost = 1000
	// sweepWrites and sweepBytes end one that writes more: a campaign can have many records, and they must fit into a transaction.
	sweepWrites = 10_000
	sweepBytes  = 1 << 20
)

// dayZone is the calendar of the daily quota: UTC+8.
var dayZone = time.FixedZone("UTC+8", 8*60*60)

// Audience is whom a campaign matched. It implements crier.Audience.
type Audience struct {
	total    uint64
	ordinal  *roaring.Bitmap
	toNotify uint64
}

// ToNotify returns for how many a vendor may have something to do.
func (a *Audience) ToNotify() uint64 { return a.toNotify }

// Total returns how many accounts matched.
func (a *Audience) Total() uint64 { return a.total }

// Contains reports whether the account with the ordinal is to get the message.
func (a *Audience) Contains(ordinal uint32) bool { return a.ordinal.Contains(ordinal) }

// startCampaign evaluates a condition at this place of the log, and keeps the
// message for whom it matched. Those up to settled are done: they were here, and are not if a recovery has lost them.
func (m *Machine) startCampaign(c *crier.Campaign, settled uint64) any {
	state := m.app(c.App)
	switch {
	case c.Seq <= state.seq:
		return m.repeatCampaign(state, c)
	case c.Seq > max(state.seq, settled)+1:
		return crier.ErrCampaignGap
	}
	matched := state.index.evaluate(&c.Condition)
	matched.RunOptimize()
	audience := &Audience{total: matched.GetCardinality(), ordinal: matched}
	state.seq = c.Seq
	m.put(m.keys.app(kindSeq, c.App), encodeUint64(c.Seq))
	m.putUntil(m.keys.seq(kindTotal, c.App, c.Seq), encodeUint64(audience.total), m.now().Add(keepTotals))
	funnel := &logv1.Funnel{Matched: audience.total, Kept: c.Kept()}
	if c.Kept() && !matched.IsEmpty() && c.Expires().After(m.now()) {
		audience.toNotify = m.keep(state, c, matched.Clone(), funnel)
	} else if c.Kept() { // it came too late
		funnel.Expired = audience.total
		m.putExpired(c.App, c.Seq, matched)
	}
	m.words[0] = wordsOf(matched, m.words[0])
	m.remember(state, c, funnel)
	return audience
}

// keep stores a message once, and who of those who matched may get a notification. Who has it coming are those who matched, which remember stores.
func (m *Machine) keep(state *appState, c *crier.Campaign, matched *roaring.Bitmap, funnel *logv1.Funnel) (toNotify uint64) {
	x := &mail{seq: c.Seq, expires: c.Expires().UnixMilli(), remaining: matched, todo: roaring.New()}
	if funnel.Vendor = !c.Message.Offline.NoVendor && c.Message.Notifies(); funnel.GetVendor() {
		x.todo = roaring.And(matched, state.index.devices)
		toNotify = x.todo.GetCardinality()
		funnel.NoDevice = funnel.GetMatched() - toNotify
	}
	state.mail = append(state.mail, x)
	m.put(m.keys.seq(kindExpires, c.App, c.Seq), append(encodeUint64(uint64(x.expires)), remainAsMatched))
	m.putUntil(m.keys.seq(kindMessage, c.App, c.Seq), marshal(wire.FromCampaign(c)), c.Expires())
	m.words[0] = wordsOf(x.todo, m.words[0])
	m.putChunks(kindTodo, c.App, c.Seq, m.words[0])
	return toNotify
}

// repeatCampaign answers a campaign that was started before: with its total, and
// with whoever has it coming still.
func (m *Machine) repeatCampaign(state *appState, c *crier.Campaign) any {
	audience := &Audience{ordinal: roaring.New()}
	v, err := m.get(m.keys.seq(kindTotal, c.App, c.Seq))
	if err == nil && v != nil {
		audience.total, err = decodeUint64(v)
	}
	if err != nil {
		return m.broken(err)
	}
	if _, x := state.find(c.Seq); x != nil {
		audience.ordinal, audience.toNotify = x.remaining.Clone(), x.todo.GetCardinality()
	}
	return audience
}

// putUntil writes a record that Sweep forgets at the time.
func (m *Machine) putUntil(key, value []byte, until time.Time) {
	m.put(key, value)
	m.put(m.keys.due(until.UnixMilli(), key), nil)
}

// acknowledge clears the bits of accounts that have a message, and writes each
// chunk once. Who has it needs no notification any more.
func (m *Machine) acknowledge(c *logv1.Acknowledge) any {
	app := crier.AppID(c.GetApp())
	state := m.app(app)
	if len(c.GetSeqs()) != len(c.GetOrdinals()) || len(c.GetLater()) > 0 && len(c.GetLater()) != len(c.GetSeqs()) {
		return crier.Errorf(crier.CodeInternal, "acknowledgements are malformed")
	}
	type place struct {
		mail  *mail
		chunk uint32
	}
	type acked struct{ live, later, notNeeded uint64 }
	var dirty, dirtyTodo []place
	counts := make(map[uint64]*acked)
	var order []uint64
	for i, seq := range c.GetSeqs() {
		ordinal := c.GetOrdinals()[i]
		_, x := state.find(seq)
		if x == nil || !x.remaining.CheckedRemove(ordinal) {
			continue
		}
		n := counts[seq]
		if n == nil {
			n = new(acked)
			counts[seq], order = n, append(order, seq)
		}
		if len(c.GetLater()) > 0 && c.GetLater()[i] {
			n.later++
		} else {
			n.live++
		}
		p := place{x, chunkOf(ordinal)}
		if !slices.Contains(dirty, p) {
			dirty = append(dirty, p)
		}
		if x.todo.CheckedRemove(ordinal) {
			n.notNeeded++
			if !slices.Contains(dirtyTodo, p) {
				dirtyTodo = append(dirtyTodo, p)
			}
		}
	}
	for _, seq := range order {
		n := counts[seq]
		m.count(app, seq, func(f *logv1.Funnel) {
			f.Acknowledged += n.live
			f.Later += n.later
			f.NotNeeded += n.notNeeded
		})
	}
	for _, p := range dirtyTodo {
		m.writeChunk(kindTodo, app, p.mail, p.chunk)
	}
	for _, p := range dirty {
		m.writeRemaining(app, state, p.mail, p.chunk)
	}
	return nil
}

// createCampaign accepts a push, or says why not. A refusal leaves nothing
// behind: neither the MsgRandom nor the quota is used.
func (m *Machine) createCampaign(c *logv1.CreateCampaign) any {
	push := wire.ToCampaign(c.GetPush())
	state, now := m.app(push.App), m.now()
	var random logv1.Random
	if err := m.getProto(m.keys.random(push.App, push.Random), &random); err != nil {
		return m.broken(err)
	}
	if random.GetUntilMs() > now.UnixMilli() {
		first, err := m.task(push.App, random.GetSeq(), m.get)
		switch {
		case err != nil:
			return m.broken(err)
		case random.GetRequestId() == c.GetRequestId():
			return first
		case first != nil && now.Before(first.Accepted.Add(time.Duration(c.GetRandomWindowMs())*time.Millisecond)):
			return &repeatedPush{first}
		}
	}
	var home logv1.Home
	if err := m.getProto(m.keys.app(kindHome, push.App), &home); err != nil {
		return m.broken(err)
	}
	if err := m.checkQuota(c, state, &home, push.Kept()); err != nil {
		return err
	}
	m.accept(c, state, &home, push)
	return push
}

// repeatedPush is the refusal of a MsgRandom that was used, with its first use.
type repeatedPush struct{ first *crier.Campaign }

func today(t time.Time) int64 {
	_, offset := t.In(dayZone).Zone()
	return (t.Unix() + int64(offset)) / (24 * 60 * 60)
}

func (m *Machine) checkQuota(c *logv1.CreateCampaign, state *appState, home *logv1.Home, kept bool) error {
	now := m.now()
	if since := now.UnixMilli() - home.GetLastMs(); home.GetSeq() > 0 && since < c.GetIntervalMs() {
		return crier.Errorf(crier.CodePushTooSoon, "the last push was %d ms ago, the least interval is %d ms", since, c.GetIntervalMs())
	}
	if home.GetDay() == today(now) && c.GetPerDay() > 0 && home.GetCount() >= c.GetPerDay() {
		return crier.Errorf(crier.CodePushQuota, "%d pushes were sent today (UTC+8), the limit is %d", home.GetCount(), c.GetPerDay())
	}
	live := 0
	for _, k := range state.kept {
		if k.until > now.UnixMilli() {
			live++
		}
	}
	if kept && c.GetKept() > 0 && live >= int(c.GetKept()) {
		return crier.Errorf(crier.CodePushQuota, "%d pushes are kept in mailboxes, the limit is %d; a push without MsgLifeTime is welcome", live, c.GetKept())
	}
	return nil
}

// accept gives the push its place and stores it.
func (m *Machine) accept(c *logv1.CreateCampaign, state *appState, home *logv1.Home, push *crier.Campaign) {
	now := m.now()
	if day := today(now); home.GetDay() != day {
		home.Day, home.Count = day, 0
	}
	home.Seq, home.Count, home.LastMs = home.GetSeq()+1, home.GetCount()+1, now.UnixMilli()
	m.putProto(m.keys.app(kindHome, push.App), home)

	push.Seq, push.Accepted = home.GetSeq(), now
	push.Task = crier.NewTaskID(push.App, now, push.Random, push.Seq)
	end := now.Add(keepReports)
	m.putUntil(m.keys.seq(kindTask, push.App, push.Seq), marshal(wire.FromCampaign(push)), end)
	m.putUntil(m.keys.seq(kindReport, push.App, push.Seq), marshal(wire.FromReport(&crier.Report{Task: push.Task})), end)
	m.put(m.keys.seq(kindOpen, push.App, push.Seq), nil)
	state.open = append(state.open, push.Seq)

	until := now.Add(max(time.Duration(c.GetRandomWindowMs())*time.Millisecond, keepRequest))
	random := &logv1.Random{Seq: push.Seq, UntilMs: until.UnixMilli(), RequestId: c.GetRequestId()}
	m.putUntil(m.keys.random(push.App, push.Random), marshal(random), until)
	if push.Kept() {
		m.putUntil(m.keys.seq(kindKept, push.App, push.Seq), encodeUint64(uint64(push.Expires().UnixMilli())), push.Expires())
		state.kept = append(state.kept, keptFor{push.Seq, push.Expires().UnixMilli()})
	}
}

// task reads a campaign at its home, nil where there is none.
func (m *Machine) task(app crier.AppID, seq uint64, get func([]byte) ([]byte, error)) (*crier.Campaign, error) {
	return m.campaign(m.keys.seq(kindTask, app, seq), get)
}

func (m *Machine) campaign(key []byte, get func([]byte) ([]byte, error)) (*crier.Campaign, error) {
	v, err := get(key)
	if err != nil || v == nil {
		return nil, err
	}
	var p typesv1.Campaign
	if err := m.decode(key, v, &p); err != nil {
		return nil, err
	}
	return wire.ToCampaign(&p), nil
}

// recordProgress stores a report. One that is done stays as it is.
func (m *Machine) recordProgress(c *logv1.RecordProgress) any {
	app := crier.AppID(c.GetApp())
	report := wire.ToReport(c.GetReport())
	_, seq, ok := report.Task.Parse()
	key := m.keys.seq(kindReport, app, seq)
	var old typesv1.Report
	if err := m.getProto(key, &old); err != nil {
		return m.broken(err)
	}
	if !ok || old.GetTask() != string(report.Task) {
		return crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(report.Task)))
	}
	if crier.Status(old.GetStatus()) == crier.StatusDone {
		return nil
	}
	m.putProto(key, wire.FromReport(&report))
	if report.Status == crier.StatusDone {
		m.delete(m.keys.seq(kindOpen, app, seq))
		state := m.app(app)
		state.open = slices.DeleteFunc(state.open, func(s uint64) bool { return s == seq })
	}
	return nil
}

// sweep forgets what is due by the group's clock, up to sweepMost, the earliest first.
func (m *Machine) sweep() any {
	due, err := m.due(m.keys.due(m.meta.GetClockMs()+1, nil), sweepMost)
	if err != nil {
		return m.broken(err)
	}
	for _, k := range due {
		if m.writes > sweepWrites || m.written > sweepBytes {
			return nil // the rest is due at once again
		}
		if err := m.expire(k[offDue:]); err != nil {
			return m.broken(err)
		}
		m.delete(k)
	}
	return nil
}

// due returns the first keys of kindDue before end, up to most. The caller holds mu.
func (m *Machine) due(end []byte, most int) ([][]byte, error) {
	return m.keysUnder(m.keys.kind(kindDue), end, most)
}

// keysUnder returns the first keys with the prefix, before end where that is not nil, up to most, as of the last entry that was
// applied: those on disk and those that are not there yet, without those that have been deleted since. The caller holds mu.
func (m *Machine) keysUnder(prefix, end []byte, most int) (keys [][]byte, err error) {
	wanted := func(k []byte) bool { return end == nil || bytes.Compare(k, end) < 0 }
	for _, o := range []overlay{m.flushing, m.dirty} {
		for k := range o.writes {
			if key := []byte(k); strings.HasPrefix(k, string(prefix)) && wanted(key) {
				if v, _ := m.held(key); v != nil {
					keys = append(keys, key)
				}
			}
		}
	}
	err = m.store.stateDB.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		onDisk := 0
		for it.Rewind(); it.Valid() && onDisk < most; it.Next() {
			k := it.Item().KeyCopy(nil)
			if !wanted(k) {
				return nil
			}
			if _, written := m.held(k); !written {
				keys = append(keys, k)
				onDisk++
			}
		}
		return nil
	})
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	return keys[:min(len(keys), most)], err
}

// expire ends one record whose time has come.
func (m *Machine) expire(key []byte) error {
	switch key[offApp-1] {
	case kindMessage:
		app := keyApp(key)
		m.forgetMail(app, m.app(app), keySeq(key))
	case kindFunnel:
		return m.forgetExplanation(keyApp(key), keySeq(key))
	case kindRandom:
		var random logv1.Random
		if err := m.getProto(key, &random); err != nil {
			return err
		}
		if random.GetUntilMs() > m.meta.GetClockMs() {
			return nil // used again since; that use has a time of its own
		}
		m.delete(key)
	case kindKept:
		state, seq := m.app(keyApp(key)), keySeq(key)
		state.kept = slices.DeleteFunc(state.kept, func(k keptFor) bool { return k.seq == seq })
		m.delete(key)
	default:
		m.delete(key)
	}
	return nil
}
