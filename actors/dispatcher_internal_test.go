package actors

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// Whatever is scheduled runs once, what came first begins first, and never are more under way than there may be workers.
func TestDispatcher(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 3} {
		d := &dispatcher{most: most}
		const schedulers, each = 4, 5000
		var under, worst atomic.Int32
		var mu sync.Mutex
		ran := make([][]int, schedulers)
		var scheduling, running sync.WaitGroup
		running.Add(schedulers * each)
		for s := range schedulers {
			scheduling.Go(func() {
				for i := range each {
					d.Schedule(func() {
						defer running.Done()
						defer under.Add(-1)
						now := under.Add(1)
						mu.Lock()
						defer mu.Unlock()
						worst.Store(max(worst.Load(), now))
						ran[s] = append(ran[s], i)
					})
				}
			})
		}
		scheduling.Wait()
		running.Wait()
		if int(worst.Load()) > most {
			t.Errorf("%d ran at once, with %d workers", worst.Load(), most)
		}
		for s := range ran {
			if len(ran[s]) != each || most == 1 && !slices.IsSorted(ran[s]) {
				t.Errorf("with %d workers, %d of %d have run, in order: %t", most, len(ran[s]), each, slices.IsSorted(ran[s]))
			}
		}
	}
}

// A dispatcher that always has something waiting keeps no more than that.
func TestDispatcherStaysSmall(t *testing.T) {
	t.Parallel()
	d := &dispatcher{most: 1}
	done := make(chan struct{})
	left := 100_000
	var again func()
	again = func() { // two wait at any time
		if left--; left > 0 {
			d.Schedule(again)
		} else if left == 0 {
			close(done)
		}
	}
	hold := make(chan struct{})
	d.Schedule(func() { <-hold })
	d.Schedule(again)
	d.Schedule(again)
	close(hold)
	<-done
	d.mu.Lock()
	defer d.mu.Unlock()
	if cap(d.waiting) > 16 {
		t.Errorf("there is room for %d", cap(d.waiting))
	}
}
