package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crier-im/crier"
)

// Drop deletes everything of a group: its log, its term and vote, its state. The group must have been shut down. It blocks until all is
// gone; what a crash leaves, the next start deletes. The group can begin again after it, from nothing.
func (s *Store) Drop(p crier.PartitionID) error {
	b := s.base(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.flushed.Broadcast() // who waits for what is no more
	b.waitFlushed()
	b.dirty, b.changed = overlay{}, false // it has something only where a flush has failed
	mark := new(batch)
	mark.set(b.keys.kind(kindDropping), nil)
	if err := b.writeNow(mark); err != nil {
		return fmt.Errorf("delete partition %s: %w", p, err)
	}
	if err := s.drop(p); err != nil {
		return fmt.Errorf("delete partition %s: %w", p, err)
	}
	return nil
}

// drop deletes a group that has the mark. The mark goes last.
func (s *Store) drop(p crier.PartitionID) error {
	b := s.base(p)
	if err := s.logs[p].drop(); err != nil {
		return err
	}
	if err := b.clear(kindDropping); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.cfg.Dir, "incoming", p.String())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	done := new(batch)
	done.delete(b.keys.kind(kindDropping))
	if err := b.writeNow(done); err != nil {
		return err
	}
	if err := b.loadMeta(); err != nil {
		return err
	}
	return b.self.reload()
}

// finishDrop ends what a crash has left of a Drop. It also deletes what a crash has left of the first snapshot of a new replica: that one has no log, so
// it has neither acknowledged an entry nor voted, and can begin again from nothing.
func (s *Store) finishDrop(p crier.PartitionID) error {
	b := s.base(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	dropping, err := b.get(b.keys.kind(kindDropping))
	if err != nil {
		return err
	}
	restoring, err := b.get(b.keys.kind(kindRestoring))
	if err != nil {
		return err
	}
	first, _ := s.logs[p].bounds()
	if dropping == nil && (first != 0 || !bytes.Equal(restoring, freshMark)) {
		return nil
	}
	if err := s.drop(p); err != nil {
		return fmt.Errorf("end the deletion of partition %s: %w", p, err)
	}
	return nil
}
