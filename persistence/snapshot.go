package persistence

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// streamMagic begins a snapshot stream: its format is one byte in it.
var streamMagic = []byte("crier\x01")

const (
	// recordMost bounds a key or value of a stream, against damaged lengths.
	recordMost = 64 << 20
	// restoreStep is how many bytes of a stream are committed at a time.
	restoreStep = 1 << 20
)

// A snapshot of a group is its state: there is no copy. Taking one only tells
// raft how far the state is, sending one streams the group's keys from a Badger
// transaction, and at start the state announces itself as a snapshot, so that raft replays
// nothing that it has (NoSnapshotRestoreOnStart).
type snapshotStore struct {
	base *base
	dir  string // where a received snapshot is spooled
}

// List returns the state as the one snapshot, none for an empty one.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.base.mu.RLock()
	defer s.base.mu.RUnlock()
	if s.base.stored.GetIndex() == 0 || s.base.stored.GetConfigurationIndex() == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{snapshotMeta(s.base.stored)}, nil
}

func snapshotMeta(m *logv1.Meta) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: fmt.Sprintf("state-%d-%d", m.GetTerm(), m.GetIndex()),
		Index: m.GetIndex(), Term: m.GetTerm(),
		Configuration: raft.DecodeConfiguration(m.GetConfiguration()), ConfigurationIndex: m.GetConfigurationIndex(),
	}
}

// Open returns a received snapshot by its id, for Restore, else the state as it is now, with
// the index that it has now.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if strings.HasPrefix(id, receivedPrefix) {
		f, err := os.Open(s.spool())
		if err != nil {
			return nil, nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		return &raft.SnapshotMeta{ID: id, Size: info.Size()}, f, nil
	}
	txn, end := s.base.store.stateDB.snapshot()
	var m logv1.Meta
	item, err := txn.Get(s.base.keys.kind(kindMeta))
	if err == nil {
		err = item.Value(func(v []byte) error { return proto.Unmarshal(v, &m) })
	}
	if err != nil {
		end()
		return nil, nil, fmt.Errorf("open the snapshot of partition %s: %w", s.base.group, err)
	}
	meta := snapshotMeta(&m)
	meta.Size = s.base.streamSize(txn)
	reader, writer := io.Pipe()
	go func() { // ends with the last record, or when the reader closes
		defer end()
		writer.CloseWithError(s.base.stream(txn, writer))
	}()
	return meta, reader, nil
}

func (s *snapshotStore) spool() string {
	return filepath.Join(s.dir, s.base.group.String())
}

// Create begins a snapshot: one of our own, into which nothing is written, or
// one that another node sends.
func (s *snapshotStore) Create(_ raft.SnapshotVersion, index, term uint64, c raft.Configuration, configured uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapshotSink{store: s, meta: &logv1.Meta{
		Index: index, Term: term, ConfigurationIndex: configured, Configuration: raft.EncodeConfiguration(c),
	}}, nil
}

// receivedPrefix begins the ids of snapshots that come from elsewhere.
const receivedPrefix = "received-"

// snapshotSink takes a snapshot. What is written is spooled to a file until
// raft hands it to Restore, behind the meta that raft gives it: that of a backup is of another cluster.
type snapshotSink struct {
	store *snapshotStore
	meta  *logv1.Meta
	file  *os.File
}

// ID names the snapshot.
func (k *snapshotSink) ID() string {
	return receivedPrefix + strconv.FormatUint(k.meta.GetIndex(), 10)
}

// Write spools a received snapshot, while there is room on the disk.
func (k *snapshotSink) Write(p []byte) (int, error) {
	if err := k.store.base.store.Writable(); err != nil {
		return 0, err
	}
	if k.file == nil {
		if err := os.MkdirAll(k.store.dir, 0o700); err != nil {
			return 0, err
		}
		f, err := os.Create(k.store.spool())
		if err != nil {
			return 0, err
		}
		k.file = f
		if err := writeReceived(f, k.meta); err != nil {
			return 0, err
		}
	}
	return k.file.Write(p)
}

// writeReceived begins the spool of a snapshot.
func writeReceived(w io.Writer, meta *logv1.Meta) error {
	m := marshal(meta)
	_, err := w.Write(append(binary.AppendUvarint(nil, uint64(len(m))), m...))
	return err
}

// readReceived reads what writeReceived has written.
func readReceived(r *bufio.Reader) (*logv1.Meta, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > recordMost {
		return nil, errors.New("the spool of a snapshot has no head")
	}
	b, meta := make([]byte, n), new(logv1.Meta)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return meta, proto.Unmarshal(b, meta)
}

// Close ends the snapshot. One of our own raises the applied index over the
// entries that change nothing (barriers): a snapshot never goes back behind them.
func (k *snapshotSink) Close() error {
	if k.file != nil {
		return errors.Join(k.file.Sync(), k.file.Close(), syncDir(k.store.dir))
	}
	return k.store.base.raise(k.meta.GetIndex(), k.meta.GetTerm())
}

// Cancel forgets the snapshot.
func (k *snapshotSink) Cancel() error {
	if k.file == nil {
		return nil
	}
	return errors.Join(k.file.Close(), os.Remove(k.store.spool()))
}

// raise notes that the state is as of index, and blocks until that is durable.
func (b *base) raise(index, term uint64) error {
	b.mu.Lock()
	if index > b.meta.GetIndex() {
		b.meta.Index, b.meta.Term = index, term
		b.touch()
	}
	b.mu.Unlock()
	return b.waitStored(index)
}

// Snapshot is raft's: the state is the snapshot. The sink's Close waits until it is durable.
func (b *base) Snapshot() (raft.FSMSnapshot, error) { return stateSnapshot{}, nil }

type stateSnapshot struct{}

// Persist writes nothing.
func (stateSnapshot) Persist(sink raft.SnapshotSink) error { return sink.Close() }

// Release does nothing.
func (stateSnapshot) Release() {}

// stream writes every key of the group with its value, in order, without the
// two bytes that name the group, and without those of some kinds.
func (b *base) stream(txn *badger.Txn, out io.Writer, without ...byte) error {
	w := bufio.NewWriterSize(out, 64<<10)
	if _, err := w.Write(streamMagic); err != nil {
		return err
	}
	var head []byte
	err := scan(txn, b.prefix(), func(k, v []byte) error {
		if slices.Contains(without, k[offApp-1]) {
			return nil
		}
		head = binary.AppendUvarint(head[:0], uint64(len(k)-2))
		head = binary.AppendUvarint(append(head, k[2:]...), uint64(len(v)))
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := w.Write(v)
		return err
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

// streamSize returns what stream will write, in bytes: raft wants it before.
func (b *base) streamSize(txn *badger.Txn) int64 {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: b.prefix()})
	defer it.Close()
	size, uvarint := int64(len(streamMagic)), make([]byte, 0, binary.MaxVarintLen64)
	for it.Rewind(); it.Valid(); it.Next() {
		k, v := it.Item().KeySize()-2, it.Item().ValueSize()
		size += k + v + int64(len(binary.AppendUvarint(uvarint, uint64(k)))+len(binary.AppendUvarint(uvarint, uint64(v))))
	}
	return size
}

func (b *base) prefix() []byte { return b.keys.kind(0)[:2] }

// freshMark is the value of the mark of a snapshot that came to a replica without a state.
var freshMark = []byte{1}

// Restore replaces the state by a received snapshot. A crash in between leaves a mark, and
// the next start ends it, or says so: there is never a state that is half of each. A replica that had nothing before begins anew then.
func (b *base) Restore(source io.ReadCloser) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var mark []byte
	if b.meta.GetIndex() == 0 {
		mark = freshMark
	}
	return b.restore(source, mark)
}

// restore is Restore, with the value of the mark. The caller holds mu.
func (b *base) restore(source io.Reader, value []byte) error {
	r := bufio.NewReaderSize(source, 64<<10)
	meta, err := readReceived(r)
	if err != nil {
		return fmt.Errorf("install a snapshot of partition %s: %w", b.group, err)
	}
	defer b.flushed.Broadcast() // who waits for what is no more
	b.waitFlushed()
	b.dirty, b.changed = overlay{}, false // it has something only where a flush has failed
	mark := new(batch)
	mark.set(b.keys.kind(kindRestoring), value)
	if err := b.writeNow(mark); err != nil {
		return err
	}
	if err := b.clear(kindRestoring); err != nil {
		return err
	}
	if meta.ClockMs, err = b.install(r); err != nil {
		return fmt.Errorf("install a snapshot of partition %s: %w", b.group, err)
	}
	done := new(batch)
	done.set(b.keys.kind(kindMeta), marshal(meta))
	done.delete(b.keys.kind(kindRestoring))
	if err := b.writeNow(done); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(b.store.cfg.Dir, "incoming", b.group.String()))
	if err := b.loadMeta(); err != nil {
		return err
	}
	return b.self.reload()
}

// finishRestore ends what a crash has left of a Restore: what was received is whole in its spool. A mark without one stays, and loadMeta tells of it.
func (s *Store) finishRestore(p crier.PartitionID) error {
	b := s.base(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	mark, err := b.get(b.keys.kind(kindRestoring))
	if err != nil || mark == nil {
		return err
	}
	f, err := os.Open(filepath.Join(s.cfg.Dir, "incoming", p.String()))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return b.restore(f, mark)
}

// writeNow commits a batch by itself, past the overlay.
func (b *base) writeNow(w *batch) error { return b.store.stateDB.commit([]*batch{w}) }

// clear deletes every key of the group but a mark, key by key: DropPrefix would
// stop the writes of all groups.
func (b *base) clear(mark byte) error {
	for from := b.prefix(); ; {
		w := new(batch)
		err := b.store.stateDB.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: b.prefix()})
			defer it.Close()
			for it.Seek(from); it.Valid() && len(w.entries) < deleteStep; it.Next() {
				if from = it.Item().KeyCopy(from[:0]); from[2] != mark {
					w.delete(bytes.Clone(from))
				}
			}
			return nil
		})
		if err != nil || len(w.entries) == 0 {
			return err
		}
		if err := b.writeNow(w); err != nil {
			return err
		}
	}
}

// install writes the records of a stream but for its meta, and returns the clock in it.
func (b *base) install(r *bufio.Reader) (clock int64, err error) {
	w := new(batch)
	err = readStream(r, func(k, v []byte) error {
		if k[0] == kindMeta {
			m := new(logv1.Meta)
			err := b.decode(k, v, m)
			clock = m.GetClockMs()
			return err
		}
		w.set(append(b.prefix(), k...), v)
		if w.bytes < restoreStep {
			return nil
		}
		full := w
		w = new(batch)
		return b.writeNow(full)
	})
	if err != nil {
		return 0, err
	}
	return clock, b.writeNow(w)
}

// readStream calls take with each record of a stream; take owns them.
func readStream(r *bufio.Reader, take func(k, v []byte) error) error {
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != string(streamMagic) {
		return errors.New("not a snapshot of a format that this version reads")
	}
	part := func() ([]byte, error) {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, err
		}
		if n > recordMost {
			return nil, fmt.Errorf("a record of %d bytes", n)
		}
		// Grown as it is read, so that a damaged length costs no memory.
		b, err := io.ReadAll(io.LimitReader(r, int64(n)))
		if err == nil && uint64(len(b)) < n {
			err = io.ErrUnexpectedEOF
		}
		return b, err
	}
	for {
		k, err := part()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		v, err := part()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if len(k) == 0 || k[0] == kindRestoring {
			return errors.New("a record without a kind")
		}
		if err := take(k, v); err != nil {
			return err
		}
	}
}
