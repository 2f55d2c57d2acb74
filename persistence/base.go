package persistence

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// commandVersion is the newest format of a command that this code understands.
const commandVersion = 1

// applier is what a state machine does with one command: change memory and the
// overlay. The result goes to the proposer; an error as a result is the
// command's refusal, and then nothing has changed.
type applier interface {
	// change is a command that changes accounts.
	change(calls []crier.AccountChanges) any
	apply(cmd *logv1.Command) any
	// reload builds the memory anew from disk.
	reload() error
}

// base is what the state machines of all groups share: the applied index, the
// clock, the overlay, snapshots. raft calls Apply, ApplyBatch, Snapshot and Restore from
// one goroutine; mu guards everything against readers and the flusher.
type base struct {
	store *Store
	group crier.PartitionID
	keys  keyBuilder
	self  applier

	configured atomic.Pointer[configured] // as in meta, without mu; nil while there is none

	mu       sync.RWMutex
	meta     *logv1.Meta // as of the last entry that was applied
	writes   int         // of the command that is being applied
	written  int         // bytes of values of the same
	origins  map[uint64]*origin
	heard    []uint64    // the origins of the command that is being applied
	dirty    overlay     // what commands have written since the last flush
	flushing overlay     // what is on its way to the disk; not changed
	storing  *logv1.Meta // its meta
	stored   *logv1.Meta // what the disk has
	changed  bool        // the flusher knows of it
	failed   bool        // a flush or a command has failed; nothing is applied any more
	flushed  *sync.Cond  // on mu: room, or something is durable
}

// configured is the last committed configuration of a group.
type configured struct {
	index         uint64
	configuration raft.Configuration
}

// showConfiguration shows the configuration in meta to those who don't take mu, which a state that is replaced holds for long. The caller holds mu.
func (b *base) showConfiguration() {
	index := b.meta.GetConfigurationIndex()
	if index == 0 {
		b.configured.Store(nil)
		return
	}
	b.configured.Store(&configured{index, raft.DecodeConfiguration(b.meta.GetConfiguration())})
}

func newBase(s *Store, p crier.PartitionID, self applier) *base {
	b := &base{store: s, group: p, keys: keyBuilder(p), self: self, meta: new(logv1.Meta), stored: new(logv1.Meta), origins: make(map[uint64]*origin)}
	b.flushed = sync.NewCond(&b.mu)
	return b
}

func cloneMeta(m *logv1.Meta) *logv1.Meta { return proto.CloneOf(m) }

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
	if err := b.getProto(b.keys.kind(kindMeta), b.meta); err != nil {
		return err
	}
	b.stored = cloneMeta(b.meta)
	b.showConfiguration()
	return nil
}

// get reads a key as of the last entry that was applied; nil where there is none.
// The caller holds mu.
func (b *base) get(key []byte) ([]byte, error) {
	if v, ok := b.held(key); ok {
		return v, nil
	}
	return b.disk(key)
}

// held returns what commands have written to a key and the disk may not have yet.
func (b *base) held(key []byte) ([]byte, bool) {
	if v, ok := b.dirty.writes[string(key)]; ok {
		return v, true
	}
	v, ok := b.flushing.writes[string(key)]
	return v, ok
}

// read is get for any goroutine, without mu. The result must not be changed.
func (b *base) read(key []byte) ([]byte, error) {
	b.mu.RLock()
	v, ok := b.held(key)
	b.mu.RUnlock()
	if ok {
		return v, nil
	}
	return b.disk(key) // what a flush takes out of memory meanwhile is on disk
}

func (b *base) disk(key []byte) (value []byte, err error) {
	err = b.store.stateDB.View(func(txn *badger.Txn) error {
		value, err = b.onDisk(txn, key)
		return err
	})
	return value, err
}

func (b *base) onDisk(txn *badger.Txn, key []byte) (value []byte, err error) {
	item, err := txn.Get(key)
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return nil, nil
	case err == nil:
		value, err = item.ValueCopy(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of partition %s: %w", b.group, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// getProto reads a record as get does; m stays empty where there is none.
func (b *base) getProto(key []byte, m proto.Message) error {
	v, err := b.get(key)
	if err != nil || v == nil {
		return err
	}
	return b.decode(key, v, m)
}

func (b *base) decode(key, v []byte, m proto.Message) error {
	if err := proto.Unmarshal(v, m); err != nil {
		return b.damaged(key, err)
	}
	return nil
}

func (b *base) damaged(key []byte, err error) error {
	return fmt.Errorf("record %x of partition %s is damaged: %w", key, b.group, err)
}

func (b *base) put(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.write(key, value)
}

func (b *base) delete(key []byte) { b.write(key, nil) }

func (b *base) write(key, value []byte) {
	b.writes++
	b.written += len(value)
	b.dirty.set(key, value)
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

// ApplyBatch applies entries to memory: they are durable in the log, and the
// flusher brings their effects to the disk. It blocks while too much waits for that.
func (b *base) ApplyBatch(entries []*raft.Log) []any {
	results := make([]any, len(entries))
	for i, e := range entries {
		results[i] = b.applyOne(e)
	}
	return results
}

func (b *base) applyOne(e *raft.Log) any {
	b.store.still.RLock()
	defer b.store.still.RUnlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.waitForRoom(); err != nil {
		return err
	}
	result := b.applyEntry(e)
	if b.failed {
		return result
	}
	b.touch()
	return result
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
		b.showConfiguration()
	case raft.LogCommand:
		result = b.applyCommand(e.Data)
	}
	if b.failed {
		return result
	}
	b.meta.Index, b.meta.Term = e.Index, e.Term
	return result
}

func (b *base) applyCommand(data []byte) any {
	changes, err := wire.ParseChangeCommand(data)
	var cmd logv1.Command
	switch {
	case changes != nil:
		cmd.Version, cmd.TimeMs = changes.Version, changes.TimeMs
	case err == nil:
		err = proto.Unmarshal(data, &cmd)
	}
	if err == nil && (cmd.GetVersion() > commandVersion || cmd.GetBody() == nil && changes == nil) {
		err = fmt.Errorf("its version is %d, this node understands %d: upgrade the node", cmd.GetVersion(), commandVersion)
	}
	if err != nil {
		return b.broken(fmt.Errorf("a command of the log: %w", err))
	}
	b.writes, b.written = 0, 0
	b.meta.ClockMs = max(b.meta.GetClockMs(), cmd.GetTimeMs())
	var result any
	if changes != nil {
		result = b.self.change(changes.Calls)
	} else {
		result = b.self.apply(&cmd)
	}
	b.writeOrigins()
	return result
}

// broken is the end: a command can't be applied as the other replicas do, since it is not understood or what it needs can't be read, and to go on without it would make
// this one differ from them. The process ends, and tries again at its next start. The caller holds mu.
func (b *base) broken(err error) error {
	b.failed = true
	b.store.cfg.Fatal(fmt.Errorf("partition %s can't go on: %w", b.group, err))
	return internal(err)
}

// internal is the error of a reader that can't read what it needs.
func internal(err error) error {
	return &crier.Error{Code: crier.CodeInternal, Info: "internal error, try again", Err: err}
}
