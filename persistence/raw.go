package persistence

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// MeasureRaw returns how many records of size bytes a second the disk takes in dir: writers goroutines
// commit batches of records each through a group committer to a synced database, and nothing else. It is
// the limit that benchmarks of durable writes compare with. It blocks for d.
func MeasureRaw(ctx context.Context, dir string, writers, records, size int, d time.Duration) (perSecond float64, err error) {
	db, err := openBadger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	c := startCommitter(db, 0, newMetrics(nil))
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var written atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	started := time.Now()
	for w := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n += records {
				b := new(batch)
				for i := range records {
					key := binary.BigEndian.AppendUint64([]byte{byte(w)}, uint64(n+i))
					b.set(key, make([]byte, size))
				}
				if err := c.commit(b); err != nil {
					failed.Store(&err)
					return
				}
				written.Add(int64(records))
			}
		})
	}
	wg.Wait()
	took := time.Since(started)
	c.stop()
	if err := db.Close(); err != nil {
		return 0, err
	}
	if e := failed.Load(); e != nil {
		return 0, fmt.Errorf("raw writes: %w", *e)
	}
	return float64(written.Load()) / took.Seconds(), nil
}
