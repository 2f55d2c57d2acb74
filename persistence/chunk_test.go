package persistence

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
)

func TestChunksRoundTrip(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	b := roaring.New()
	b.AddRange(0, 20_000)             // whole chunks
	b.Add(^uint32(0))                 // the last
	b.AddInt(5 * chunkOrdinals)       // a lone one
	for range 3 * chunkOrdinals / 2 { // dense and irregular
		b.Add(uint32(10*chunkOrdinals + random.IntN(3*chunkOrdinals)))
	}
	again, most := roaring.New(), 0
	for _, chunk := range []uint32{0, 1, 2, 5, 10, 11, 12, chunkOf(^uint32(0))} {
		v := encodeChunk(b, chunk)
		part, err := decodeChunk(v, chunk)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(v, encodeChunk(part, chunk)) {
			t.Errorf("chunk %d: the same bits are other bytes", chunk)
		}
		most = max(most, len(v))
		again.Or(part)
	}
	if !again.Equals(b) {
		t.Error("the chunks make another bitmap")
	}
	if most > 1+chunkWords*8 {
		t.Errorf("a chunk of %d bytes", most)
	}
	if encodeChunk(b, 7) != nil {
		t.Error("an empty chunk has bytes")
	}
}

// What a new campaign stores at once is what its chunks are stored as one by one, and no larger than the words or roaring's own bytes.
func TestBitsRoundTrip(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(2, 2))
	of := func(share int) *roaring.Bitmap { // of a thousand
		b := roaring.New()
		for i := range uint32(100_000) {
			if random.IntN(1000) < share {
				b.Add(i)
			}
		}
		return b
	}
	var words []uint64
	for name, b := range map[string]*roaring.Bitmap{
		"none": roaring.New(), "one": roaring.BitmapOf(64), "few": of(1), "many": of(300), "most": of(985), "all": of(1000), "a part": roaring.BitmapOf(0, 1, 2, 63),
	} {
		words = wordsOf(b, words)
		v := encodeBits(words)
		if b.IsEmpty() {
			if v != nil {
				t.Errorf("%s: %d bytes", name, len(v))
			}
			continue
		}
		again, err := decodeBits(v)
		if err != nil || !again.Equals(b) {
			t.Errorf("%s: other bits, or %v", name, err)
		}
		optimal := b.Clone()
		optimal.RunOptimize()
		if most := 1 + min(len(words)*8, int(optimal.GetSerializedSizeInBytes())); len(v) > most {
			t.Errorf("%s: %d bytes, where %d suffice", name, len(v), most)
		}
		for from := 0; from < len(words); from += chunkWords {
			if part := words[from:min(from+chunkWords, len(words))]; !bytes.Equal(encodeBits(part), encodeChunk(b, uint32(from/chunkWords))) {
				t.Errorf("%s: chunk %d is other bytes", name, from/chunkWords)
			}
		}
	}
	for _, damaged := range [][]byte{{7}, {bitsDense, 1, 2}, {bitsSparse}} {
		if _, err := decodeBits(damaged); err == nil {
			t.Errorf("%v is taken", damaged)
		}
	}
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add(encodeChunk(roaring.BitmapOf(1, 2, 8191), 0))
	f.Add(append([]byte{bitsDense}, make([]byte, chunkWords*8)...))
	f.Add([]byte{bitsSparse})
	f.Fuzz(func(t *testing.T, data []byte) {
		if part, err := decodeChunk(data, 3); err == nil {
			_ = part.GetCardinality()
		}
	})
}

// An account comes back after a week in which every push was kept, acknowledges them all at once, others are deleted, and everything ends at
// one time: each is a command whose writes must fit into a transaction. With chunks of 65536 ordinals they did not, and the process
// would have ended at every start.
func TestManyKeptCampaignsFitIntoTransactions(t *testing.T) {
	t.Parallel()
	const accounts, campaigns, deleted = 20_000, 1000, 300
	s, r, l := openReplica(t)
	random := rand.New(rand.NewPCG(1, 1))
	for from := 0; from < accounts; from += 500 {
		var changes []crier.Change
		for i := from; i < from+500; i++ {
			u := crier.UserID(fmt.Sprintf("u%05d", i))
			changes = append(changes, crier.Change{Op: crier.OpImport, User: u})
			if random.IntN(2) == 0 || i == 0 {
				changes = append(changes, crier.Change{Op: crier.OpAddTags, User: u, Tags: []string{"half"}})
			}
		}
		mustChange(t, r, changes...)
	}
	acks := make([]crier.Ack, campaigns)
	for i := range acks {
		mustStart(t, r, campaign(uint64(i+1), time.Hour, crier.Condition{TagsOr: []string{"half"}}, l.now))
		acks[i] = crier.Ack{Seq: uint64(i + 1)}
	}
	if got := len(mailbox(t, r, "u00000", 0)); got != 100 {
		t.Fatalf("a page of the mailbox has %d", got)
	}
	settle := func(what string) {
		t.Helper()
		if err := s.machines[0].waitStored(l.index); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	settle("kept")
	if err := r.Acknowledge(t.Context(), testApp, acks); err != nil {
		t.Fatal(err)
	}
	settle("acknowledged")
	var changes []crier.Change
	for i := range deleted {
		changes = append(changes, crier.Change{Op: crier.OpDelete, User: crier.UserID(fmt.Sprintf("u%05d", 1+i*60))})
	}
	mustChange(t, r, changes...)
	settle("deleted")
	again := newMachine(s, 0)
	if err := again.load(); err != nil {
		t.Fatal(err)
	}
	for i, x := range s.machines[0].app(testApp).mail {
		if !x.remaining.Equals(again.app(testApp).mail[i].remaining) {
			t.Fatalf("campaign %d: %d have it coming, after a start %d", x.seq, x.remaining.GetCardinality(), again.app(testApp).mail[i].remaining.GetCardinality())
		}
	}
	l.now = l.now.Add(48 * time.Hour)
	for range 100 {
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	settle("swept")
	if left := len(s.machines[0].app(testApp).mail); left != 0 {
		t.Errorf("%d campaigns are still kept", left)
	}
}
