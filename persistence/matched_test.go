package persistence

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
)

// gather takes the bits that stand where at has bits, whatever the words are.
func TestGather(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 3))
	word := func() uint64 {
		switch random.IntN(6) {
		case 0:
			return 0
		case 1:
			return ^uint64(0)
		case 2:
			return 1 << random.IntN(64)
		case 3:
			return ^(uint64(1) << random.IntN(64))
		}
		return random.Uint64()
	}
	var got []uint64
	for range 2000 {
		words, at := make([]uint64, random.IntN(8)), make([]uint64, random.IntN(8))
		for i := range words {
			words[i] = word()
		}
		for i := range at {
			at[i] = word()
		}
		var want []uint64
		n := 0
		for i, it := 0, roaring.FromDense(slices.Clone(at), true).Iterator(); it.HasNext(); i++ {
			if i%64 == 0 {
				want = append(want, 0)
			}
			if o := it.Next(); int(o/64) < len(words) && words[o/64]>>(o%64)&1 == 1 {
				want[i/64] |= 1 << (i % 64)
				n++
			}
		}
		if got = gather(words, at, got); !slices.Equal(got, want) {
			t.Fatalf("%x where %x: got %x, want %x (%d bits)", words, at, got, want, n)
		}
	}
}

// Under which term an account matched is the first of the condition that it had.
func TestTermThatMatched(t *testing.T) {
	t.Parallel()
	const accounts = 3000
	_, r, l := openReplica(t)
	random := rand.New(rand.NewPCG(4, 4))
	names := []string{"half", "third", "few", "one", "nobody", "all"}
	has := make([][]string, accounts)
	for from := 0; from < accounts; from += 500 {
		var changes []crier.Change
		for i := from; i < from+500; i++ {
			u := crier.UserID(fmt.Sprintf("u%05d", i))
			for tag, yes := range map[string]bool{
				"half": random.IntN(2) == 0, "third": random.IntN(3) == 0, "few": random.IntN(200) == 0, "one": i == 1777, "all": true, "but few": random.IntN(50) > 0,
			} {
				if yes {
					has[i] = append(has[i], tag)
				}
			}
			changes = append(changes, crier.Change{Op: crier.OpImport, User: u}, crier.Change{Op: crier.OpAddTags, User: u, Tags: has[i]})
		}
		mustChange(t, r, changes...)
	}
	var users []crier.UserID
	for i := range accounts {
		users = append(users, crier.UserID(fmt.Sprintf("u%05d", i)))
	}
	accountsOf, err := r.Accounts(testApp, users)
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(30) {
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		c := crier.Condition{TagsOr: slices.Clone(names[:1+random.IntN(len(names))])}
		if seq%2 == 0 {
			c.TagsAnd = []string{"but few"}
		}
		mustStart(t, r, campaign(seq+1, time.Hour, c, l.now))
		r.m.mu.Lock()
		who, err := r.m.readWho(testApp, seq+1)
		r.m.mu.Unlock()
		if err != nil || who == nil {
			t.Fatalf("%+v, %v", who, err)
		}
		for i, tags := range has {
			a := accountsOf[i]
			want := slices.IndexFunc(c.TagsOr, func(tag string) bool { return slices.Contains(tags, tag) })
			if len(c.TagsAnd) > 0 && !slices.Contains(tags, "but few") {
				want = -1
			}
			if got := who.accounts.Contains(a.Ordinal); got != (want >= 0) {
				t.Fatalf("%+v: account %d with %q matched: %v", c, i, tags, got)
			}
			if want < 0 {
				continue
			}
			if got, err := who.term(a.Ordinal); got != want || err != nil {
				t.Fatalf("%+v: account %d with %q matched under %d, not %d, %v", c, i, tags, got, want, err)
			}
		}
	}
}

// Who has a message coming is the same after a start: where nobody has acknowledged it, where some have, and where all have; and so it is of a
// campaign that was stored as it once was, all in chunks.
func TestWhoHasItComingAfterAStart(t *testing.T) {
	t.Parallel()
	const accounts = 3*chunkOrdinals + 100
	s, r, l := openReplica(t)
	for from := 0; from < accounts; from += 500 {
		var changes []crier.Change
		for i := from; i < min(from+500, accounts); i++ {
			changes = append(changes, crier.Change{Op: crier.OpImport, User: crier.UserID(fmt.Sprintf("u%05d", i))})
		}
		mustChange(t, r, changes...)
	}
	mustStart(t, r, campaign(1, time.Hour, crier.Condition{}, l.now))
	mustStart(t, r, campaign(2, time.Hour, crier.Condition{}, l.now))
	r.m.mu.Lock()
	_, old := r.m.app(testApp).find(2)
	r.m.put(r.m.keys.seq(kindExpires, testApp, 2), encodeUint64(uint64(old.expires)))
	r.m.delete(r.m.keys.matched(testApp, 2, partWho))
	r.m.putChunks(kindRemaining, testApp, 2, wordsOf(old.remaining, nil))
	r.m.touch()
	r.m.mu.Unlock()
	again := func() []*mail {
		t.Helper()
		if err := s.machines[0].waitWritten(l.index); err != nil {
			t.Fatal(err)
		}
		m := newMachine(s, 0)
		if err := m.load(); err != nil {
			t.Fatal(err)
		}
		return m.app(testApp).mail
	}
	check := func(what string) {
		t.Helper()
		loaded := again()
		for i, x := range r.m.app(testApp).mail {
			if !x.remaining.Equals(loaded[i].remaining) {
				t.Fatalf("%s: campaign %d: %d have it coming, after a start %d", what, x.seq, x.remaining.GetCardinality(), loaded[i].remaining.GetCardinality())
			}
		}
	}
	check("at first")
	for _, seq := range []uint64{1, 2} {
		var acks []crier.Ack
		for ordinal := range uint32(chunkOrdinals + 1) { // the first chunk, and one of the second
			acks = append(acks, crier.Ack{Seq: seq, Ordinal: ordinal})
		}
		if err := r.Acknowledge(t.Context(), testApp, acks); err != nil {
			t.Fatal(err)
		}
	}
	if waiting := r.m.app(testApp).mail[0].remaining.GetCardinality(); waiting != accounts-chunkOrdinals-1 {
		t.Fatalf("%d are waiting", waiting)
	}
	check("when a chunk is empty")
	mustChange(t, r, crier.Change{Op: crier.OpDelete, User: "u00500"}, crier.Change{Op: crier.OpDelete, User: "u20000"})
	check("after a deletion")
}

// Where it is not stored who matched, the partition does not load, rather than take those who have the message coming for done.
func TestLoadWithoutWhoMatched(t *testing.T) {
	t.Parallel()
	s, r, l := openReplica(t)
	mustChange(t, r, imports("a")...)
	mustStart(t, r, campaign(1, time.Hour, crier.Condition{}, l.now))
	r.m.mu.Lock()
	r.m.delete(r.m.keys.matched(testApp, 1, partWho))
	r.m.touch()
	r.m.mu.Unlock()
	if err := s.machines[0].waitWritten(l.index); err != nil {
		t.Fatal(err)
	}
	if err := newMachine(s, 0).load(); err == nil {
		t.Error("it loads")
	}
	if e, err := r.Explain(campaign(1, time.Hour, crier.Condition{}, l.now), "a", nil); err != nil || e.Known {
		t.Errorf("%+v, %v", e, err)
	}
}
