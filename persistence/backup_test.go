package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// configured gives a group the configuration that raft would have written first.
func configured(m *Machine) {
	self := raft.Configuration{Servers: []raft.Server{{ID: "old", Address: "old"}}}
	m.Apply(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(self)})
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	s := openStore(t, t.TempDir())
	for _, m := range s.machines {
		configured(m)
		for _, e := range randomLog(random, 300) {
			e.Index++
			m.Apply(e)
		}
	}
	if _, err := newTestLog(s.system).Apply(t.Context(), s.NodeCommand(crier.Node{ID: "old", State: crier.NodeMember})); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	info, err := RestoreBackup(t.Context(), dir, bytes.NewReader(backup.Bytes()), slog.New(slog.DiscardHandler))
	if err != nil || info.NodeID != s.NodeID() || info.Partitions != 2 {
		t.Fatalf("%+v, %v", info, err)
	}
	again := openStore(t, dir)
	if nodes := again.Nodes(); len(nodes) > 0 {
		t.Errorf("the nodes of the old cluster are in the new one: %v", nodes)
	}
	if again.NodeID() == s.NodeID() {
		t.Error("the restored node says that it is the old one")
	}
	for p := range crier.PartitionID(2) {
		if a, b := withoutMeta(t, s, p), withoutMeta(t, again, p); !bytes.Equal(a, b) {
			t.Errorf("partition %s differs: %d and %d bytes", p, len(a), len(b))
		}
		metas, err := again.SnapshotStore(p).List()
		if err != nil || len(metas) != 1 || string(metas[0].Configuration.Servers[0].ID) != again.NodeID() {
			t.Errorf("partition %s: %+v, %v", p, metas, err)
		}
		if term, err := again.logs[p].GetUint64([]byte("CurrentTerm")); err != nil || term != s.machines[p].meta.GetTerm() {
			t.Errorf("partition %s is at term %d, %v", p, term, err)
		}
	}
	if _, err := RestoreBackup(t.Context(), dir, bytes.NewReader(backup.Bytes()), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory in use: %v", err)
	}
}

// withoutMeta returns the stream of a group but for its meta record, which names the node.
func withoutMeta(t *testing.T, s *Store, p crier.PartitionID) []byte {
	t.Helper()
	var out bytes.Buffer
	err := readStream(newReader(snapshot(t, s, p)), func(k, v []byte) error {
		if k[0] != kindMeta {
			fmt.Fprintf(&out, "%x=%x\n", k, v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	configured(s.machines[0])
	if err := s.Backup(t.Context(), io.Discard); !errors.Is(err, crier.CodeBadParameter) {
		t.Errorf("a node backs up half of what there is: %v", err)
	}
	configured(s.machines[1])
	r := s.Replica(0, &testLog{fsm: s.machines[0], index: 1, now: time.UnixMilli(1700000000000)})
	mustChange(t, r, imports("a", "b")...)
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	whole := backup.Bytes()
	for n := range len(whole) {
		if n%7 > 0 && n < len(whole)-20 {
			continue // enough of them
		}
		if _, err := RestoreBackup(t.Context(), filepath.Join(t.TempDir(), "d"), bytes.NewReader(whole[:n]), slog.New(slog.DiscardHandler)); err == nil {
			t.Fatalf("%d of %d bytes were taken for a backup", n, len(whole))
		}
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 0x55
	if _, err := RestoreBackup(t.Context(), filepath.Join(t.TempDir(), "d"), bytes.NewReader(flipped), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a damaged backup was restored")
	}
	if _, err := RestoreBackup(t.Context(), filepath.Join(t.TempDir(), "d"), strings.NewReader("hello"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a text was restored")
	}
}

// A backup is of one moment: what a second partition did because of a first is never in it without the first.
func TestABackupIsOfOneMoment(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	replicas := make([]*Replica, 2)
	for i, m := range s.machines {
		configured(m)
		replicas[i] = s.Replica(crier.PartitionID(i), &testLog{fsm: m, index: 1, now: time.UnixMilli(1700000000000)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for _, r := range replicas { // the second follows the first
				if err := r.ChangeAccounts(context.Background(), testApp, imports(crier.UserID(fmt.Sprintf("u%06d", i)))); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 5 {
		var backup bytes.Buffer
		if err := s.Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := RestoreBackup(t.Context(), dir, &backup, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		again := openStore(t, dir)
		first, second := again.machines[0].app(testApp).next, again.machines[1].app(testApp).next
		if first != second && first != second+1 {
			t.Errorf("the first partition has %d accounts, the second %d", first, second)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
}
