// Package persistence keeps what Crier knows on disk, in Badger: the logs of all
// raft groups in one database, their states in another, and in memory what a push
// needs at once, the audience index. DESIGN.md has the layout and the invariants.
package persistence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
)

const (
	// memTable is the size of a Badger memtable. A transaction holds 15 % of it, which bounds commands
	// (commandBytes, commandRecords); what the last memtables hold is replayed after a kill, which bounds the start.
	memTable = 32 << 20
	// DefaultMinFreeDisk is the free space below which writes are refused, in bytes.
	DefaultMinFreeDisk = 512 << 20
)

// Config says where a Store keeps its files.
type Config struct {
	Dir         string                // the data directory; made if missing
	Partitions  int                   // P of a new directory; must equal that of an old one
	MinFreeDisk uint64                // bytes that must stay free; 0: DefaultMinFreeDisk
	Registerer  prometheus.Registerer // nil: metrics are counted and not shown
	Logger      *slog.Logger
	// Fatal is called when a group can't go on because its state can't be written or read, or a command is of a newer version:
	// the process must end, and finds everything again in the log. nil: panic.
	Fatal func(error)
}

// Store is an open data directory. It implements cluster.Storage. Safe for
// concurrent use.
type Store struct {
	cfg      Config
	log      *slog.Logger
	lock     *dirLock
	identity identity
	disk     *diskGuard

	// still is locked while no state machine may apply anything: a Cut stands.
	still sync.RWMutex

	logDB, stateDB *database
	logWrites      *committer
	states         *flusher

	system   *System
	machines []*Machine
	logs     map[crier.PartitionID]*groupLog

	closeOnce sync.Once
	closeErr  error
}

// Open opens the data directory, or makes it, and rebuilds the audience index.
// It blocks for about 3 s for each million accounts. Errors say which file is
// wrong and what to do about it.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Partitions < 1 || cfg.Partitions > crier.MaxPartitions {
		return nil, fmt.Errorf("partitions is %d, it must be 1..%d", cfg.Partitions, crier.MaxPartitions)
	}
	if cfg.MinFreeDisk == 0 {
		cfg.MinFreeDisk = DefaultMinFreeDisk
	}
	if cfg.Fatal == nil {
		cfg.Fatal = func(err error) { panic(err) }
	}
	s := &Store{cfg: cfg, log: cfg.Logger.With("component", "persistence"), disk: newDiskGuard(cfg.Dir, cfg.MinFreeDisk)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.lock, err = lockDir(s.cfg.Dir); err != nil {
		return err
	}
	if s.identity, err = loadIdentity(s.cfg.Dir, s.cfg.Partitions); err != nil {
		return err
	}
	if err = s.disk.checkStart(); err != nil {
		return err
	}
	if s.logDB, err = openDatabase(databaseOptions(filepath.Join(s.cfg.Dir, "log"), s.log)); err != nil {
		return err
	}
	if s.stateDB, err = openDatabase(databaseOptions(filepath.Join(s.cfg.Dir, "state"), s.log)); err != nil {
		return err
	}
	m := newMetrics(s.cfg.Registerer, s.disk)
	s.logWrites, s.states = startCommitter(s.logDB, m), startFlusher(s.stateDB, s.cfg.Fatal, m)
	return s.load(ctx)
}

// load opens the groups, two partitions at a time: decoding accounts is CPU work.
func (s *Store) load(ctx context.Context) error {
	started := time.Now()
	s.machines = make([]*Machine, s.cfg.Partitions)
	for i := range s.machines {
		s.machines[i] = newMachine(s, crier.PartitionID(i))
	}
	s.system = newSystem(s)
	s.logs = make(map[crier.PartitionID]*groupLog)
	for _, p := range append(s.groups(), crier.SystemPartition) {
		l, err := openGroupLog(s.logDB, s.logWrites, p)
		if err != nil {
			return err
		}
		s.logs[p] = l
		if err := errors.Join(s.finishDrop(p), s.finishRestore(p)); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, m := range s.machines {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return m.load()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.system.load(); err != nil {
		return err
	}
	s.log.Debug("state loaded", "took", time.Since(started))
	return nil
}

func (s *Store) groups() []crier.PartitionID {
	ps := make([]crier.PartitionID, s.cfg.Partitions)
	for i := range ps {
		ps[i] = crier.PartitionID(i)
	}
	return ps
}

// NodeID returns the stable id of this node, made with the data directory.
func (s *Store) NodeID() string { return s.identity.NodeID }

// Members returns the nodes that formed the cluster, none for a node that belongs to none yet, and whether this node is still
// beginning its groups. A directory of the time before clusters has groups of its own node only.
func (s *Store) Members() (members []string, forming bool) {
	if len(s.identity.Members) == 0 && s.system.meta.GetIndex() > 0 {
		return []string{s.identity.NodeID}, false
	}
	return s.identity.Members, s.identity.Forming
}

// SetMembers keeps them. It is not safe for concurrent use with Members.
func (s *Store) SetMembers(members []string, forming bool) error {
	id := s.identity
	id.Members, id.Forming = members, forming
	if err := id.write(s.cfg.Dir); err != nil {
		return err
	}
	s.identity = id
	return nil
}

// Partitions returns P.
func (s *Store) Partitions() int { return s.cfg.Partitions }

// Writable returns an error with crier.CodeInternal while the disk is almost
// full. Badger writes through memory maps, where a full disk kills the process, so
// writes are refused before it comes to that. Reads go on.
func (s *Store) Writable() error {
	err := s.disk.check()
	if err != nil {
		signal(s.states.hurry) // what waits is written while there is room
	}
	return err
}

// LogStore returns the log of a group.
func (s *Store) LogStore(p crier.PartitionID) raft.LogStore { return s.logs[p] }

// StableStore returns where a group keeps its term and vote.
func (s *Store) StableStore(p crier.PartitionID) raft.StableStore { return s.logs[p] }

// SnapshotStore returns the snapshots of a group: its state itself.
func (s *Store) SnapshotStore(p crier.PartitionID) raft.SnapshotStore {
	return &snapshotStore{base: s.base(p), dir: filepath.Join(s.cfg.Dir, "incoming")}
}

// FSM returns the state machine of a group.
func (s *Store) FSM(p crier.PartitionID) raft.FSM {
	if p == crier.SystemPartition {
		return s.system
	}
	return s.machines[p]
}

// Configuration returns the last committed configuration of a group, and its index; 0 while there is none. It does not block, while the state is replaced either. What it
// returns must not be changed.
func (s *Store) Configuration(p crier.PartitionID) (uint64, raft.Configuration) {
	c := s.base(p).configured.Load()
	if c == nil {
		return 0, raft.Configuration{}
	}
	return c.index, c.configuration
}

func (s *Store) base(p crier.PartitionID) *base {
	if p == crier.SystemPartition {
		return s.system.base
	}
	return s.machines[p].base
}

// Close writes what is not on disk yet and closes the databases. The raft groups must
// have been shut down before. A second call does nothing.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		if s.logWrites != nil {
			s.logWrites.stop()
		}
		if s.states != nil {
			s.states.stop()
		}
		for _, db := range []*database{s.logDB, s.stateDB} {
			if db != nil {
				s.closeErr = errors.Join(s.closeErr, db.Close())
			}
		}
		if s.lock != nil {
			s.closeErr = errors.Join(s.closeErr, s.lock.release())
		}
	})
	return s.closeErr
}

// badgerLogger bridges Badger into slog: its news is our debug.
type badgerLogger struct{ log *slog.Logger }

func (l badgerLogger) Errorf(f string, a ...any) { l.log.Error("badger", "text", fmt.Sprintf(f, a...)) }

func (l badgerLogger) Warningf(f string, a ...any) {
	l.log.Warn("badger", "text", fmt.Sprintf(f, a...))
}

func (l badgerLogger) Infof(f string, a ...any) { l.log.Debug("badger", "text", fmt.Sprintf(f, a...)) }
func (l badgerLogger) Debugf(string, ...any)    {}
