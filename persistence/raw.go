package persistence

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
)

// MeasureRaw returns how many records of size bytes a second the disk takes in dir: writers goroutines
// commit batches of records each through a group committer to a synced database, and nothing else. It is
// the limit that benchmarks of durable writes compare with. It blocks for d.
func MeasureRaw(ctx context.Context, dir string, writers, records, size int, d time.Duration) (perSecond float64, err error) {
	db, err := openDatabase(databaseOptions(dir, slog.New(slog.DiscardHandler)))
	if err != nil {
		return 0, err
	}
	c := startCommitter(db, newMetrics(nil, newDiskGuard(dir, 0)))
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

// MeasureAudience returns how long the audience of a condition takes over all partitions on one thread, and how long
// the same algebra over bitmaps that are at hand, which is its limit: medians of rounds, taken in turn. It holds up the
// partitions meanwhile.
func (s *Store) MeasureAudience(app crier.AppID, c *crier.Condition, rounds int) (ours, bare time.Duration) {
	var indexes []*index
	var plain []operands
	for _, m := range s.machines {
		m.mu.RLock()
		defer m.mu.RUnlock()
		if state := m.apps[app]; state != nil {
			indexes, plain = append(indexes, state.index), append(plain, state.index.operands(c))
		}
	}
	var our, their []time.Duration
	for range rounds {
		started := time.Now()
		for _, x := range indexes {
			x.evaluate(c)
		}
		our = append(our, time.Since(started))
		started = time.Now()
		for i := range plain {
			plain[i].evaluate()
		}
		their = append(their, time.Since(started))
	}
	slices.Sort(our)
	slices.Sort(their)
	return our[rounds/2], their[rounds/2]
}

// operands are the bitmaps of a condition.
type operands struct {
	all      *roaring.Bitmap
	and, not []*roaring.Bitmap
	or       [][]*roaring.Bitmap
}

func (x *index) operands(c *crier.Condition) operands {
	list := func(tags []string, attrs []crier.AttrTerm) (bitmaps []*roaring.Bitmap) {
		for _, t := range tags {
			bitmaps = append(bitmaps, x.postings[tagTerm(t)].bitmap())
		}
		for _, t := range attrs {
			bitmaps = append(bitmaps, x.postings[attrTerm(t.Slot, t.Value)].bitmap())
		}
		return bitmaps
	}
	o := operands{all: x.all, and: list(c.TagsAnd, c.AttrsAnd), not: list(c.TagsNot, nil)}
	for _, or := range [][]*roaring.Bitmap{list(c.TagsOr, nil), list(nil, c.AttrsOr)} {
		if len(or) > 0 {
			o.or = append(o.or, or)
		}
	}
	return o
}

// evaluate is the algebra as roaring's users write it.
func (o *operands) evaluate() *roaring.Bitmap {
	and := o.and
	for _, or := range o.or {
		and = append(and, roaring.FastOr(or...))
	}
	result := o.all
	switch len(and) {
	case 0:
		result = result.Clone()
	case 1:
		result = and[0].Clone()
	default:
		result = roaring.FastAnd(and...)
	}
	if len(o.not) > 0 {
		result.AndNot(roaring.FastOr(o.not...))
	}
	return result
}
