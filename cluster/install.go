package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

const (
	// installTimeout bounds how long the other replicas of a group may take to get a state that was installed.
	installTimeout = 10 * time.Minute
	// installIdle is how long an installation waits for the next piece.
	installIdle = 30 * time.Second
	// installTries is how often a group's state is sent anew, where its leader changes or goes away.
	installTries = 5
	// installPause is how long to wait before that, and installPoll how often a leader is asked whether it is done.
	installPause = time.Second
	installPoll  = 20 * time.Millisecond
	// quietTimeout bounds how long a node may take to hear of a restore, and the actor of a partition to end.
	quietTimeout = 15 * time.Second
)

var (
	errInstallOver    = errors.New("the installation was given up")
	errNotThatRestore = errors.New("this restore is not the one under way")
)

// installation is a state on its way into the place of that of a group that this node leads.
type installation struct {
	restore uint64
	size    uint64
	offset  uint64
	in      *io.PipeWriter
	idle    *time.Timer
	done    chan struct{}
	err     error // once done is closed
}

// installations are those of a node, by group.
type installations struct {
	mu     sync.Mutex
	of     map[crier.PartitionID]*installation
	busy   map[crier.PartitionID]*sync.Mutex // held while a piece is taken
	closed bool
}

// begin waits until no other piece of the group is being taken, and returns what the group has. end lets the next one in.
func (s *installations) begin(p crier.PartitionID) (at *installation, end func()) {
	s.mu.Lock()
	busy := s.busy[p]
	if busy == nil {
		busy = new(sync.Mutex)
		s.busy[p] = busy
	}
	s.mu.Unlock()
	busy.Lock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[p], busy.Unlock
}

// put keeps an installation, unless the node closes.
func (s *installations) put(p crier.PartitionID, i *installation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[p] = i
	if s.closed {
		i.end(errClosing)
		return errClosing
	}
	return nil
}

// install takes a piece of a state. raft takes the whole as a snapshot of an index beyond its log, and sends it to the other replicas.
func (n *Node) install(m *clusterv1.Install) (done bool, err error) {
	p := crier.PartitionID(m.GetPartition())
	g := n.Group(p)
	switch {
	case p == crier.SystemPartition || g == nil || !g.IsLeader():
		return false, ErrNotLeader
	case m.GetRestore() == 0:
		return false, errNotThatRestore
	}
	at, end := n.installs.begin(p)
	defer end()
	if m.GetOffset() == 0 && len(m.GetData()) > 0 {
		if at != nil {
			at.end(errInstallOver)
			<-at.done
		}
		if at, err = n.beginInstall(g, m); err == nil {
			err = n.installs.put(p, at)
		}
		if err != nil {
			return false, err
		}
	}
	if at == nil || at.restore != m.GetRestore() || at.offset != m.GetOffset() {
		return false, errInstallOver
	}
	select {
	case <-at.done:
		return at.err == nil, at.err
	default:
	}
	if len(m.GetData()) == 0 {
		return false, nil // it goes on
	}
	at.idle.Reset(installIdle)
	k, err := at.in.Write(m.GetData())
	if at.offset += uint64(k); at.offset == at.size {
		at.end(nil)
	}
	return false, err
}

// end says that no more comes; nil: since that is all.
func (i *installation) end(err error) {
	i.idle.Stop()
	i.in.CloseWithError(err) // nil: the reader is at its end
}

// beginInstall waits until this node knows of the restore, ends the actor of the partition, and begins.
func (n *Node) beginInstall(g *Group, m *clusterv1.Install) (*installation, error) {
	for deadline := time.Now().Add(quietTimeout); n.storage.Restoring() != m.GetRestore() || n.localPID(g.id) != nil; time.Sleep(installPoll) {
		g.wake()
		if time.Now().After(deadline) {
			return nil, errNotThatRestore
		}
	}
	out, in := io.Pipe()
	i := &installation{restore: m.GetRestore(), size: m.GetSize(), in: in, done: make(chan struct{})}
	i.idle = time.AfterFunc(installIdle, func() { i.end(errInstallOver) })
	restored := make(chan error, 1)
	go func() { restored <- g.restore(int64(m.GetSize()), out) }() // ends with raft at the latest
	n.asking.Go(func() {
		defer close(i.done)
		select {
		case i.err = <-restored:
		case <-n.stop:
			i.err = errClosing
		}
		_ = out.CloseWithError(errInstallOver) // whoever writes more hears of it
	})
	return i, nil
}

// restore replaces the state of a group that this node leads, on a majority of its replicas.
func (g *Group) restore(size int64, state io.Reader) error {
	return g.raft.Restore(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: size}, state, installTimeout)
}

// closeInstalls gives up what is on its way.
func (n *Node) closeInstalls() {
	n.installs.mu.Lock()
	defer n.installs.mu.Unlock()
	n.installs.closed = true
	for _, i := range n.installs.of {
		i.end(errClosing)
	}
}

// Command puts a command into the log of the system group. It blocks until it is applied, and returns what the state machine has refused;
// crier.CodeTimeout where nobody leads the group, and where the outcome is unknown.
func (n *Node) Command(ctx context.Context, command []byte) error {
	_, err := n.operate(ctx, &clusterv1.Operate{Kind: clusterv1.OperateKind_OPERATE_KIND_COMMAND, Command: command})
	return err
}

// Install puts a state of size bytes into the place of that of a partition, on a majority of its replicas, as part of a restore that has begun. It blocks, and begins anew
// where the leader changes. After an error the partition has the state of before, or the new one, or replicas with each: the restore must be
// done again.
func (n *Node) Install(ctx context.Context, restore uint64, p crier.PartitionID, size int64, state io.ReadSeeker) error {
	var last error
	for range installTries {
		if _, err := state.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if last = n.tryInstall(ctx, restore, p, size, state); last == nil {
			return nil
		}
		n.log.Warn("the state of a partition could not be installed, and is sent again", "partition", p.String(), "err", last)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(installPause):
		}
	}
	return crier.Errorf(crier.CodeTimeout, "partition %s can't be restored: %v", p, last)
}

// tryInstall sends a state to the leader there is, and waits until it is installed.
func (n *Node) tryInstall(ctx context.Context, restore uint64, p crier.PartitionID, size int64, state io.Reader) error {
	leader := n.leaderOf(p)
	if leader == "" {
		return errors.New("it has no leader")
	}
	piece := make([]byte, pieceMost)
	for offset := int64(0); ; {
		k, err := io.ReadFull(state, piece)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		m := &clusterv1.Install{Restore: restore, Partition: uint32(p), Offset: uint64(offset), Size: uint64(size), Data: piece[:k]}
		done, err := n.installAt(ctx, leader, m)
		if err != nil || done {
			return err
		}
		if offset += int64(k); k == 0 {
			time.Sleep(installPoll)
		}
	}
}

// installAt gives a piece to a node.
func (n *Node) installAt(ctx context.Context, leader string, m *clusterv1.Install) (done bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, controlTimeout+quietTimeout)
	defer cancel()
	answer, err := n.askControl(bounded, leader, m)
	a, ok := answer.(*clusterv1.Installed)
	switch {
	case err != nil:
	case !ok || a.GetError() != "":
		err = errors.New(a.GetError())
	default:
		return a.GetDone(), nil
	}
	return false, fmt.Errorf("node %s: %w", leader, err)
}
