package persistence

import (
	"errors"
	"fmt"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// commandVersion is the newest format of a command that this code understands.
const commandVersion = 1

// overlayBytes bounds what an ApplyBatch holds back before it commits a part.
const overlayBytes = 1 << 20

// applier is what a state machine does with one command: change memory and the
// overlay. The result goes to the proposer; an error as a result is the
// command's refusal, and then nothing has changed.
type applier interface {
	apply(cmd *logv1.Command) any
	// reload builds the memory anew from disk.
	reload() error
}

// base is what the state machines of all groups share: the applied index, the
// clock, the overlay of a batch, snapshots. raft calls Apply, ApplyBatch, Snapshot and
// Restore from one goroutine; mu guards the memory against readers.
type base struct {
	store  *Store
	group  crier.PartitionID
	keys   keyBuilder
	self   applier
	mu     sync.RWMutex
	meta   *logv1.Meta
	writes map[string][]byte // the overlay: what the batch has written so far; nil deletes
	order  []string          // its keys in the order of their first write
	bytes  int
}

func newBase(s *Store, p crier.PartitionID, self applier) *base {
	return &base{store: s, group: p, keys: keyBuilder(p), self: self, meta: new(logv1.Meta), writes: make(map[string][]byte)}
}

// loadMeta reads the applied index. A state that a crash left half restored is
// an error: it is neither the old one nor the new.
func (b *base) loadMeta() error {
	if v, err := b.get(b.keys.kind(kindRestoring)); err != nil {
		return err
	} else if v != nil {
		return fmt.Errorf("the state of partition %s was being replaced by a snapshot when the process ended; "+
			"remove the data directory and let the node join again", b.group)
	}
	b.meta = new(logv1.Meta)
	return b.getProto(b.keys.kind(kindMeta), b.meta)
}

// get reads a key as the batch under way sees it; nil where there is none.
func (b *base) get(key []byte) ([]byte, error) {
	if v, ok := b.writes[string(key)]; ok {
		return v, nil
	}
	return b.read(key)
}

// read reads a key from disk; nil where there is none. Safe for any goroutine.
func (b *base) read(key []byte) (value []byte, err error) {
	err = b.store.stateDB.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		if value == nil {
			value = []byte{}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the state of partition %s: %w", b.group, err)
	}
	return value, nil
}

// getProto reads a record as the batch sees it; m stays empty where there is none.
func (b *base) getProto(key []byte, m proto.Message) error {
	v, err := b.get(key)
	if err != nil || v == nil {
		return err
	}
	return b.decode(key, v, m)
}

func (b *base) decode(key, v []byte, m proto.Message) error {
	if err := proto.Unmarshal(v, m); err != nil {
		return fmt.Errorf("record %x of partition %s is damaged: %w", key, b.group, err)
	}
	return nil
}

func (b *base) put(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.write(key, value)
}

func (b *base) delete(key []byte) { b.write(key, nil) }

func (b *base) write(key, value []byte) {
	if _, ok := b.writes[string(key)]; !ok {
		b.order = append(b.order, string(key))
	}
	b.writes[string(key)] = value
	b.bytes += len(key) + len(value) + 32
}

func (b *base) putProto(key []byte, m proto.Message) { b.put(key, marshal(m)) }

// marshal encodes a record; the same record always to the same bytes.
func marshal(m proto.Message) []byte {
	v, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("persistence: " + err.Error()) // only invalid UTF-8, which the vocabulary refuses
	}
	return v
}

// Apply applies one entry.
func (b *base) Apply(e *raft.Log) any { return b.ApplyBatch([]*raft.Log{e})[0] }

// ApplyBatch applies entries and blocks until their effects are durable. A state
// that can't be written ends the process: going on would leave a hole.
func (b *base) ApplyBatch(entries []*raft.Log) []any {
	results := make([]any, len(entries))
	for i, e := range entries {
		b.mu.Lock()
		results[i] = b.applyEntry(e)
		b.mu.Unlock()
		if b.bytes > overlayBytes {
			b.flush()
		}
	}
	b.flush()
	return results
}

// applyEntry applies one entry, unless the state has it already.
func (b *base) applyEntry(e *raft.Log) any {
	if e.Index <= b.meta.GetIndex() {
		return nil // replayed: its effects are in the state, its proposer is gone
	}
	var result any
	switch e.Type {
	case raft.LogConfiguration:
		b.meta.ConfigurationIndex, b.meta.Configuration = e.Index, e.Data
	case raft.LogCommand:
		result = b.applyCommand(e.Data)
	}
	b.meta.Index, b.meta.Term = e.Index, e.Term
	return result
}

func (b *base) applyCommand(data []byte) any {
	var cmd logv1.Command
	if err := proto.Unmarshal(data, &cmd); err != nil {
		return crier.Errorf(crier.CodeInternal, "a command can't be decoded")
	}
	if cmd.GetVersion() > commandVersion || cmd.GetBody() == nil {
		return crier.Errorf(crier.CodeInternal, "a command of version %d is not understood, this is %d: upgrade the node", cmd.GetVersion(), commandVersion)
	}
	b.meta.ClockMs = max(b.meta.GetClockMs(), cmd.GetTimeMs())
	return b.self.apply(&cmd)
}

// flush commits the overlay with the applied index. Readers do not wait for the
// disk: the overlay belongs to raft's goroutine.
func (b *base) flush() {
	b.mu.RLock()
	meta := marshal(b.meta)
	b.mu.RUnlock()
	b.commit(meta)
}

func (b *base) commit(meta []byte) {
	w := new(batch)
	for _, k := range b.order {
		w.add(entry{[]byte(k), b.writes[k]})
	}
	w.set(b.keys.kind(kindMeta), meta)
	if err := b.store.stateWrites.commit(w); err != nil {
		b.store.cfg.Fatal(fmt.Errorf("write the state of partition %s: %w", b.group, err))
	}
	clear(b.writes)
	b.order, b.bytes = b.order[:0], 0
}

// internal is the result of a command that could not read the state it needs.
func internal(err error) error {
	return &crier.Error{Code: crier.CodeInternal, Info: "internal error, try again", Err: err}
}
