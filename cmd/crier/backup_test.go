package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/persistence"
)

func TestWriteBackupKeepsOnlyWholeOnes(t *testing.T) {
	t.Parallel()
	s, err := persistence.Open(t.Context(), persistence.Config{Dir: t.TempDir(), Partitions: 2, MinFreeDisk: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for p := range crier.PartitionID(2) { // a node keeps what its groups have begun
		s.FSM(p).Apply(&raft.Log{Index: 1, Term: 1, Type: raft.LogNoop})
	}
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "b.crier")
	if _, _, err := writeBackup(name, bytes.NewReader(backup.Bytes()[:backup.Len()-5])); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("a cut one: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a cut one left %v, %v", left, err)
	}
	size, info, err := writeBackup(name, bytes.NewReader(backup.Bytes()))
	if err != nil || size != int64(backup.Len()) || info.Partitions != 2 {
		t.Errorf("%d, %+v, %v", size, info, err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}
