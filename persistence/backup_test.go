package persistence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/zstd"

	"github.com/crier-im/crier"
)

// backup returns a backup of everything that a node has.
func backup(t *testing.T, s *Store) []byte {
	t.Helper()
	cut, err := s.Cut(append(s.groups(), crier.SystemPartition))
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	cut.Release()
	var out bytes.Buffer
	if err := WriteBackup(&out, "v1", s.Partitions(), cut.Stream); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// others is who keeps a group that was restored.
var others = raft.Configuration{Servers: []raft.Server{{ID: "new", Address: "new"}}}

// restore installs what a backup has of the partitions, as of an index of its own.
func restore(t *testing.T, s *Store, from []byte, index, term uint64) {
	t.Helper()
	_, err := ReadBackup(bytes.NewReader(from), func(_ *BackupInfo, p crier.PartitionID, state io.Reader) error {
		if p == crier.SystemPartition {
			return nil
		}
		snapshots := s.SnapshotStore(p)
		sink, err := snapshots.Create(raft.SnapshotVersionMax, index, term, others, 1, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(sink, state); err != nil {
			return err
		}
		if err := sink.Close(); err != nil {
			return err
		}
		_, source, err := snapshots.Open(sink.ID())
		if err != nil {
			return err
		}
		defer source.Close()
		return s.FSM(p).Restore(source)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is restored is what was backed up, but for what is of the old cluster: where its log was, its nodes and its processes.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	s := openStore(t, t.TempDir())
	for _, m := range s.machines {
		for _, e := range randomLog(random, 300) {
			m.Apply(e)
		}
	}
	r := s.Replica(0, &testLog{fsm: s.machines[0], index: s.machines[0].meta.GetIndex(), now: time.UnixMilli(1700000000000)})
	if err := named(t, r, crier.CommandID{Origin: 7, Number: 1, Oldest: 1}, imports("named")[0]); err != nil {
		t.Fatal(err)
	}
	from := backup(t, s)
	if info, err := VerifyBackup(bytes.NewReader(from), func(int, int) {}); err != nil || info.Partitions != 2 || info.Version != "v1" {
		t.Fatalf("%+v, %v", info, err)
	}

	dir := t.TempDir()
	again := openStore(t, dir)
	mustChange(t, again.Replica(0, newTestLog(again.machines[0])), imports("of-before")...)
	restore(t, again, from, 77, 5)
	check := func() {
		t.Helper()
		for p := range crier.PartitionID(2) {
			if a, b := withoutMeta(t, s, p), withoutMeta(t, again, p); !bytes.Equal(a, b) {
				t.Errorf("partition %s differs: %d and %d bytes", p, len(a), len(b))
			}
			if was, is := s.machines[p].meta.GetClockMs(), again.machines[p].meta.GetClockMs(); was != is {
				t.Errorf("the clock of partition %s was %d and is %d", p, was, is)
			}
			metas, err := again.SnapshotStore(p).List()
			if err != nil || len(metas) != 1 || metas[0].Index != 77 || metas[0].Term != 5 || metas[0].Configuration.Servers[0].ID != "new" {
				t.Errorf("partition %s: %+v, %v", p, metas, err)
			}
		}
	}
	check()
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	again = openStore(t, dir)
	check()
}

// withoutMeta returns the stream of a group but for what belongs into no backup.
func withoutMeta(t *testing.T, s *Store, p crier.PartitionID) []byte {
	t.Helper()
	var out bytes.Buffer
	err := readStream(newReader(snapshot(t, s, p)), func(k, v []byte) error {
		if k[0] != kindMeta && k[0] != kindOrigin {
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
	mustChange(t, s.Replica(0, newTestLog(s.machines[0])), imports("a", "b")...)
	whole := backup(t, s)
	verify := func(b []byte) error {
		_, err := VerifyBackup(bytes.NewReader(b), func(int, int) {})
		return err
	}
	if err := verify(whole); err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if n%7 > 0 && n < len(whole)-20 {
			continue // enough of them
		}
		if err := verify(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were taken for a backup", n, len(whole))
		}
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	want, err := z.DecodeAll(whole, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x55
		if got, err := z.DecodeAll(flipped, nil); err == nil && bytes.Equal(got, want) {
			continue // a byte that changes nothing, such as how much memory the reader needs
		}
		if verify(flipped) == nil {
			t.Errorf("a backup with byte %d of %d changed was taken", i, len(whole))
		}
	}
	for name, b := range map[string][]byte{"a text": []byte("hello"), "more": append(bytes.Clone(whole), whole...)} {
		if verify(b) == nil {
			t.Errorf("%s was taken", name)
		}
	}
	var out bytes.Buffer
	err = WriteBackup(&out, "v1", 2, func(p crier.PartitionID, w io.Writer) error {
		if p == 1 {
			return io.ErrClosedPipe
		}
		_, err := w.Write(streamMagic)
		return err
	})
	if !errors.Is(err, io.ErrClosedPipe) || verify(out.Bytes()) == nil {
		t.Errorf("a backup without a partition: %v", err)
	}
}

func FuzzReadBackup(f *testing.F) {
	var out bytes.Buffer
	err := WriteBackup(&out, "v1", 1, func(_ crier.PartitionID, w io.Writer) error {
		_, err := w.Write(streamMagic)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add(out.Bytes()[:out.Len()/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		info, err := VerifyBackup(bytes.NewReader(data), func(int, int) { total++ })
		if err == nil && total != info.Partitions+1 {
			t.Errorf("%d groups of %d partitions", total, info.Partitions)
		}
	})
}

// A cut is of one moment: what a second partition did because of a first is never in it without the first.
func TestACutIsOfOneMoment(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	replicas := make([]*Replica, 2)
	for i, m := range s.machines {
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
			time.Sleep(100 * time.Microsecond) // else they are a million soon, and each backup larger than the one before
		}
	})
	for range 5 {
		again := openStore(t, t.TempDir())
		restore(t, again, backup(t, s), 9, 1)
		first, second := again.machines[0].app(testApp).next, again.machines[1].app(testApp).next
		if first != second && first != second+1 {
			t.Errorf("the first partition has %d accounts, the second %d", first, second)
		}
	}
	cancel()
	wg.Wait()
}

// The apps come last, by commands: until they are there, nobody can ask for anything. A cluster with apps of its own is not touched.
func TestStepsOfARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	l := newTestLog(s.system)
	system := s.SystemReplica(l)
	app := func(id crier.AppID) *crier.App { return &crier.App{ID: id, Key: "0123456789abcdef", PushEnabled: true} }
	text := func(id crier.AppID) []byte {
		b, err := json.Marshal(app(id))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	take := func(what string, command []byte, want error) {
		t.Helper()
		if _, err := l.Apply(t.Context(), command); want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	take("an app before it begins", s.RestoreApp(1, text(1)), crier.CodeBadParameter)
	take("an end before it begins", s.EndRestore(0), crier.CodeBadParameter)
	take("begin", s.BeginRestore(1), nil)
	take("an app", s.RestoreApp(1, text(1)), nil)
	if err := system.CreateApp(t.Context(), crier.CommandID{}, app(9)); !errors.Is(err, crier.CodeBadParameter) {
		t.Errorf("an app is made in the middle of it: %v", err)
	}
	take("begin another in its place", s.BeginRestore(2), nil)
	if len(system.Apps()) > 0 || s.Restoring() != 2 {
		t.Errorf("the first has left %d apps, %d goes on", len(system.Apps()), s.Restoring())
	}
	take("an app of the first", s.RestoreApp(1, text(1)), crier.CodeBadParameter)
	take("the end of the first", s.EndRestore(1), crier.CodeBadParameter)
	take("an app of the second", s.RestoreApp(2, text(2)), nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if s.Restoring() != 2 {
		t.Errorf("after a restart %d goes on", s.Restoring())
	}
	l2 := newTestLog(s.system)
	l2.index, l = l.index, l2
	take("the end", s.EndRestore(2), nil)
	take("the end again", s.EndRestore(2), nil)
	take("an app after it", s.RestoreApp(2, text(3)), crier.CodeBadParameter)
	if apps := s.SystemReplica(nil).Apps(); s.Restoring() != 0 || len(apps) != 1 || apps[0].ID != 2 {
		t.Errorf("%d goes on, apps %v", s.Restoring(), apps)
	}
	_, err := l.Apply(t.Context(), s.BeginRestore(3))
	if !errors.Is(err, crier.CodeBadParameter) || !strings.Contains(err.Error(), "1 apps") {
		t.Errorf("into a cluster with an app: %v", err)
	}
}

// A cut waits for what it reads only, and no wait outlasts the state that it is for: a partition may be deleted, or replaced by a snapshot, while a backup begins.
func TestACutBesideADeletion(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	mustChange(t, s.Replica(1, newTestLog(s.FSM(1))), imports("a")...)
	within := func(what string, do func() error) {
		t.Helper()
		ended := make(chan error, 1)
		go func() { ended <- do() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s does not end", what)
		}
	}
	s.base(0).mu.Lock() // as a snapshot does that is being installed
	within("a cut", func() error {
		cut, err := s.Cut([]crier.PartitionID{1})
		if err == nil {
			cut.Close()
		}
		return err
	})
	s.base(0).mu.Unlock()

	s.stateDB.committing.Lock() // the flusher stands
	mustChange(t, s.Replica(0, newTestLog(s.FSM(0))), imports("b")...)
	waited, dropped := make(chan error, 1), make(chan error, 1)
	index := s.base(0).meta.GetIndex()
	go func() { waited <- s.base(0).waitStored(index) }()
	go func() { dropped <- s.Drop(0) }()
	time.Sleep(50 * time.Millisecond) // both wait
	s.stateDB.committing.Unlock()
	within("the deletion", func() error { return <-dropped })
	within("the wait", func() error {
		if err := <-waited; err != nil && !errors.Is(err, errReplaced) {
			return err
		}
		return nil
	})
}

// A backup has the apps, with their keys and what is sealed, and not the nodes of the cluster.
func TestBackupOfTheSystemGroup(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	l := newTestLog(s.system)
	if err := s.SystemReplica(l).CreateApp(t.Context(), crier.CommandID{Origin: 1, Number: 1}, &crier.App{ID: 7, Key: "0123456789abcdef"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Apply(t.Context(), s.NodeCommand(crier.Node{ID: "the-old-node", State: crier.NodeMember})); err != nil {
		t.Fatal(err)
	}
	var apps []string
	_, err := ReadBackup(bytes.NewReader(backup(t, s)), func(_ *BackupInfo, p crier.PartitionID, state io.Reader) error {
		if p != crier.SystemPartition {
			return nil
		}
		b, err := io.ReadAll(state)
		if bytes.Contains(b, []byte("the-old-node")) {
			t.Error("the nodes are in the backup")
		}
		return errors.Join(err, BackupApps(bytes.NewReader(b), func(app []byte) error {
			apps = append(apps, string(app))
			return nil
		}))
	})
	if err != nil || len(apps) != 1 || !strings.Contains(apps[0], "0123456789abcdef") {
		t.Errorf("%v, %v", apps, err)
	}
}

// The compiler holds that no two kinds of keys are the same.
var _ = map[byte]struct{}{
	kindMeta:      {},
	kindRestoring: {},
	kindDropping:  {},
	kindOrdinal:   {},
	kindAccount:   {},
	kindSeq:       {},
	kindTotal:     {},
	kindMessage:   {},
	kindExpires:   {},
	kindRemaining: {},
	kindTodo:      {},
	kindFunnel:    {},
	kindMatched:   {},
	kindPlaces:    {},
	kindAttempts:  {},
	kindSendings:  {},
	kindHolder:    {},
	kindOwner:     {},
	kindHome:      {},
	kindRandom:    {},
	kindTask:      {},
	kindReport:    {},
	kindOpen:      {},
	kindKept:      {},
	kindDue:       {},
	kindOrigin:    {},
	kindApp:       {},
	kindNode:      {},
	kindRestore:   {},
}
