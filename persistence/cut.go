package persistence

import (
	"io"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/crier-im/crier"
)

// Cut is what this node knows at one moment. It implements crier.Cut.
type Cut struct {
	store   *Store
	txn     *badger.Txn
	release func()
	end     func()
}

// Cut is cluster.Storage's.
func (s *Store) Cut(partitions []crier.PartitionID) (crier.Cut, error) {
	s.still.Lock()
	for _, p := range partitions { // others may be replaced or deleted just now, which takes as long as they are large
		b := s.base(p)
		b.mu.RLock()
		index := b.meta.GetIndex()
		b.mu.RUnlock()
		if err := b.waitStored(index); err != nil {
			s.still.Unlock()
			return nil, err
		}
	}
	txn, end := s.stateDB.snapshot()
	return &Cut{store: s, txn: txn, release: sync.OnceFunc(s.still.Unlock), end: sync.OnceFunc(end)}, nil
}

// Release is crier.Cut's.
func (c *Cut) Release() { c.release() }

// Stream is crier.Cut's. What is of the cluster and of its processes, and not of its apps and accounts, is left out: its nodes, how far a restore
// was, and which commands are done, since no other process has their ids.
func (c *Cut) Stream(p crier.PartitionID, w io.Writer) error {
	return c.store.base(p).stream(c.txn, w, kindNode, kindRestore, kindOrigin)
}

// Close is crier.Cut's.
func (c *Cut) Close() {
	c.release()
	c.end()
}
