package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
)

// A bitmap of accounts that changes is stored in chunks of 8192 ordinals, so that a change of one writes little: a chunk is 1 KB at most. A
// returning account acknowledges hundreds of campaigns in one command, and all that a command writes must fit into one transaction.
const (
	chunkOrdinals = 1 << 13
	chunkWords    = chunkOrdinals / 64
)

// Bits are stored as a mark and what is smaller.
const (
	bitsSparse = 0 // then: a roaring bitmap
	bitsDense  = 1 // then: words, little endian, up to the last that has a bit
)

// encodeBits returns bits as they are stored, nil if there are none. The same bits are always the same bytes.
func encodeBits(words []uint64) []byte {
	for len(words) > 0 && words[len(words)-1] == 0 {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return nil
	}
	if few(words) {
		sparse := roaring.FromDense(words, false)
		sparse.RunOptimize()
		if size := sparse.GetSerializedSizeInBytes(); size < uint64(len(words))*8 {
			v := bytes.NewBuffer(make([]byte, 0, 1+size))
			v.WriteByte(bitsSparse)
			if _, err := sparse.WriteTo(v); err != nil {
				panic("persistence: " + err.Error()) // writes to memory only
			}
			return v.Bytes()
		}
	}
	v := append(make([]byte, 0, 1+len(words)*8), bitsDense)
	for _, w := range words {
		v = binary.LittleEndian.AppendUint64(v, w)
	}
	return v
}

// few reports whether a roaring bitmap may be smaller than the words: it takes 2 bytes for each bit, or 4 for each run of bits.
func few(words []uint64) bool {
	bitsSet, runs, last := 0, 0, uint64(0)
	for _, w := range words {
		bitsSet += bits.OnesCount64(w)
		runs += bits.OnesCount64(w &^ (w<<1 | last>>63)) // bits that begin a run
		last = w
	}
	return min(2*bitsSet, 4*runs) < len(words)*8
}

// errDamaged is what a record is that says nothing about bits.
var errDamaged = errors.New("bits are damaged")

// decodeBits returns what encodeBits was given, an empty bitmap for nothing.
func decodeBits(v []byte) (*roaring.Bitmap, error) {
	switch {
	case len(v) == 0:
		return roaring.New(), nil
	case v[0] == bitsSparse:
		return readBitmap(v[1:])
	case len(v)%8 == 1 && v[0] == bitsDense:
		words := make([]uint64, len(v)/8)
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(v[1+8*i:])
		}
		return roaring.FromDense(words, false), nil
	}
	return nil, errDamaged
}

// readBitmap returns a bitmap from roaring's bytes.
func readBitmap(v []byte) (*roaring.Bitmap, error) {
	b := roaring.New()
	if err := b.UnmarshalBinary(v); err != nil {
		return nil, err
	}
	return b, b.Validate() // roaring believes what it reads, and panics later
}

// wordsOf returns a bitmap as words, in the memory of words where that suffices.
func wordsOf(b *roaring.Bitmap, words []uint64) []uint64 {
	words = slices.Grow(words[:0], int(b.DenseSize()))[:b.DenseSize()]
	clear(words)
	b.WriteDenseTo(words)
	return words
}

// chunkOf returns the chunk of an ordinal.
func chunkOf(ordinal uint32) uint32 { return ordinal / chunkOrdinals }

// encodeChunk returns one chunk of a bitmap, nil if it is empty.
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
	return encodeBits(words[:])
}

// decodeChunk returns what encodeChunk was given of the chunk.
func decodeChunk(v []byte, chunk uint32) (*roaring.Bitmap, error) {
	part, err := decodeBits(v)
	if err == nil && !part.IsEmpty() && part.Maximum() >= chunkOrdinals {
		err = errDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("chunk %d: %w", chunk, err)
	}
	return roaring.AddOffset64(part, int64(chunk)*chunkOrdinals), nil
}

// putChunks stores a bitmap of a new campaign, given as words.
func (m *Machine) putChunks(kind byte, app crier.AppID, seq uint64, words []uint64) {
	chunk := uint32(0)
	for part := range slices.Chunk(words, chunkWords) {
		if v := encodeBits(part); v != nil {
			m.put(m.keys.chunk(kind, app, seq, chunk), v)
		}
		chunk++
	}
}

// writeChunk stores one chunk of a campaign's bitmap, and reports whether it is empty. An empty one of kindTodo is no record; of kindRemaining, one of its own.
func (m *Machine) writeChunk(kind byte, app crier.AppID, x *mail, chunk uint32) (empty bool) {
	of, key := x.remaining, m.keys.chunk(kind, app, x.seq, chunk)
	if kind == kindTodo {
		of = x.todo
	}
	v := encodeChunk(of, chunk)
	if v == nil && kind == kindTodo {
		m.delete(key)
	} else {
		m.put(key, v)
	}
	return v == nil
}
