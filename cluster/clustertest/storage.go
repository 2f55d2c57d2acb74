// Package clustertest has fakes for tests of clusters: storage in memory, and a
// partition actor that proposes what it is sent.
package clustertest

import (
	"context"
	"io"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
)

// Storage is cluster.Storage in memory; it outlives the nodes that use it, so
// that a test can restart one.
type Storage struct {
	mu     sync.Mutex
	stores map[crier.PartitionID]*raft.InmemStore
	snaps  map[crier.PartitionID]*raft.InmemSnapshotStore
	formed []string
	hangs  chan struct{} // closed when the disk goes on; nil: it does not hang
	States map[crier.PartitionID]*State
}

// NewStorage returns empty storage.
func NewStorage() *Storage {
	return &Storage{
		stores: make(map[crier.PartitionID]*raft.InmemStore),
		snaps:  make(map[crier.PartitionID]*raft.InmemSnapshotStore),
		States: make(map[crier.PartitionID]*State),
	}
}

func (s *Storage) store(p crier.PartitionID) *raft.InmemStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stores[p] == nil {
		s.stores[p], s.snaps[p] = raft.NewInmemStore(), raft.NewInmemSnapshotStore()
		s.States[p] = new(State)
	}
	return s.stores[p]
}

// Members is cluster.Storage's.
func (s *Storage) Members() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.formed
}

// SetMembers is cluster.Storage's.
func (s *Storage) SetMembers(members []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.formed = members
	return nil
}

// LogStore is cluster.Storage's.
func (s *Storage) LogStore(p crier.PartitionID) raft.LogStore { return hangingLog{s.store(p), s} }

// hangingLog is a log whose disk may hang.
type hangingLog struct {
	raft.LogStore
	storage *Storage
}

// StoreLogs is raft.LogStore's.
func (l hangingLog) StoreLogs(logs []*raft.Log) error {
	l.storage.mu.Lock()
	hangs := l.storage.hangs
	l.storage.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	return l.LogStore.StoreLogs(logs)
}

// Hang stops what is written to logs from now on, and with it the raft groups that write, as a node that hangs: they notice
// nothing of what happens meanwhile. The function that it returns, called once, lets them go on.
func (s *Storage) Hang() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	hangs := make(chan struct{})
	s.hangs = hangs
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hangs = nil
		close(hangs)
	}
}

// StableStore is cluster.Storage's.
func (s *Storage) StableStore(p crier.PartitionID) raft.StableStore { return s.store(p) }

// SnapshotStore is cluster.Storage's.
func (s *Storage) SnapshotStore(p crier.PartitionID) raft.SnapshotStore {
	s.store(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snaps[p]
}

// FSM is cluster.Storage's.
func (s *Storage) FSM(p crier.PartitionID) raft.FSM {
	s.store(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.States[p]
}

// State is a state machine that counts its commands and answers with the count.
// The command "fail" is answered with an error, and "busy" too while the count is under 3.
type State struct {
	mu    sync.Mutex
	count int
}

// Apply counts.
func (s *State) Apply(e *raft.Log) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(e.Data) == "fail" {
		return crier.Errorf(crier.CodePushOff, "told to fail")
	}
	s.count++
	if string(e.Data) == "busy" && s.count < 3 {
		return crier.Errorf(crier.CodeTimeout, "told to try again")
	}
	return s.count
}

// Snapshot is not used in tests: their logs are short.
func (s *State) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }

// Restore is not used in tests.
func (s *State) Restore(io.ReadCloser) error { return raft.ErrUnsupportedProtocol }

// Host is cluster.Host: its partition actors propose each []byte that they are
// sent and answer with the result, or with a Failure.
type Host struct {
	// Mute tells of a message whether it gets no answer, and is not proposed. May be nil.
	Mute func(p crier.PartitionID, g *cluster.Group, message []byte) bool
}

// PartitionProps is cluster.Host's.
func (h Host) PartitionProps(p crier.PartitionID, g *cluster.Group) *actor.Props {
	return actor.PropsFromFunc(func(c actor.Context) {
		if command, ok := c.Message().([]byte); ok {
			if h.Mute != nil && h.Mute(p, g, command) {
				return
			}
			result, err := g.Apply(context.Background(), command)
			if err != nil {
				result = Failure{err}
			}
			c.Respond(result)
		}
	})
}

// Failure is an answer that stands for an error.
type Failure struct{ Err error }

// Failure returns the error.
func (f Failure) Failure() error { return f.Err }
