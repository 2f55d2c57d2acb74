package persistence

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// snapshot returns the stream of a group.
func snapshot(t testing.TB, s *Store, p crier.PartitionID) []byte {
	t.Helper()
	b := s.base(p)
	if err := b.waitStored(b.meta.GetIndex()); err != nil {
		t.Fatal(err)
	}
	txn, end := s.stateDB.snapshot()
	defer end()
	var out bytes.Buffer
	if err := b.stream(txn, &out); err != nil {
		t.Fatal(err)
	}
	if size := b.streamSize(txn); size != int64(out.Len()) {
		t.Errorf("the stream has %d bytes, %d were announced", out.Len(), size)
	}
	return out.Bytes()
}

// spool has a node take the stream of a group for a snapshot that comes, and returns its id.
func spool(t testing.TB, s *Store, p crier.PartitionID, stream []byte, m raft.SnapshotMeta) string {
	t.Helper()
	sink, err := s.SnapshotStore(p).Create(raft.SnapshotVersionMax, m.Index, m.Term, m.Configuration, m.ConfigurationIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return sink.ID()
}

// receive installs a stream as raft does with one that another node sends, or an operator; the meta of the stream says as of when.
func receive(t testing.TB, s *Store, p crier.PartitionID, stream []byte) error {
	t.Helper()
	var meta logv1.Meta
	_ = readStream(newReader(stream), func(k, v []byte) error { // the end of it may be missing
		if k[0] == kindMeta {
			return proto.Unmarshal(v, &meta)
		}
		return nil
	})
	var servers raft.Configuration
	if len(meta.GetConfiguration()) > 0 {
		servers = raft.DecodeConfiguration(meta.GetConfiguration())
	}
	id := spool(t, s, p, stream, raft.SnapshotMeta{Index: meta.GetIndex(), Term: meta.GetTerm(), Configuration: servers, ConfigurationIndex: meta.GetConfigurationIndex()})
	_, source, err := s.SnapshotStore(p).Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	return s.FSM(p).Restore(source)
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	s, r, l := openReplica(t)
	for i := range 300 {
		u := crier.UserID(fmt.Sprintf("user%03d", i))
		mustChange(t, r, append(imports(u), crier.Change{Op: crier.OpAddTags, User: u, Tags: []string{"t", fmt.Sprint(i % 7)}})...)
	}
	mustStart(t, r, campaign(1, time.Hour, crier.Condition{TagsOr: []string{"3"}}, l.now))
	want := snapshot(t, s, 0)

	target := openStore(t, t.TempDir())
	mustChange(t, target.Replica(0, newTestLog(target.FSM(0))), imports("old", "older")...)
	if err := receive(t, target, 0, want); err != nil {
		t.Fatal(err)
	}
	if got, want := withoutMeta(t, target, 0), withoutMeta(t, s, 0); !bytes.Equal(got, want) {
		t.Errorf("restored %d bytes, want %d", len(got), len(want))
	}
	copied := target.Replica(0, nil)
	if got := mailbox(t, copied, "user003", 0); fmt.Sprint(got) != "[1]" {
		t.Errorf("mailbox %v", got)
	}
	if a, err := copied.Accounts(testApp, []crier.UserID{"old"}); err != nil || a[0] != nil {
		t.Errorf("an account of before the restore is still there: %v, %v", a[0], err)
	}
}

func TestInterruptedRestoreIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	mustChange(t, s.Replica(0, newTestLog(s.FSM(0))), imports("a")...)
	stream := snapshot(t, s, 0)
	if err := receive(t, s, 0, stream[:len(stream)-3]); err == nil {
		t.Fatal("half a snapshot was taken")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), testConfig(dir)); err == nil || !strings.Contains(err.Error(), "partition 0") {
		t.Errorf("got %v", err)
	}
}

func FuzzReadStream(f *testing.F) {
	f.Add([]byte("crier\x01"))
	f.Add([]byte("crier\x01\x01m\x02ab"))
	f.Add([]byte("crier\x01\xff\xff\xff\x1f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readStream(newReader(data), func(k, _ []byte) error {
			if len(k) == 0 {
				t.Error("an empty key")
			}
			return nil
		})
	})
}

func newReader(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }
