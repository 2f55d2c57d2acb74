package persistence

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// skipped is how many places in the sequences of its apps a home leaves out that is recovered: more than it can have given and lost. Other partitions have had
// those, and would take another campaign in such a place for the one that was there.
const skipped = 1 << 20

// skipCampaigns has the apps whose home this is go on beyond what may be lost. The caller holds mu.
func (m *Machine) skipCampaigns() error {
	keys, err := m.under(m.keys.kind(kindHome))
	if err != nil {
		return err
	}
	for _, k := range keys {
		var home logv1.Home
		if err := m.getProto(k, &home); err != nil {
			return err
		}
		home.Seq += skipped
		m.putProto(k, &home)
	}
	return nil
}

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
	b.showConfiguration()
	b.touch()
	var err error
	if p != crier.SystemPartition {
		err = s.machines[p].skipCampaigns()
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
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
