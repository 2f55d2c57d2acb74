package persistence

import (
	"slices"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

// What a push was for an account is told as of its place in the log, whatever changes after.
func TestExplain(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	tag := func(u crier.UserID, tags ...string) crier.Change {
		return crier.Change{Op: crier.OpAddTags, User: u, Tags: tags}
	}
	mustChange(t, r, append(imports("both", "second", "none", "leaves", "comes"),
		tag("both", "a", "b"), tag("second", "b"), tag("leaves", "b"), crier.Change{
			Op: crier.OpRegisterDevice, User: "second", Device: &crier.Device{Vendor: crier.APNs, Token: "0123456789abcdef0123"},
		})...)
	l.now = l.now.Add(time.Second)
	c := campaign(1, time.Hour, crier.Condition{TagsOr: []string{"a", "b"}}, l.now)
	mustStart(t, r, c)
	account := func(u crier.UserID) *crier.Account {
		t.Helper()
		accounts, err := r.Accounts(testApp, []crier.UserID{u})
		if err != nil || accounts[0] == nil {
			t.Fatalf("%s: %v", u, err)
		}
		return accounts[0]
	}
	if err := r.RecordOnline(t.Context(), testApp, 1, []uint32{account("both").Ordinal}); err != nil {
		t.Fatal(err)
	}
	if err := r.Acknowledge(t.Context(), testApp, []crier.Ack{{Seq: 1, Ordinal: account("both").Ordinal}}); err != nil {
		t.Fatal(err)
	}
	l.now = l.now.Add(time.Second)
	mustChange(t, r, append(imports("late"), crier.Change{Op: crier.OpRemoveAllTags, User: "leaves"}, tag("comes", "a"), tag("late", "a"))...)
	attempt := crier.Attempt{Ordinal: account("second").Ordinal, Time: l.now, Vendor: crier.APNs, Device: "cdef0123", Outcome: "accepted", Tries: 1}
	progress := &crier.VendorProgress{Seq: 1, Done: []crier.VendorResult{{Ordinal: attempt.Ordinal}}, Attempts: []crier.Attempt{attempt}}
	explain := func(u crier.UserID) *crier.Explanation {
		t.Helper()
		e, err := r.Explain(c, u, nil)
		if err != nil || e.User != u || e.Task != c.Task {
			t.Fatalf("%+v, %v", e, err)
		}
		return e
	}
	if e := explain("second"); e.Vendor != crier.NotifyToDo {
		t.Errorf("before the vendor: %+v", e)
	}
	if err := r.VendorProgress(t.Context(), testApp, progress); err != nil {
		t.Fatal(err)
	}
	for u, want := range map[crier.UserID]crier.Explanation{
		"both":   {Exists: true, Known: true, Matched: true, Online: true, Because: []string{`tag "a"`, `tag "b"`}, Delivery: crier.DeliveryAcknowledged, Vendor: crier.NotifyNone},
		"second": {Exists: true, Known: true, Matched: true, Because: []string{`tag "b"`}, Delivery: crier.DeliveryWaiting, Vendor: crier.NotifyDone, Attempts: []crier.Attempt{attempt}},
		"none":   {Exists: true, Known: true, Because: []string{`no tag "a"`, `no tag "b"`}, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
		"leaves": {Exists: true, Known: true, Matched: true, Changed: true, Because: []string{`tag "b"`}, Delivery: crier.DeliveryWaiting, Vendor: crier.NotifyNone},
		"comes":  {Exists: true, Known: true, Changed: true, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
		"late":   {Exists: true, Known: true, Changed: true, Because: []string{"the account was made after the push"}, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
		"nobody": {Known: true, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
	} {
		e := explain(u)
		if e.Exists != want.Exists || e.Known != want.Known || e.Matched != want.Matched || e.Online != want.Online || e.Changed != want.Changed ||
			!slices.Equal(e.Because, want.Because) || e.Delivery != want.Delivery || e.Vendor != want.Vendor || !slices.Equal(e.Attempts, want.Attempts) {
			t.Errorf("%s:\n got %+v\nwant %+v", u, *e, want)
		}
	}
	l.now = l.now.Add(25 * time.Hour)
	for range 3 {
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if e := explain("both"); e.Known {
		t.Errorf("a day later: %+v", e)
	}
}
