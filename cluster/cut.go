package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

const (
	// standstillMost bounds how long a node stands still for a cut that nobody releases.
	standstillMost = 5 * time.Second
	// cutIdle is how long a cut is kept that nobody reads.
	cutIdle = time.Minute
	// pieceMost is how much of a state goes between two nodes at a time, in bytes.
	pieceMost = 1 << 20
)

var errNoCut = errors.New("the cut is not there any more")

// heldCut is a cut of this node that a backup reads.
type heldCut struct {
	id     uint64
	cut    crier.Cut
	terms  map[crier.PartitionID]uint64 // of the groups that the node led before it stood still
	stands *time.Timer                  // ends the standstill by itself
	idle   *time.Timer                  // ends the cut by itself

	mu        sync.Mutex // one piece is read at a time
	partition crier.PartitionID
	stream    *io.PipeReader
	offset    uint64
	streaming sync.WaitGroup
}

// cuts is the cut of a node, if it has one.
type cuts struct {
	mu   sync.Mutex
	held *heldCut
}

// takeCut makes this node stand still. It stands so until releaseCut, or standstillMost.
func (n *Node) takeCut(m *clusterv1.TakeCut) error {
	n.cuts.mu.Lock()
	defer n.cuts.mu.Unlock()
	if n.cuts.held != nil {
		return errors.New("another backup is being taken")
	}
	if n.storage.Restoring() != 0 {
		return errRestoring
	}
	h := &heldCut{id: m.GetId(), terms: make(map[crier.PartitionID]uint64)}
	n.mu.RLock()
	for _, id := range m.GetPartitions() {
		p := crier.PartitionID(id)
		if n.local[p] != nil {
			h.terms[p] = n.terms[p]
		}
	}
	n.mu.RUnlock()
	if len(h.terms) != len(m.GetPartitions()) {
		return ErrNotLeader
	}
	var err error
	if h.cut, err = n.storage.Cut(slices.Collect(maps.Keys(h.terms))); err != nil {
		return err
	}
	h.stands = time.AfterFunc(standstillMost, h.cut.Release)
	h.idle = time.AfterFunc(cutIdle, func() { n.endCut(h.id) })
	n.cuts.held = h
	return nil
}

func (n *Node) heldCut(id uint64) (*heldCut, error) {
	n.cuts.mu.Lock()
	defer n.cuts.mu.Unlock()
	if n.cuts.held == nil || n.cuts.held.id != id {
		return nil, errNoCut
	}
	return n.cuts.held, nil
}

// releaseCut lets this node go on, if its cut is one of the cluster: all nodes stand still now, and this one leads its groups still, in the term in which it
// stopped. So nobody else has taken a command before now that another's cut has something of.
func (n *Node) releaseCut(ctx context.Context, id uint64) error {
	h, err := n.heldCut(id)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for p, term := range h.terms {
		group.Go(func() error {
			g := n.Group(p)
			if g == nil {
				return ErrNotLeader
			}
			if err := g.Verify(ctx); err != nil {
				return fmt.Errorf("partition %s: %w", p, err)
			}
			if g.Term() != term {
				return ErrNotLeader
			}
			return nil
		})
	}
	err = group.Wait()
	if !h.stands.Stop() && err == nil {
		err = errors.New("the standstill has ended before all nodes stood still")
	}
	h.cut.Release()
	return err
}

// readCut returns the next piece of a group's state.
func (n *Node) readCut(m *clusterv1.ReadCut) *clusterv1.CutRead {
	h, err := n.heldCut(m.GetId())
	if err != nil {
		return &clusterv1.CutRead{Error: err.Error()}
	}
	data, end, err := h.read(crier.PartitionID(m.GetPartition()), m.GetOffset())
	if err != nil {
		return &clusterv1.CutRead{Error: err.Error()}
	}
	return &clusterv1.CutRead{Data: data, End: end}
}

func (h *heldCut) read(p crier.PartitionID, offset uint64) (data []byte, end bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.idle.Reset(cutIdle)
	if _, led := h.terms[p]; !led {
		return nil, false, errNoCut
	}
	if offset == 0 {
		h.open(p)
	}
	if h.stream == nil || p != h.partition || offset != h.offset {
		return nil, false, fmt.Errorf("partition %s can't be read from %d", p, offset)
	}
	data = make([]byte, pieceMost)
	k, err := io.ReadFull(h.stream, data)
	h.offset += uint64(k)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return data[:k], true, nil
	case err != nil:
		return nil, false, err
	}
	return data, false, nil
}

// open begins to stream a group. The caller holds mu.
func (h *heldCut) open(p crier.PartitionID) {
	h.shut()
	in, out := io.Pipe()
	h.streaming.Go(func() { out.CloseWithError(h.cut.Stream(p, out)) }) // ends with the stream, or when in is closed
	h.partition, h.stream, h.offset = p, in, 0
}

// shut ends what is streamed. The caller holds mu.
func (h *heldCut) shut() {
	if h.stream != nil {
		_ = h.stream.Close() // of a pipe, it never fails
	}
	h.streaming.Wait()
}

// endCut forgets a cut; one that is not there is fine.
func (n *Node) endCut(id uint64) {
	n.cuts.mu.Lock()
	h := n.cuts.held
	if h == nil || h.id != id {
		n.cuts.mu.Unlock()
		return
	}
	n.cuts.held = nil
	n.cuts.mu.Unlock()
	h.stands.Stop()
	h.idle.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut()
	h.stream = nil
	h.cut.Close()
}

// closeCuts ends what a backup reads of this node.
func (n *Node) closeCuts() {
	n.cuts.mu.Lock()
	h := n.cuts.held
	n.cuts.mu.Unlock()
	if h != nil {
		n.endCut(h.id)
	}
}

// Cut is what the leaders of all groups know at one moment. Stream is for one goroutine.
type Cut struct {
	node *Node
	id   uint64
	at   map[crier.PartitionID]string // where a group is read
}

// Cut brings all groups of the cluster to a standstill, for some ten milliseconds, and returns what their leaders know then, each confirmed by a majority. It
// tries again where leaders change, until ctx ends. The error says which group has no leader, or which node does not answer; it carries crier.CodeTimeout.
func (n *Node) Cut(ctx context.Context) (*Cut, error) {
	if n.storage.Restoring() != 0 {
		return nil, crier.Errorf(crier.CodeTimeout, "no backup can be taken: %v", errRestoring)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := n.tryCut(ctx)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, crier.Errorf(crier.CodeTimeout, "no backup can be taken: %v", err)
		case <-time.After(pause):
		}
	}
}

// tryCut tries once. What it has taken of a cut that is none, it gives back.
func (n *Node) tryCut(ctx context.Context) (_ *Cut, err error) {
	c := &Cut{node: n, id: rand.Uint64(), at: make(map[crier.PartitionID]string)}
	led := make(map[string][]uint32)
	for _, p := range n.allGroups() {
		leader := n.leaderOf(p)
		if leader == "" {
			return nil, fmt.Errorf("partition %s has no leader", p)
		}
		c.at[p] = leader
		led[leader] = append(led[leader], uint32(p))
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	bounded, cancel := context.WithTimeout(ctx, standstillMost)
	defer cancel()
	err = each(led, func(node string, groups []uint32) error {
		return n.stepAt(bounded, node, &clusterv1.TakeCut{Id: c.id, Partitions: groups})
	})
	if err != nil {
		return nil, err
	}
	err = each(led, func(node string, _ []uint32) error {
		return n.stepAt(bounded, node, &clusterv1.ReleaseCut{Id: c.id})
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// each calls f for all nodes side by side, and returns the first error, with the node in it.
func each[T any](nodes map[string]T, f func(node string, of T) error) error {
	var group errgroup.Group
	for node, of := range nodes {
		group.Go(func() error {
			if err := f(node, of); err != nil {
				return fmt.Errorf("node %s: %w", node, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// Stream writes the state of a group, as crier.Cut does. It blocks.
func (c *Cut) Stream(ctx context.Context, p crier.PartitionID, w io.Writer) error {
	for offset := uint64(0); ; {
		bounded, cancel := context.WithTimeout(ctx, controlTimeout)
		answer, err := c.node.askControl(bounded, c.at[p], &clusterv1.ReadCut{Id: c.id, Partition: uint32(p), Offset: offset})
		cancel()
		piece, ok := answer.(*clusterv1.CutRead)
		switch {
		case err != nil:
			return fmt.Errorf("node %s: %w", c.at[p], err)
		case !ok || piece.GetError() != "":
			return fmt.Errorf("node %s: %s", c.at[p], piece.GetError())
		}
		if _, err := w.Write(piece.GetData()); err != nil {
			return err
		}
		if offset += uint64(len(piece.GetData())); piece.GetEnd() {
			return nil
		}
	}
}

// Close ends the cut on all nodes. One that does not hear of it forgets it by itself.
func (c *Cut) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	nodes := make(map[string]struct{})
	for _, node := range c.at {
		nodes[node] = struct{}{}
	}
	_ = each(nodes, func(node string, _ struct{}) error { return c.node.stepAt(ctx, node, &clusterv1.EndCut{Id: c.id}) })
}
