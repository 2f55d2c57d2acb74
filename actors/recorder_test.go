package actors

import (
	"testing"
	"time"

	"github.com/crier-im/crier"
)

// What waits is bounded, and what is over the bound is counted, also where it comes back.
func TestRecorderIsBounded(t *testing.T) {
	t.Parallel()
	var woken []time.Duration
	r := &recorder{wake: func(after time.Duration) { woken = append(woken, after) }}
	one, two := campaignKey{1, 1}, campaignKey{1, 2}
	for i := range recordsMost + 5 {
		r.add(one, sending{ordinal: uint32(i), login: new(crier.Login)})
	}
	if len(woken) != 2 || woken[0] != recordEvery || woken[1] != 0 {
		t.Errorf("woken %v", woken)
	}
	total := func(taken map[campaignKey]*sendings) (records int, missed uint64) {
		for _, s := range toRecord(taken) {
			records, missed = records+s.Count, missed+s.Missed
		}
		return records, missed
	}
	first := r.take()
	if n, missed := total(first); n != recordsMost || missed != 5 {
		t.Errorf("%d records, %d missed", n, missed)
	}
	if again := r.take(); len(again) != 0 {
		t.Errorf("taken twice: %d", len(again))
	}
	for range 3 {
		r.add(two, sending{login: new(crier.Login)})
	}
	r.back(first)
	if n, missed := total(r.take()); n != recordsMost || missed != 8 {
		t.Errorf("came back: %d records, %d missed", n, missed)
	}
}
