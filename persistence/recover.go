package persistence

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// currentTerm is raft's name for the term in the stable store.
var currentTerm = []byte("CurrentTerm")

// Recover is cluster.Storage's. raft.RecoverCluster does the same with a copy of the state; here the state is the snapshot. The log goes: what has it in common
// with others is in the state, and they are to get that.
func (s *Store) Recover(p crier.PartitionID, c raft.Configuration, term uint64) error {
	if err := s.recover(p, c, term); err != nil {
		return fmt.Errorf("recover partition %s: %w", p, err)
	}
	return nil
}

func (s *Store) recover(p crier.PartitionID, c raft.Configuration, term uint64) error {
	b, l := s.base(p), s.logs[p]
	first, last := l.bounds()
	b.mu.RLock()
	applied := b.meta.GetIndex()
	b.mu.RUnlock()
	for i := applied + 1; i <= last; i++ {
		e := new(raft.Log)
		if err := l.GetLog(i, e); err != nil {
			return fmt.Errorf("entry %d of its log: %w", i, err)
		}
		b.Apply(e)
	}
	b.mu.Lock()
	index := b.meta.GetIndex()
	if index == 0 {
		b.mu.Unlock()
		return errors.New("there is nothing of it")
	}
	b.meta.Configuration, b.meta.ConfigurationIndex = raft.EncodeConfiguration(c), index
	b.touch()
	b.mu.Unlock()
	if err := b.waitWritten(index); err != nil {
		return err
	}
	if now, err := l.GetUint64(currentTerm); err != nil && !errors.Is(err, errNotFound) {
		return err
	} else if err := l.SetUint64(currentTerm, max(now, term)); err != nil {
		return err
	}
	return l.DeleteRange(first, last)
}
