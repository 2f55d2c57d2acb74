// Package clustertest has fakes for tests of clusters: storage in memory, and a
// partition actor that proposes what it is sent.
package clustertest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
)

// Storage is cluster.Storage in memory; it outlives the nodes that use it, so
// that a test can restart one.
type Storage struct {
	mu      sync.Mutex
	groups  map[crier.PartitionID]*group
	formed  []string
	forming bool
	hangs   chan struct{} // closed when the disk goes on; nil: it does not hang
	full    error
}

// group is what is kept of one group.
type group struct {
	log   *raft.InmemStore
	snaps *raft.InmemSnapshotStore
	state *State
}

// NewStorage returns empty storage.
func NewStorage() *Storage {
	return &Storage{groups: make(map[crier.PartitionID]*group)}
}

func (s *Storage) group(p crier.PartitionID) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups[p] == nil {
		s.groups[p] = &group{raft.NewInmemStore(), raft.NewInmemSnapshotStore(), &State{nodes: make(map[string]crier.NodeState)}}
	}
	return s.groups[p]
}

// Fill has the disk be full, or not any more.
func (s *Storage) Fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full = nil; full {
		s.full = errors.New("the disk is full")
	}
}

// Writable is cluster.Storage's.
func (s *Storage) Writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// Members is cluster.Storage's.
func (s *Storage) Members() ([]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.formed, s.forming
}

// SetMembers is cluster.Storage's.
func (s *Storage) SetMembers(members []string, forming bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.formed, s.forming = members, forming
	return nil
}

// LogStore is cluster.Storage's.
func (s *Storage) LogStore(p crier.PartitionID) raft.LogStore { return hangingLog{s.group(p).log, s} }

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
func (s *Storage) StableStore(p crier.PartitionID) raft.StableStore { return s.group(p).log }

// SnapshotStore is cluster.Storage's.
func (s *Storage) SnapshotStore(p crier.PartitionID) raft.SnapshotStore { return s.group(p).snaps }

// FSM is cluster.Storage's.
func (s *Storage) FSM(p crier.PartitionID) raft.FSM { return s.group(p).state }

// Configuration is cluster.Storage's.
func (s *Storage) Configuration(p crier.PartitionID) (uint64, raft.Configuration) {
	state := s.group(p).state
	state.mu.Lock()
	defer state.mu.Unlock()
	return state.configured, state.configuration
}

// Cut is cluster.Storage's, and not used in tests.
func (s *Storage) Cut([]crier.PartitionID) (crier.Cut, error) { return nil, errors.ErrUnsupported }

// Restoring is cluster.Storage's.
func (s *Storage) Restoring() uint64 { return 0 }

// Recover is cluster.Storage's.
func (s *Storage) Recover(p crier.PartitionID, c raft.Configuration, term uint64) error {
	g := s.group(p)
	last, err := g.log.LastIndex()
	if err != nil {
		return err
	}
	e := new(raft.Log)
	for i := uint64(1); i <= last; i++ {
		if err := g.log.GetLog(i, e); err != nil {
			return err
		}
		if e.Type == raft.LogCommand {
			g.state.Apply(e)
		}
	}
	// A log of its own after it, as raft.RecoverCluster leaves one.
	_, trans := raft.NewInmemTransport("") // knows how to encode nodes
	sink, err := g.snaps.Create(raft.SnapshotVersionMax, last, e.Term, c, last, trans)
	if err != nil {
		return err
	}
	if err := errors.Join(g.state.save(sink), sink.Close(), g.log.DeleteRange(1, last)); err != nil {
		return err
	}
	g.state.StoreConfiguration(last, c)
	now, err := g.log.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	return g.log.SetUint64([]byte("CurrentTerm"), max(now, term))
}

// Drop is cluster.Storage's.
func (s *Storage) Drop(p crier.PartitionID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.groups, p)
	return nil
}

// Has reports whether there is anything of a group.
func (s *Storage) Has(p crier.PartitionID) bool {
	g := s.group(p)
	has, err := raft.HasExistingState(g.log, g.log, g.snaps)
	return has || err != nil
}

// Count returns how many commands a group's state machine has counted.
func (s *Storage) Count(p crier.PartitionID) int {
	state := s.group(p).state
	state.mu.Lock()
	defer state.mu.Unlock()
	return state.count
}

// Forget empties every state machine, as a crash does with what is only in memory: the logs have it all.
func (s *Storage) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		g.state = &State{nodes: make(map[string]crier.NodeState)}
	}
}

// nodeCommand begins a command about a node; its state and its id follow.
const nodeCommand = "node "

// NodeCommand is cluster.Storage's.
func (s *Storage) NodeCommand(n crier.Node) []byte {
	return []byte(nodeCommand + string(n.State) + " " + n.ID)
}

// Nodes is cluster.Storage's.
func (s *Storage) Nodes() (nodes []crier.Node) {
	state := s.group(crier.SystemPartition).state
	state.mu.Lock()
	defer state.mu.Unlock()
	for id, at := range state.nodes {
		nodes = append(nodes, crier.Node{ID: id, State: at})
	}
	slices.SortFunc(nodes, func(a, b crier.Node) int { return cmp.Compare(a.ID, b.ID) })
	return nodes
}

// State is a state machine that counts its commands and answers with the count.
// The command "fail" is answered with an error, "busy" too while the count is under 3, and those about nodes are kept.
type State struct {
	mu            sync.Mutex
	index         uint64
	count         int
	nodes         map[string]crier.NodeState
	configured    uint64
	configuration raft.Configuration
}

// Apply counts.
func (s *State) Apply(e *raft.Log) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Index <= s.index {
		return nil // replayed
	}
	s.index = e.Index
	if string(e.Data) == "fail" {
		return crier.Errorf(crier.CodePushOff, "told to fail")
	}
	if about, ok := strings.CutPrefix(string(e.Data), nodeCommand); ok {
		state, id, _ := strings.Cut(about, " ")
		if s.nodes[id].Gone() || crier.NodeState(state) == crier.NodeDrained && s.nodes[id] != crier.NodeDraining {
			return crier.Errorf(crier.CodeBadParameter, "it has left, or is not draining")
		}
		s.nodes[id] = crier.NodeState(state)
		return nil
	}
	s.count++
	if string(e.Data) == "busy" && s.count < 3 {
		return crier.Errorf(crier.CodeTimeout, "told to try again")
	}
	return s.count
}

// StoreConfiguration is raft.ConfigurationStore's.
func (s *State) StoreConfiguration(index uint64, c raft.Configuration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configured, s.configuration = index, c
}

// Snapshot is not used in tests: their logs are short.
func (s *State) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }

// saved is a State as JSON.
type saved struct {
	Index uint64
	Count int
	Nodes map[string]crier.NodeState
}

func (s *State) save(w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.NewEncoder(w).Encode(saved{s.index, s.count, s.nodes})
}

// Restore takes what save has written.
func (s *State) Restore(r io.ReadCloser) error {
	var was saved
	if err := json.NewDecoder(r).Decode(&was); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index, s.count, s.nodes = was.Index, was.Count, was.Nodes
	return nil
}

// Host is cluster.Host: its partition actors propose each []byte that they are
// sent and answer with the result, or with a Failure.
type Host struct {
	// Mute tells of a message whether it gets no answer, and is not proposed. May be nil.
	Mute func(p crier.PartitionID, g *cluster.Group, message []byte) bool
}

// PartitionProps is cluster.Host's.
func (h Host) PartitionProps(p crier.PartitionID, g *cluster.Group, _ uint64) *actor.Props {
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
