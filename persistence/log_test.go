package persistence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

func entries(from, to uint64) (all []*raft.Log) {
	for i := from; i <= to; i++ {
		all = append(all, &raft.Log{Index: i, Term: i / 10, Type: raft.LogCommand, Data: []byte(fmt.Sprint("data ", i)), AppendedAt: time.Unix(int64(i), 0)})
	}
	return all
}

func wantRange(t *testing.T, l *groupLog, first, last uint64) {
	t.Helper()
	f, _ := l.FirstIndex()
	n, _ := l.LastIndex()
	if f != first || n != last {
		t.Errorf("the log has %d to %d, want %d to %d", f, n, first, last)
	}
	for _, i := range []uint64{first, last, (first + last) / 2} {
		var e raft.Log
		if err := l.GetLog(i, &e); first > 0 && (err != nil || e.Index != i || string(e.Data) != fmt.Sprint("data ", i) || e.Term != i/10) {
			t.Errorf("entry %d: %+v, %v", i, e, err)
		}
	}
	var e raft.Log
	for _, i := range []uint64{first - 1, last + 1} {
		if err := l.GetLog(i, &e); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d outside the log: %v", i, err)
		}
	}
}

// A log that was emptied of the entries of a leader that is gone, and has lower ones since, has them after a restart.
func TestALogThatBeginsLower(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	l := s.logs[0]
	if err := l.StoreLogs(entries(5, 9)); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteRange(5, 9); err != nil {
		t.Fatal(err)
	}
	if err := l.StoreLogs(entries(5, 6)); err != nil {
		t.Fatal(err)
	}
	wantRange(t, l, 5, 6)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRange(t, openStore(t, dir).logs[0], 5, 6)
}

// A long suffix goes in steps, the last entries first.
func TestALongSuffix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	l := s.logs[0]
	const last = 2*deleteStep + 100
	if err := l.StoreLogs(entries(1, last)); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteRange(50, last); err != nil {
		t.Fatal(err)
	}
	wantRange(t, l, 1, 49)
	if err := l.StoreLogs(entries(50, 60)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRange(t, openStore(t, dir).logs[0], 1, 60)
}

func TestLogStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	l, other := s.logs[0], s.logs[1]
	wantRange(t, l, 0, 0)
	if err := l.StoreLogs(entries(1, 100)); err != nil {
		t.Fatal(err)
	}
	if err := other.StoreLogs(entries(7, 8)); err != nil {
		t.Fatal(err)
	}
	wantRange(t, l, 1, 100)
	for _, c := range []struct{ from, to, first, last uint64 }{{1, 30, 31, 100}, {91, 100, 31, 90}, {200, 300, 31, 90}, {1, 40, 41, 90}} {
		if err := l.DeleteRange(c.from, c.to); err != nil {
			t.Fatal(err)
		}
		wantRange(t, l, c.first, c.last)
	}
	if err := l.StoreLogs(entries(91, 95)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	wantRange(t, s.logs[0], 41, 95)
	wantRange(t, s.logs[1], 7, 8)
	if err := s.logs[0].DeleteRange(1, 1000); err != nil {
		t.Fatal(err)
	}
	wantRange(t, s.logs[0], 0, 0)
	if err := s.logs[0].StoreLogs(entries(500, 501)); err != nil {
		t.Fatal(err)
	}
	wantRange(t, s.logs[0], 500, 501)
}

func TestLogCacheIsBounded(t *testing.T) {
	t.Parallel()
	l := openStore(t, t.TempDir()).logs[0]
	for i := uint64(1); i <= 40; i++ {
		e := &raft.Log{Index: i, Data: make([]byte, logCacheBytes/8)}
		if err := l.StoreLog(e); err != nil {
			t.Fatal(err)
		}
	}
	if l.cached > logCacheBytes || len(l.cache) == 0 || len(l.cache) > 8 {
		t.Errorf("%d bytes in %d entries are cached", l.cached, len(l.cache))
	}
	var e raft.Log
	if err := l.GetLog(1, &e); err != nil || len(e.Data) != logCacheBytes/8 {
		t.Errorf("an entry that fell out of the cache: %v", err)
	}
}

func TestStableStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	l := s.logs[0]
	if _, err := l.Get([]byte("x")); err == nil || err.Error() != "not found" {
		t.Errorf("nothing there: %v", err)
	}
	if err := errors.Join(l.Set([]byte("x"), []byte("v")), l.SetUint64([]byte("n"), 7), l.SetUint64([]byte("n"), 8)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	v, err := s.logs[0].Get([]byte("x"))
	n, err2 := s.logs[0].GetUint64([]byte("n"))
	if string(v) != "v" || n != 8 || err != nil || err2 != nil {
		t.Errorf("%q %d %v %v", v, n, err, err2)
	}
	if _, err := s.logs[1].Get([]byte("x")); err == nil {
		t.Error("another group has the value")
	}
	if _, err := s.logs[0].GetUint64([]byte("x")); err == nil {
		t.Error("a text was read as a number")
	}
}

// A log whose tail is torn, as after a crash of the machine, opens with what is
// whole, or says which database is damaged; it never panics.
func TestTruncatedLog(t *testing.T) {
	t.Parallel()
	for _, db := range []string{"log", "state"} {
		dir := t.TempDir()
		s := openStore(t, dir)
		r := s.Replica(0, newTestLog(s.FSM(0)))
		for i := range 50 {
			mustChange(t, r, imports(crier.UserID(fmt.Sprint("u", i)))...)
		}
		if err := s.logs[0].StoreLogs(entries(1, 200)); err != nil {
			t.Fatal(err)
		}
		if err := s.machines[0].waitStored(50); err != nil {
			t.Fatal(err)
		}
		crash := t.TempDir() // as the files are in the middle of a life
		if err := os.CopyFS(crash, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(crash, db, "*.mem"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%v, %v", files, err)
		}
		tear(t, files[len(files)-1])
		torn, err := Open(t.Context(), testConfig(crash))
		if err != nil {
			if !strings.Contains(err.Error(), filepath.Join(crash, db)) {
				t.Errorf("%s: the error names no file: %v", db, err)
			}
			continue
		}
		last, _ := torn.logs[0].LastIndex()
		n := torn.machines[0].meta.GetIndex()
		t.Logf("%s torn: the log has %d of 200 entries, the state %d of 50", db, last, n)
		if db == "log" && (last >= 200 || n != 50) || db == "state" && (last != 200 || n >= 50) {
			t.Errorf("%s: the log ends at %d, the state at %d", db, last, n)
		}
		if err := torn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// tear overwrites the second half of what was written to a file with zeros.
func tear(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	end := len(text)
	for end > 0 && text[end-1] == 0 {
		end--
	}
	clear(text[end/2:])
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCommitter(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			b := new(batch)
			for i := range 20 {
				b.set([]byte(fmt.Sprintf("zz%d-%d", w, i)), []byte("v"))
			}
			if err := s.logWrites.commit(b); err != nil {
				t.Error(err)
			}
		})
	}
	large := new(batch)
	large.set([]byte("zzlarge"), make([]byte, commitBytes+1))
	if err := s.logWrites.commit(large); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for w := range 50 {
		if v, err := read(s.logDB, fmt.Sprintf("zz%d-19", w)); string(v) != "v" || err != nil {
			t.Errorf("writer %d: %q, %v", w, v, err)
		}
	}
	if v, err := read(s.logDB, "zzlarge"); len(v) != commitBytes+1 || err != nil {
		t.Errorf("the large one: %d bytes, %v", len(v), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	late := new(batch)
	late.set([]byte("late"), nil)
	if err := s.logWrites.commit(late); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func read(db *database, key string) (value []byte, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(key))
		if err == nil {
			value, err = item.ValueCopy(nil)
		}
		return err
	})
	return value, err
}

func FuzzDecodeLog(f *testing.F) {
	for _, e := range entries(1, 3) {
		f.Add(encodeLog(e))
	}
	f.Add([]byte{1, 0, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		var e raft.Log
		if decodeLog(1, data, &e) != nil {
			return
		}
		var again raft.Log
		if err := decodeLog(1, encodeLog(&e), &again); err != nil || again.Term != e.Term || string(again.Data) != string(e.Data) || !again.AppendedAt.Equal(e.AppendedAt) {
			t.Errorf("%+v became %+v, %v", e, again, err)
		}
	})
}
