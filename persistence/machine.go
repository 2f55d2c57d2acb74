package persistence

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/dgraph-io/badger/v4"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// recentMost is how many accounts a partition keeps in memory, as their records: 16 MB for 64 partitions and records of 100 bytes. A call that changes accounts
// reads each twice, when they are checked and when the log applies it, a moment apart; and who was changed is often changed again. To find a
// record in Badger costs more than all else that a change does to the state.
const recentMost = 1024

// Machine is the state machine of one partition. It implements
// raft.BatchingFSM.
type Machine struct {
	*base
	apps   map[crier.AppID]*appState
	recent *lru.Cache[string, []byte] // records of accounts by key, as of the last entry that was applied, the last that was changed or came in first; guarded by base.mu
	// changed is how many bytes of accounts the command that is being applied has changed, as commandRecords bounds them.
	changed int
	buffer  []byte      // for the record of an account
	words   [3][]uint64 // for bitmaps of a campaign
}

// appState is what a partition holds of one app in memory, guarded by base.mu.
type appState struct {
	index *index
	next  uint32  // the next ordinal
	seq   uint64  // the last campaign that was started here
	mail  []*mail // kept campaigns, by seq

	open []uint64  // home: campaigns that are not done, sorted
	kept []keptFor // home: pushes that are kept, by seq
}

// mail is one kept campaign: who has it coming.
type mail struct {
	seq       uint64
	expires   int64 // Unix milliseconds
	remaining *roaring.Bitmap
	todo      *roaring.Bitmap // who may still get a notification: some of remaining
}

type keptFor struct {
	seq   uint64
	until int64
}

func newMachine(s *Store, p crier.PartitionID) *Machine {
	m := &Machine{apps: make(map[crier.AppID]*appState)}
	m.recent, _ = lru.New[string, []byte](recentMost) // fails for a size below 1
	m.base = newBase(s, p, m)
	return m
}

func (m *Machine) load() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.loadMeta(); err != nil {
		return err
	}
	return m.reload()
}

// reload builds the memory from disk. The caller holds mu.
func (m *Machine) reload() error {
	m.apps = make(map[crier.AppID]*appState)
	m.recent.Purge()
	return m.store.stateDB.View(func(txn *badger.Txn) error {
		if err := m.loadOrigins(txn); err != nil {
			return fmt.Errorf("load partition %s: %w", m.group, err)
		}
		if err := m.loadAccounts(txn); err != nil {
			return fmt.Errorf("load the accounts of partition %s: %w", m.group, err)
		}
		for _, step := range []struct {
			kind byte
			take func(k, v []byte) error
		}{
			{kindOrdinal, func(k, v []byte) error { m.app(keyApp(k)).next = binary.BigEndian.Uint32(v); return nil }},
			{kindSeq, func(k, v []byte) (err error) { m.app(keyApp(k)).seq, err = decodeUint64(v); return err }},
			{kindExpires, m.loadMail},
			{kindRemaining, m.loadRemaining},
			{kindTodo, m.loadRemaining},
			{kindOpen, func(k, _ []byte) error { a := m.app(keyApp(k)); a.open = append(a.open, keySeq(k)); return nil }},
			{kindKept, m.loadKept},
		} {
			if err := scan(txn, m.keys.kind(step.kind), step.take); err != nil {
				return fmt.Errorf("load partition %s, kind %q: %w", m.group, step.kind, err)
			}
		}
		for _, a := range m.apps {
			a.index.compact()
			for _, x := range a.mail { // without accounts that were deleted
				x.remaining.And(a.index.all)
				x.todo.And(x.remaining)
			}
		}
		return nil
	})
}

// scan calls take with every key under the prefix, in order. Neither key nor
// value may be kept.
func scan(txn *badger.Txn, prefix []byte, take func(k, v []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix}) // to prefetch a value, which stands with its key, would take a goroutine
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := it.Item().Value(func(v []byte) error { return take(it.Item().Key(), v) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) app(id crier.AppID) *appState {
	a := m.apps[id]
	if a == nil {
		a = &appState{index: newIndex()}
		m.apps[id] = a
	}
	return a
}

// loadAccounts makes the index of each app.
func (m *Machine) loadAccounts(txn *badger.Txn) error {
	loaders := make(map[crier.AppID]*indexLoader)
	err := scan(txn, m.keys.kind(kindAccount), func(k, v []byte) error {
		id := keyApp(k)
		l := loaders[id]
		if l == nil {
			l = newIndexLoader()
			loaders[id] = l
		}
		return l.add(v)
	})
	for id, l := range loaders {
		m.app(id).index = l.index()
	}
	return err
}

// remainAsMatched marks a record of kindExpires: who has the campaign coming are those who matched, but for the chunks of kindRemaining. Without
// it, as it was once, the chunks are all; and who reads the record as it was ends, rather than take those without a chunk for done.
const remainAsMatched = 1

func (m *Machine) loadMail(k, v []byte) error {
	app, seq := keyApp(k), keySeq(k)
	x := &mail{seq: seq, remaining: roaring.New(), todo: roaring.New()}
	if len(v) == 9 && v[8] == remainAsMatched {
		v = v[:8]
		who, err := m.readWho(app, seq)
		if err != nil {
			return err
		}
		if who == nil {
			return fmt.Errorf("who matched campaign %d of app %d is not there", seq, app)
		}
		x.remaining = who.accounts
	}
	until, err := decodeUint64(v)
	x.expires = int64(until)
	a := m.app(app)
	a.mail = append(a.mail, x)
	return err
}

func (m *Machine) loadRemaining(k, v []byte) error {
	chunk := binary.BigEndian.Uint32(k[offEnd:])
	part, err := decodeChunk(v, chunk)
	if err != nil {
		return err
	}
	if _, mail := m.app(keyApp(k)).find(keySeq(k)); mail != nil {
		if k[offApp-1] == kindTodo {
			mail.todo.Or(part)
		} else {
			first := uint64(chunk) * chunkOrdinals
			mail.remaining.RemoveRange(first, first+chunkOrdinals)
			mail.remaining.Or(part)
		}
	}
	return nil
}

func (m *Machine) loadKept(k, v []byte) error {
	until, err := decodeUint64(v)
	a := m.app(keyApp(k))
	a.kept = append(a.kept, keptFor{keySeq(k), int64(until)})
	return err
}

// find returns the kept campaign with the seq, nil if there is none, and where
// it stands or would stand.
func (a *appState) find(seq uint64) (int, *mail) {
	i, ok := slices.BinarySearchFunc(a.mail, seq, func(x *mail, s uint64) int { return cmp.Compare(x.seq, s) })
	if !ok {
		return i, nil
	}
	return i, a.mail[i]
}

// commandRecords bounds the accounts that the calls of one command change, in bytes: what it writes goes to disk as one. Calls that come after are to be sent
// again. Beside it there is room for one call (crier.MaxChangedBytes), and for what waits already (overlayBytes).
const commandRecords = 1 << 20

// change is a command of calls, one after the other: it returns the error of each. The caller holds mu.
func (m *Machine) change(calls []crier.AccountChanges) any {
	m.changed = 0
	errs := make([]error, len(calls))
	for i := range calls {
		if m.changed > commandRecords {
			errs[i] = &crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text()}
			continue
		}
		errs[i] = m.once(calls[i].ID, func() error { return m.changeAccounts(calls[i].App, calls[i].Changes) })
	}
	return errs
}

// apply is any other command. The caller holds mu.
func (m *Machine) apply(cmd *logv1.Command) any {
	switch c := cmd.GetBody().(type) {
	case *logv1.Command_StartCampaign:
		return m.startCampaign(wire.ToCampaign(c.StartCampaign.GetCampaign()), c.StartCampaign.GetSettled())
	case *logv1.Command_Acknowledge:
		return m.acknowledge(c.Acknowledge)
	case *logv1.Command_CreateCampaign:
		return m.createCampaign(c.CreateCampaign)
	case *logv1.Command_RecordProgress:
		return m.recordProgress(c.RecordProgress)
	case *logv1.Command_Sweep:
		return m.sweep()
	case *logv1.Command_ClaimDevice:
		return m.claimDevice(c.ClaimDevice)
	case *logv1.Command_VendorProgress:
		return m.vendorProgress(c.VendorProgress)
	case *logv1.Command_RecordOnline:
		return m.recordOnline(c.RecordOnline)
	case *logv1.Command_RecordSendings:
		return m.recordSendings(c.RecordSendings)
	default:
		return crier.Errorf(crier.CodeInternal, "a command of the system group came to partition %s", m.group)
	}
}

func (m *Machine) now() time.Time { return time.UnixMilli(m.meta.GetClockMs()).UTC() }

// account returns an account as of the last entry that was applied, nil if it does not
// exist. It is shared: not to be changed. The caller holds mu, for reading at least.
func (m *Machine) account(app crier.AppID, user crier.UserID) (*crier.Account, error) {
	return m.find(app, user, true)
}

// find is account. Only one that is kept stays in memory: of many in a row none should take the place of others.
func (m *Machine) find(app crier.AppID, user crier.UserID, keep bool) (*crier.Account, error) {
	key := m.keys.account(app, user)
	v, err := m.record(key, keep)
	if err != nil || v == nil {
		return nil, err
	}
	a, err := wire.ParseAccount(app, user, v)
	if err != nil {
		return nil, m.damaged(key, err)
	}
	return a, nil
}

// record returns the record of an account as find does; nil where there is none.
func (m *Machine) record(key []byte, keep bool) ([]byte, error) {
	if v, ok := m.recent.Peek(string(key)); ok {
		return v, nil
	}
	v, err := m.get(key)
	if err == nil && v != nil && keep {
		m.recent.Add(string(key), v)
	}
	return v, err
}

// tried is what changes of accounts would leave.
type tried struct {
	accounts []touched
	next     uint32 // the next ordinal
	size     int    // of the accounts, in bytes
}

// touched is an account before and after changes; nil: it does not exist.
type touched struct{ old, now *crier.Account }

// try applies changes in order to copies of the accounts, the state stays as it is. refused is the error of the change at the place, or of all
// (place 0); err is of reading. The caller holds mu, for reading at least.
func (m *Machine) try(app crier.AppID, changes []crier.Change, now time.Time) (t tried, at int, refused, err error) {
	t.accounts = make([]touched, 0, len(changes))
	if state := m.apps[app]; state != nil {
		t.next = state.next
	}
	places := make(map[crier.UserID]int) // in t.accounts
	for i := range changes {
		change := &changes[i]
		place, again := places[change.User]
		if !again {
			old, err := m.account(app, change.User)
			if err != nil {
				return t, 0, nil, err
			}
			place = len(t.accounts)
			places[change.User] = place
			t.accounts = append(t.accounts, touched{old: old, now: old})
		}
		one := &t.accounts[place]
		exists := one.now != nil
		a := crier.Account{App: app, Ordinal: t.next}
		if exists {
			a = *one.now
		}
		existsNow, err := change.Apply(&a, exists, now)
		switch {
		case err != nil:
			return t, i, err, nil
		case !existsNow:
			one.now = nil
		default:
			one.now = &a
		}
		if existsNow && !exists {
			t.next++
		}
	}
	for _, one := range t.accounts {
		if one.now != nil {
			t.size += one.now.Size()
		}
	}
	return t, 0, crier.CheckChanged(t.size), nil
}

// changeAccounts applies changes in order, all or nothing: they are written once every change was taken.
func (m *Machine) changeAccounts(app crier.AppID, changes []crier.Change) error {
	t, _, refused, err := m.try(app, changes, m.now())
	switch {
	case err != nil:
		return m.broken(err)
	case refused != nil:
		return refused
	}
	m.changed += t.size
	state := m.app(app)
	if t.next != state.next {
		state.next = t.next
		m.put(m.keys.app(kindOrdinal, app), binary.BigEndian.AppendUint32(nil, t.next))
	}
	for _, one := range t.accounts {
		m.writeAccount(state, one.old, one.now)
	}
	return nil
}

// check returns what try would of refusals. Most changes are refused only where the account does not exist; that needs no account to be decoded. The caller
// holds mu, for reading at least.
func (m *Machine) check(app crier.AppID, changes []crier.Change, now time.Time) (at int, refused, err error) {
	size := 0 // no less than the accounts would take
	for i := range changes {
		c := &changes[i]
		switch c.Op {
		case crier.OpSetAttrs, crier.OpRemoveAttrs, crier.OpRemoveTags, crier.OpRemoveAllTags:
		default:
			_, at, refused, err = m.try(app, changes, now)
			return at, refused, err
		}
		record, err := m.record(m.keys.account(app, c.User), true)
		switch {
		case err != nil:
			return 0, nil, err
		case record == nil:
			_, refused = c.Apply(&crier.Account{}, false, now)
			return i, refused, nil
		}
		size += recordSize(record, c)
	}
	if size > crier.MaxChangedBytes {
		_, at, refused, err = m.try(app, changes, now)
		return at, refused, err
	}
	return 0, nil, nil
}

// recordSize is no less than the Size of an account with this record after the change. Beside its texts a tag takes two bytes or more in the record and four in Size,
// and a device six or more in the record and 84 in Size.
func recordSize(record []byte, c *crier.Change) int {
	set := crier.Account{User: c.User, Attrs: c.Attrs}
	return 16*len(record) + set.Size()
}

// writeAccount moves one account from old to now, on disk and in the index. One
// that was deleted, or made anew, loses what waited for its old ordinal.
func (m *Machine) writeAccount(state *appState, old, now *crier.Account) {
	if old != nil && (now == nil || now.Ordinal != old.Ordinal) {
		state.index.change(old, nil)
		m.forgetOrdinal(old.App, state, old.Ordinal)
		m.writeHolder(old, nil)
		if now == nil {
			key := m.keys.account(old.App, old.User)
			m.delete(key)
			m.recent.Remove(string(key))
		}
		old = nil
	}
	if now == nil {
		return
	}
	state.index.change(old, now)
	m.writeHolder(old, now)
	m.buffer = wire.AppendAccount(m.buffer[:0], now)
	key, v := m.keys.account(now.App, now.User), bytes.Clone(m.buffer)
	m.put(key, v)
	m.recent.Add(string(key), v)
}

// writeHolder keeps the names of accounts with devices by their ordinals.
func (m *Machine) writeHolder(old, now *crier.Account) {
	had, has := old != nil && len(old.Devices) > 0, now != nil && len(now.Devices) > 0
	switch {
	case has && !had:
		m.put(m.keys.holder(now.App, now.Ordinal), []byte(now.User))
	case had && !has:
		m.delete(m.keys.holder(old.App, old.Ordinal))
	}
}

// forgetOrdinal empties the mailbox of an ordinal. The disk keeps its bits until their chunks are written for another reason: an
// ordinal is never given again, and who does not exist is left out when bitmaps are loaded. Else to delete accounts would write a chunk of
// every campaign that is kept for each.
func (m *Machine) forgetOrdinal(app crier.AppID, state *appState, ordinal uint32) {
	for _, x := range slices.Clone(state.mail) {
		if !x.remaining.CheckedRemove(ordinal) {
			continue
		}
		noted := x.todo.CheckedRemove(ordinal)
		m.count(app, x.seq, func(f *logv1.Funnel) {
			f.Deleted++
			if noted {
				f.VendorDeleted++
			}
		})
		if x.remaining.IsEmpty() {
			m.forgetMail(app, state, x.seq)
		}
	}
}

// writeRemaining stores one chunk of who has a campaign coming, and forgets the
// campaign when nobody has.
func (m *Machine) writeRemaining(app crier.AppID, state *appState, x *mail, chunk uint32) {
	if m.writeChunk(kindRemaining, app, x, chunk) && x.remaining.IsEmpty() {
		m.forgetMail(app, state, x.seq)
	}
}

// forgetMail forgets a kept campaign: nobody has it coming, or its time is over.
func (m *Machine) forgetMail(app crier.AppID, state *appState, seq uint64) {
	i, x := state.find(seq)
	if x == nil {
		return
	}
	if waiting, todo := x.remaining.GetCardinality(), x.todo.GetCardinality(); waiting > 0 {
		m.count(app, seq, func(f *logv1.Funnel) {
			f.Expired += waiting
			f.VendorExpired += todo
			m.putExpired(app, seq, x.remaining)
		})
	}
	for _, kind := range []byte{kindRemaining, kindTodo} {
		m.deleteUnder(m.keys.seq(kind, app, seq))
	}
	state.mail = slices.Delete(state.mail, i, i+1)
	due := m.keys.due(x.expires, m.keys.seq(kindMessage, app, seq))
	for _, key := range [][]byte{m.keys.seq(kindMessage, app, seq), m.keys.seq(kindExpires, app, seq), due} {
		m.delete(key)
	}
}
