package persistence

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
)

// What is loaded at once is what comes of adding one account after the other: rare and frequent terms, and accounts in any order.
func TestLoadedIndexIsTheGrownOne(t *testing.T) {
	t.Parallel()
	const accounts = 20_000
	r := rand.New(rand.NewPCG(1, 2))
	grown, loader := newIndex(), newIndexLoader()
	for _, ordinal := range r.Perm(accounts) {
		a := &crier.Account{Ordinal: uint32(ordinal), Tags: []string{"all", fmt.Sprint("rare", r.IntN(accounts))}}
		a.Attrs[3], a.Attrs[9] = fmt.Sprint("v", r.IntN(1000)), []string{"", "x"}[r.IntN(2)]
		if r.IntN(3) == 0 {
			a.Tags = append(a.Tags, "third")
		}
		if r.IntN(5) == 0 {
			a.Devices = []crier.Device{{}}
		}
		grown.change(nil, a)
		if err := loader.add(marshal(wire.FromAccount(a))); err != nil {
			t.Fatal(err)
		}
	}
	loaded := loader.index()
	if !loaded.all.Equals(grown.all) || !loaded.devices.Equals(grown.devices) || len(loaded.postings) != len(grown.postings) {
		t.Fatalf("%v and %v accounts, %v and %v with a device, %d and %d terms", loaded.all, grown.all, loaded.devices, grown.devices, len(loaded.postings), len(grown.postings))
	}
	many := 0
	for term, want := range grown.postings {
		got := loaded.postings[term]
		if !got.bitmap().Equals(want.bitmap()) || (got.many == nil) != (want.many == nil) || len(got.few) != cap(got.few) {
			t.Errorf("%q: %v, want %v", term.Value(), got, want)
		}
		if got.many != nil {
			many++
		}
	}
	if many < 3 || many == len(grown.postings) {
		t.Errorf("%d of %d terms are frequent", many, len(grown.postings))
	}
}
