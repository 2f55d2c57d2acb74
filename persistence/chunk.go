package persistence

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
)

// A bitmap of accounts is stored in chunks of 8192 ordinals, so that a change of one writes little: a chunk is 1 KB at most. A
// returning account acknowledges hundreds of campaigns in one command, and all that a command writes must fit into one transaction.
const (
	chunkOrdinals = 1 << 13
	chunkWords    = chunkOrdinals / 64
	chunkSparse   = 0 // then: a roaring bitmap, from the chunk's first ordinal
	chunkDense    = 1 // then: chunkWords words, little endian
)

// chunkOf returns the chunk of an ordinal.
func chunkOf(ordinal uint32) uint32 { return ordinal / chunkOrdinals }

// chunksOf calls visit with each chunk in which the bitmap has something.
func chunksOf(b *roaring.Bitmap, visit func(chunk uint32)) {
	for it := b.Iterator(); it.HasNext(); {
		chunk := chunkOf(it.Next())
		visit(chunk)
		if chunk == chunkOf(^uint32(0)) {
			return
		}
		it.AdvanceIfNeeded((chunk + 1) * chunkOrdinals)
	}
}

// encodeChunk returns one chunk of a bitmap, nil if it is empty. The same bits are always the same bytes.
func encodeChunk(of *roaring.Bitmap, chunk uint32) []byte {
	first := uint64(chunk) * chunkOrdinals
	part := roaring.New()
	part.AddRange(first, first+chunkOrdinals)
	part.And(of)
	if part.IsEmpty() {
		return nil
	}
	var words [chunkWords]uint64
	roaring.AddOffset64(part, -int64(first)).WriteDenseTo(words[:])
	if few(&words) {
		sparse := roaring.FromDense(words[:], true)
		sparse.RunOptimize()
		if sparse.GetSerializedSizeInBytes() < chunkWords*8 {
			v, err := sparse.ToBytes()
			if err != nil {
				panic("persistence: " + err.Error()) // writes to memory only
			}
			return append([]byte{chunkSparse}, v...)
		}
	}
	v := append(make([]byte, 0, 1+chunkWords*8), chunkDense)
	for _, w := range words {
		v = binary.LittleEndian.AppendUint64(v, w)
	}
	return v
}

// few reports whether a roaring bitmap may be smaller than the words: it takes 2 bytes for each bit, or 4 for each run of bits.
func few(words *[chunkWords]uint64) bool {
	bitsSet, runs, last := 0, 0, uint64(0)
	for _, w := range words {
		bitsSet += bits.OnesCount64(w)
		runs += bits.OnesCount64(w &^ (w<<1 | last>>63)) // bits that begin a run
		last = w
	}
	return 2*bitsSet < chunkWords*8 || 4*runs < chunkWords*8
}

// decodeChunk returns what encodeChunk was given of the chunk.
func decodeChunk(v []byte, chunk uint32) (*roaring.Bitmap, error) {
	part := roaring.New()
	switch {
	case len(v) > 0 && v[0] == chunkSparse:
		err := part.UnmarshalBinary(v[1:])
		if err == nil {
			err = part.Validate() // roaring believes what it reads, and panics later
		}
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", chunk, err)
		}
	case len(v) == 1+chunkWords*8 && v[0] == chunkDense:
		words := make([]uint64, chunkWords)
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(v[1+8*i:])
		}
		part = roaring.FromDense(words, true)
	default:
		return nil, fmt.Errorf("chunk %d is damaged", chunk)
	}
	return roaring.AddOffset64(part, int64(chunk)*chunkOrdinals), nil
}

// putChunk stores one chunk of a bitmap under a key; an empty one is no record.
func (m *Machine) putChunk(key []byte, of *roaring.Bitmap, chunk uint32) (empty bool) {
	v := encodeChunk(of, chunk)
	if v == nil {
		m.delete(key)
		return true
	}
	m.put(key, v)
	return false
}

// writeChunk stores one chunk of a campaign's bitmap, and reports whether it is empty.
func (m *Machine) writeChunk(kind byte, app crier.AppID, x *mail, chunk uint32) (empty bool) {
	of := x.remaining
	if kind == kindTodo {
		of = x.todo
	}
	return m.putChunk(m.keys.chunk(kind, app, x.seq, chunk), of, chunk)
}
