package persistence

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
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
	front := crier.Place{Node: "n1", Platform: crier.Android, State: crier.Online}
	back := crier.Place{Node: "n2", Platform: crier.IPhone, State: crier.PushOnline}
	places := []crier.OnlinePlace{{Place: front, Ordinals: []uint32{account("both").Ordinal}}, {Place: back, Ordinals: []uint32{account("leaves").Ordinal, account("both").Ordinal}}}
	if err := r.RecordOnline(t.Context(), testApp, 1, places); err != nil {
		t.Fatal(err)
	}
	if err := r.Acknowledge(t.Context(), testApp, []crier.Ack{{Seq: 1, Ordinal: account("both").Ordinal}}); err != nil {
		t.Fatal(err)
	}
	// Another attempt of the campaign finds only those that have it coming still.
	if err := r.RecordOnline(t.Context(), testApp, 1, []crier.OnlinePlace{{Place: front, Ordinals: []uint32{account("leaves").Ordinal}}}); err != nil {
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
		"both":   {Exists: true, Known: true, Matched: true, Online: true, Connected: []crier.Place{front, back}, Because: []string{`tag "a"`, `tag "b"`}, Delivery: crier.DeliveryAcknowledged, Vendor: crier.NotifyNone},
		"second": {Exists: true, Known: true, Matched: true, Because: []string{`tag "b"`}, Delivery: crier.DeliveryWaiting, Vendor: crier.NotifyDone, Attempts: []crier.Attempt{attempt}},
		"none":   {Exists: true, Known: true, Because: []string{`no tag "a"`, `no tag "b"`}, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
		"leaves": {Exists: true, Known: true, Matched: true, Online: true, Connected: []crier.Place{back}, Changed: true, Because: []string{`tag "b"`}, Delivery: crier.DeliveryWaiting, Vendor: crier.NotifyNone},
		"comes":  {Exists: true, Known: true, Changed: true, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
		"late":   {Exists: true, Known: true, Changed: true, Because: []string{"the account was made after the push"}, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
		"nobody": {Known: true, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone},
	} {
		e := explain(u)
		if e.Exists != want.Exists || e.Known != want.Known || e.Matched != want.Matched || e.Online != want.Online || e.Changed != want.Changed ||
			!slices.Equal(e.Because, want.Because) || !slices.Equal(e.Connected, want.Connected) || e.Delivery != want.Delivery || e.Vendor != want.Vendor || !slices.Equal(e.Attempts, want.Attempts) {
			t.Errorf("%s:\n got %+v\nwant %+v", u, *e, want)
		}
	}
	sweep := func(after time.Duration) {
		t.Helper()
		l.now = l.now.Add(after)
		for range 3 {
			if err := r.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep(time.Hour) // its time is over
	for u, want := range map[crier.UserID]string{"both": crier.DeliveryAcknowledged, "second": crier.DeliveryExpired, "leaves": crier.DeliveryExpired, "none": crier.DeliveryNone} {
		if e := explain(u); e.Delivery != want || !e.Known {
			t.Errorf("after its time: %s: %+v", u, e)
		}
	}
	sweep(23 * time.Hour)
	if e := explain("both"); !e.Known {
		t.Errorf("23 h after its end: %+v", e)
	}
	sweep(time.Hour)
	if e := explain("both"); e.Known || e.Connected != nil {
		t.Errorf("a day after its end: %+v", e)
	}
	if keys, err := r.keysOf(kindPlaces); err != nil || len(keys) != 0 {
		t.Errorf("left: %q, %v", keys, err)
	}
}

// A push that comes to a partition when its time is over has expired for everybody.
func TestExplainTooLate(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	mustChange(t, r, imports("a")...)
	c := campaign(1, time.Minute, crier.Condition{}, l.now)
	l.now = l.now.Add(time.Hour)
	mustStart(t, r, c)
	f, err := r.Funnel(testApp, 1)
	if err != nil || f.Matched != 1 || f.Expired != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	if e, err := r.Explain(c, "a", nil); err != nil || e.Delivery != crier.DeliveryExpired {
		t.Errorf("%+v, %v", e, err)
	}
}

// Attempts of one kind share what they have in common.
func TestAttemptGroups(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_795_000_000_000).UTC()
	var all []crier.Attempt
	for i := range 64 {
		a := crier.Attempt{Ordinal: uint32(100_000 + i/2), Time: now.Add(time.Duration(i%7) * time.Millisecond), Vendor: crier.APNs, Device: "cdef0123", Outcome: "accepted", Tries: 1}
		if i%2 == 1 {
			a.Vendor, a.Outcome, a.Reason = crier.FCM, "unavailable", "UNAVAILABLE"
		}
		all = append(all, a)
	}
	groups := groupAttempts(all)
	if size := len(marshal(&logv1.Attempts{Groups: groups})); len(groups) != 2 || size > len(all)*16 {
		t.Errorf("%d groups, %d bytes for %d attempts", len(groups), size, len(all))
	}
	for i := 0; i < len(all); i += 2 {
		var got []crier.Attempt
		for _, g := range groups {
			got = appendGroup(got, g, all[i].Ordinal)
		}
		slices.SortFunc(got, func(a, b crier.Attempt) int { return strings.Compare(string(a.Vendor), string(b.Vendor)) })
		if !slices.Equal(got, all[i:i+2]) {
			t.Errorf("got %+v, want %+v", got, all[i:i+2])
		}
	}
}
