package cluster_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/persistence"
)

const (
	partitions = 16
	// flushed is well after what is in a node's memory is on its disk: 100 ms.
	flushed = 500 * time.Millisecond
)

// checkReplicas kills every node at once, as when a building loses its power, compares what is on their disks, and starts them again. Nothing may be under way.
func (c *cluster) checkReplicas() {
	t := c.t
	t.Helper()
	eventually(t, "replicas have all that their leaders have", func() error {
		s, err := c.status()
		if err != nil {
			return err
		}
		for _, p := range s.Partitions {
			for _, r := range p.Replicas {
				if r.Lag > 0 || !r.Alive {
					return fmt.Errorf("partition %s: %+v", p.Partition, r)
				}
			}
		}
		return nil
	})
	time.Sleep(flushed)
	running := c.alive()
	for _, i := range running {
		c.nodes[i].kill()
	}
	type replica struct {
		index uint64
		sum   [sha256.Size]byte
	}
	states := make(map[crier.PartitionID]map[int]replica)
	for _, i := range running {
		err := c.nodes[i].readStates(func(p crier.PartitionID, index uint64, r io.Reader) error {
			if states[p] == nil {
				states[p] = make(map[int]replica)
			}
			h := sha256.New()
			_, err := io.Copy(h, r)
			states[p][i] = replica{index, [sha256.Size]byte(h.Sum(nil))}
			return err
		})
		if err != nil {
			t.Fatalf("read the disk of node %d: %v", i, err)
		}
	}
	compared := 0
	for p, of := range states {
		for i, a := range of {
			for j, b := range of {
				if i >= j || a.index != b.index { // one that was written later on one of the disks is in the log of the other
					continue
				}
				compared++
				if a.sum != b.sum {
					t.Errorf("partition %s at %d is not the same on nodes %d and %d: see %s and %s", p, a.index, i, j, c.nodes[i].dir, c.nodes[j].dir)
				}
			}
		}
	}
	c.note("killed all nodes at once: %d pairs of replicas are equal", compared)
	if compared < partitions {
		t.Errorf("only %d pairs of replicas had the same index", compared)
	}
	for _, i := range running {
		c.nodes[i].launch()
	}
	for _, i := range running {
		c.nodes[i].waitReady()
	}
}

// readStates has f read the state of each group that a node that does not run has on its disk.
func (n *node) readStates(f func(p crier.PartitionID, index uint64, r io.Reader) error) error {
	s, err := persistence.Open(n.t.Context(), persistence.Config{
		Dir: n.dir, Partitions: partitions, MinFreeDisk: 1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	read := func(p crier.PartitionID) error {
		all, err := s.SnapshotStore(p).List()
		if err != nil || len(all) == 0 {
			return err
		}
		meta, r, err := s.SnapshotStore(p).Open(all[0].ID)
		if err != nil {
			return err
		}
		return errors.Join(f(p, meta.Index, r), r.Close())
	}
	err = read(crier.SystemPartition)
	for p := range crier.PartitionID(partitions) {
		err = errors.Join(err, read(p))
	}
	return errors.Join(err, s.Close())
}
