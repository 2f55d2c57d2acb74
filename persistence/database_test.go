package persistence

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

func openTestDatabase(t *testing.T, dir string) *database {
	t.Helper()
	// Small memtables are soon full, and compacted.
	d, err := openDatabase(databaseOptions(dir, slog.New(slog.DiscardHandler)).WithMemTableSize(1 << 20).WithValueThreshold(100 << 10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func (d *database) mustSet(t *testing.T, key string, value []byte) {
	t.Helper()
	b := new(batch)
	b.set([]byte(key), value)
	if err := d.commit([]*batch{b}); err != nil {
		t.Fatal(err)
	}
}

// versions returns how many versions of a key the database has.
func versions(d *database, key string) (n int) {
	_ = d.View(func(txn *badger.Txn) error {
		it := txn.NewKeyIterator([]byte(key), badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n++
		}
		return nil
	})
	return n
}

// What nobody reads any more is forgotten, and what a snapshot reads is not.
func TestVersionsAreForgotten(t *testing.T) {
	t.Parallel()
	d := openTestDatabase(t, t.TempDir())
	value := func(i int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 32<<10), uint64(i)) }
	written := 0
	writeUntil := func(what string, reached func() bool) {
		for range 1500 { // Badger compacts when five memtables are full
			d.mustSet(t, "k", value(written))
			if written++; written%20 == 0 && reached() {
				return
			}
		}
		t.Fatalf("after %d writes: %s", written, what)
	}
	writeUntil("nothing", func() bool { return true })
	taken := written - 1
	txn, end := d.snapshot()
	writeUntil("nothing was compacted", func() bool {
		return slices.ContainsFunc(d.Tables(), func(t badger.TableInfo) bool { return t.Level > 0 })
	})
	item, err := txn.Get([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := item.ValueCopy(nil); err != nil || !bytes.Equal(got, value(taken)) {
		t.Errorf("the snapshot reads %x, %v", got[len(got)-8:], err)
	}
	end()
	writeUntil("no version was forgotten", func() bool { return versions(d, "k") < written-taken })
	if v, err := read(d, "k"); err != nil || !bytes.Equal(v, value(written-1)) {
		t.Errorf("the newest is %d bytes, %v", len(v), err)
	}
}

// A directory of the time when Badger gave the versions goes on.
func TestVersionsOfBadger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := old.Update(func(txn *badger.Txn) error { return txn.Set([]byte("k"), []byte("old")) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"new", "newer"} {
		d := openTestDatabase(t, dir)
		txn, end := d.snapshot()
		before, err := txn.Get([]byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		d.mustSet(t, "k", []byte(value))
		after, err := txn.Get([]byte("k"))
		if err != nil || before.Version() != after.Version() {
			t.Errorf("a snapshot sees version %d and then %d, %v", before.Version(), after.Version(), err)
		}
		end()
		if v, err := read(d, "k"); err != nil || string(v) != value {
			t.Errorf("%q after %q was written, %v", v, value, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
