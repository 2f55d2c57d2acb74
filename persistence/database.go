package persistence

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// database is one Badger database with synced writes. It gives the versions itself: with Badger's own, each transaction, also one that reads a
// single key, first waits for the sync of the commit that is under way. Safe for concurrent use.
type database struct {
	*badger.DB // its View reads the newest of each key, of a commit under way too

	committing sync.Mutex // one at a time, in the order of their versions

	mu    sync.Mutex
	last  uint64         // the version of the last commit
	using map[uint64]int // versions of snapshots: how many there are of each
}

// databaseOptions are those of both databases.
func databaseOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithCompression(options.None).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithMemTableSize(memTable).
		WithNumMemtables(3).
		WithNumLevelZeroTables(10). // a compaction takes all processors for seconds: half as often (docs/adr/0030)
		WithNumLevelZeroTablesStall(20).
		WithValueLogFileSize(16 << 20). // values stay in the LSM tree; the file is allocated all the same
		WithBlockCacheSize(0).          // blocks are not compressed: the page cache has them
		WithNumCompactors(2).
		WithLogger(badgerLogger{log})
}

func openDatabase(o badger.Options) (*database, error) {
	db, err := badger.OpenManaged(o)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", o.Dir, err)
	}
	d := &database{DB: db, last: db.MaxVersion(), using: make(map[uint64]int)}
	d.SetDiscardTs(d.last)
	return d, nil
}

// snapshot returns a transaction that reads everything as of the last commit, until end is called.
func (d *database) snapshot() (txn *badger.Txn, end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	version := d.last
	d.using[version]++
	txn = d.NewTransactionAt(version, false)
	return txn, func() {
		txn.Discard()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.using[version]--; d.using[version] == 0 {
			delete(d.using, version)
		}
	}
}

// commit writes the batches in one transaction, or, where one large batch makes them too many for it, each in its own,
// and blocks until they are durable.
func (d *database) commit(batches []*batch) error {
	err := d.commitAll(batches)
	if !errors.Is(err, badger.ErrTxnTooBig) || len(batches) == 1 {
		return err
	}
	for _, b := range batches {
		if err := d.commitAll([]*batch{b}); err != nil {
			return err
		}
	}
	return nil
}

// commitAll commits the batches in one transaction.
func (d *database) commitAll(merged []*batch) error {
	txn := d.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	for _, b := range merged {
		for _, e := range b.entries {
			var err error
			if e.value == nil {
				err = txn.Delete(e.key)
			} else {
				err = txn.Set(e.key, e.value)
			}
			if err != nil {
				return fmt.Errorf("write %d batches: %w", len(merged), err)
			}
		}
	}
	d.committing.Lock()
	defer d.committing.Unlock()
	version := d.last + 1 // changed by nobody else
	if err := txn.CommitAt(version, nil); err != nil {
		return fmt.Errorf("commit %d batches: %w", len(merged), err)
	}
	d.committed(version)
	return nil
}

// committed lets snapshots read a version, and Badger forget what none of them reads.
func (d *database) committed(version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = version
	oldest := version
	for v := range d.using {
		oldest = min(oldest, v)
	}
	d.SetDiscardTs(oldest)
}
