package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// Keys of the log database: the group, a letter, and the rest.
const (
	logEntry  = 'l' // + index: an entry
	logFirst  = 'f' // the first index, so that opening does not walk over deleted ones
	logStable = 's' // + name: a value of the stable store
)

// logCacheBytes bounds the entries that a group keeps in memory, by their data.
const logCacheBytes = 256 << 10

// deleteStep bounds the deletions of one batch when a log is cut.
const deleteStep = 4096

// groupLog is the log and the stable store of one raft group. It implements
// raft.LogStore and raft.StableStore.
type groupLog struct {
	db     *database
	writes *committer
	group  crier.PartitionID

	mu          sync.RWMutex
	first, last uint64 // 0: the log is empty
	cache       []*raft.Log
	cached      int // bytes of cache
	stable      map[string]string
}

func openGroupLog(db *database, writes *committer, p crier.PartitionID) (*groupLog, error) {
	l := &groupLog{db: db, writes: writes, group: p, stable: make(map[string]string)}
	err := db.View(func(txn *badger.Txn) error {
		if err := l.loadRange(txn); err != nil {
			return err
		}
		return l.loadStable(txn)
	})
	if err != nil {
		return nil, fmt.Errorf("open the log of partition %s: %w", p, err)
	}
	return l, nil
}

func (l *groupLog) key(kind byte, rest ...byte) []byte {
	k := binary.BigEndian.AppendUint16(make([]byte, 0, 3+len(rest)), uint16(l.group))
	return append(append(k, kind), rest...)
}

func (l *groupLog) entryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64(l.key(logEntry), index)
}

// loadRange finds the first and the last entry.
func (l *groupLog) loadRange(txn *badger.Txn) error {
	var from uint64
	item, err := txn.Get(l.key(logFirst))
	switch {
	case err == nil:
		if err := item.Value(func(v []byte) error { from, err = decodeUint64(v); return err }); err != nil {
			return err
		}
	case !errors.Is(err, badger.ErrKeyNotFound):
		return err
	}
	prefix := l.key(logEntry)
	index := func(reverse bool, seek []byte) uint64 {
		o := badger.DefaultIteratorOptions
		o.PrefetchValues, o.Reverse = false, reverse
		it := txn.NewIterator(o)
		defer it.Close()
		it.Seek(seek)
		if !it.ValidForPrefix(prefix) {
			return 0
		}
		return binary.BigEndian.Uint64(it.Item().Key()[len(prefix):])
	}
	l.first = index(false, l.entryKey(from))
	if l.first != 0 {
		l.last = index(true, l.entryKey(^uint64(0)))
	}
	return nil
}

func (l *groupLog) loadStable(txn *badger.Txn) error {
	prefix := l.key(logStable)
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 8, Prefix: prefix})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		v, err := it.Item().ValueCopy(nil)
		if err != nil {
			return err
		}
		l.stable[string(it.Item().Key()[len(prefix):])] = string(v)
	}
	return nil
}

func decodeUint64(v []byte) (uint64, error) {
	if len(v) != 8 {
		return 0, fmt.Errorf("a number of %d bytes, not 8", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// FirstIndex returns the first index, 0 for an empty log.
func (l *groupLog) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.first, nil
}

// LastIndex returns the last index, 0 for an empty log.
func (l *groupLog) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last, nil
}

// GetLog reads an entry; raft.ErrLogNotFound if there is none.
func (l *groupLog) GetLog(index uint64, out *raft.Log) error {
	l.mu.RLock()
	if n := len(l.cache); n > 0 && index >= l.cache[0].Index && index <= l.cache[n-1].Index {
		*out = *l.cache[index-l.cache[0].Index]
		l.mu.RUnlock()
		return nil
	}
	l.mu.RUnlock()
	return l.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(l.entryKey(index))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return raft.ErrLogNotFound
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error { return decodeLog(index, v, out) })
	})
}

// StoreLog appends one entry.
func (l *groupLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs appends entries and blocks until they are durable.
func (l *groupLog) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	b := new(batch)
	if first, _ := l.bounds(); first == 0 { // the one that was noted when the log was emptied may be beyond: of a leader that is gone
		b.set(l.key(logFirst), binary.BigEndian.AppendUint64(nil, entries[0].Index))
	}
	for _, e := range entries {
		b.set(l.entryKey(e.Index), encodeLog(e))
	}
	if err := l.writes.commit(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == 0 {
		l.first = entries[0].Index
	}
	l.last = max(l.last, entries[len(entries)-1].Index)
	l.remember(entries)
	return nil
}

// remember keeps the newest entries, contiguous, up to logCacheBytes.
func (l *groupLog) remember(entries []*raft.Log) {
	if n := len(l.cache); n > 0 && l.cache[n-1].Index+1 != entries[0].Index {
		l.cache, l.cached = nil, 0
	}
	for _, e := range entries {
		l.cached += len(e.Data)
	}
	l.cache = append(l.cache, entries...)
	cut := 0
	for ; cut < len(l.cache)-1 && l.cached > logCacheBytes; cut++ {
		l.cached -= len(l.cache[cut].Data)
	}
	if cut > 0 {
		l.cache = append([]*raft.Log(nil), l.cache[cut:]...)
	}
}

// DeleteRange removes the entries from least to most: a prefix that a snapshot
// covers, or a suffix that another leader overwrites.
func (l *groupLog) DeleteRange(least, most uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cache, l.cached = nil, 0
	if l.first == 0 || most < l.first || least > l.last {
		return nil
	}
	least, most = max(least, l.first), min(most, l.last)
	if least > l.first {
		return l.deleteSuffix(least)
	}
	for from := least; from <= most; from += deleteStep {
		to := min(most, from+deleteStep-1)
		b := l.deletion(from, to)
		b.set(l.key(logFirst), binary.BigEndian.AppendUint64(nil, to+1))
		if err := l.writes.commit(b); err != nil {
			return err
		}
		l.first = to + 1
	}
	if most == l.last {
		l.first, l.last = 0, 0
	}
	return nil
}

// deleteSuffix removes the entries from least on, the last ones first: a crash in between leaves no hole. The caller holds mu.
func (l *groupLog) deleteSuffix(least uint64) error {
	for l.last >= least {
		from := max(least, l.last-min(l.last, deleteStep-1))
		if err := l.writes.commit(l.deletion(from, l.last)); err != nil {
			return err
		}
		l.last = from - 1
	}
	return nil
}

func (l *groupLog) deletion(from, to uint64) *batch {
	b := new(batch)
	for i := from; i <= to; i++ {
		b.delete(l.entryKey(i))
	}
	return b
}

// drop deletes the log, the term and the vote, and blocks until that is durable.
func (l *groupLog) drop() error {
	if first, last := l.bounds(); first != 0 {
		if err := l.DeleteRange(first, last); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := new(batch)
	b.delete(l.key(logFirst))
	for name := range l.stable {
		b.delete(l.key(logStable, []byte(name)...))
	}
	if err := l.writes.commit(b); err != nil {
		return err
	}
	l.first, l.last, l.stable = 0, 0, make(map[string]string)
	return nil
}

func (l *groupLog) bounds() (first, last uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.first, l.last
}

// Set stores a value and blocks until it is durable. A value that is there
// already costs nothing.
func (l *groupLog) Set(name, value []byte) error {
	l.mu.Lock()
	old, ok := l.stable[string(name)]
	l.mu.Unlock()
	if ok && old == string(value) {
		return nil
	}
	b := new(batch)
	b.set(l.key(logStable, name...), value)
	if err := l.writes.commit(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stable[string(name)] = string(value)
	return nil
}

// errNotFound is what raft takes for a value that is not there, by its text.
var errNotFound = errors.New("not found")

// Get reads a value.
func (l *groupLog) Get(name []byte) ([]byte, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	v, ok := l.stable[string(name)]
	if !ok {
		return nil, errNotFound
	}
	return []byte(v), nil
}

// SetUint64 stores a number as Set does.
func (l *groupLog) SetUint64(name []byte, value uint64) error {
	return l.Set(name, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 reads a number.
func (l *groupLog) GetUint64(name []byte) (uint64, error) {
	v, err := l.Get(name)
	if err != nil {
		return 0, err
	}
	return decodeUint64(v)
}

// encodeLog writes an entry: format, type, term, time, and the lengths and bytes
// of data and extensions.
func encodeLog(e *raft.Log) []byte {
	b := make([]byte, 0, 2+3*binary.MaxVarintLen64+len(e.Data)+len(e.Extensions))
	b = append(b, 1, byte(e.Type))
	b = binary.AppendUvarint(b, e.Term)
	var at int64
	if !e.AppendedAt.IsZero() {
		at = e.AppendedAt.UnixNano()
	}
	b = binary.AppendVarint(b, at)
	b = binary.AppendUvarint(b, uint64(len(e.Data)))
	b = append(b, e.Data...)
	return append(b, e.Extensions...)
}

func decodeLog(index uint64, v []byte, out *raft.Log) error {
	bad := func() error { return fmt.Errorf("log entry %d can't be decoded", index) }
	if len(v) < 2 || v[0] != 1 {
		return bad()
	}
	*out = raft.Log{Index: index, Type: raft.LogType(v[1])}
	v = v[2:]
	term, n := binary.Uvarint(v)
	if n <= 0 {
		return bad()
	}
	at, k := binary.Varint(v[n:])
	if k <= 0 {
		return bad()
	}
	v = v[n+k:]
	size, n := binary.Uvarint(v)
	if n <= 0 || size > uint64(len(v)-n) {
		return bad()
	}
	out.Term = term
	if at != 0 {
		out.AppendedAt = time.Unix(0, at)
	}
	out.Data = append([]byte(nil), v[n:n+int(size)]...)
	if ext := v[n+int(size):]; len(ext) > 0 {
		out.Extensions = append([]byte(nil), ext...)
	}
	return nil
}
