package persistence

import (
	"fmt"
	"slices"
	"unique"

	"github.com/RoaringBitmap/roaring/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of typesv1.Account that the index needs.
const (
	fieldOrdinal protowire.Number = 1
	fieldAttrs   protowire.Number = 4
	fieldTags    protowire.Number = 5
	fieldDevices protowire.Number = 9
)

// indexLoader makes an index of the records of all accounts, as at start: it gathers the ordinals of each term, and makes a posting of them at the end. To add
// one after the other to the index takes much longer.
type indexLoader struct {
	all, devices []uint32
	terms        map[string]*[]uint32

	// These are of the record that is being read.
	found []*[]uint32
	key   []byte
}

func newIndexLoader() *indexLoader { return &indexLoader{terms: make(map[string]*[]uint32)} }

// find notes that the account of the record has the term of the text.
func (l *indexLoader) find(first byte, text []byte) {
	l.key = append(append(l.key[:0], first), text...)
	ordinals := l.terms[string(l.key)] // does not copy the key
	if ordinals == nil {
		ordinals = new([]uint32)
		l.terms[string(l.key)] = ordinals
	}
	l.found = append(l.found, ordinals)
}

// add adds an account by its record. It reads the few fields that count straight from the bytes: at start it is called a million times.
func (l *indexLoader) add(record []byte) error {
	var ordinal uint32
	slot, devices := 0, false
	l.found = l.found[:0]
	for b := record; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("account record: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case number == fieldDevices:
			devices = true
		case number == fieldOrdinal && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("ordinal of an account record: %w", protowire.ParseError(n))
			}
			ordinal = uint32(v)
		case (number == fieldTags || number == fieldAttrs) && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("text of an account record: %w", protowire.ParseError(n))
			}
			if number == fieldTags {
				l.find(tagMark, v)
			} else {
				if len(v) > 0 {
					l.find(slotMark(slot), v)
				}
				slot++
			}
		}
		n = protowire.ConsumeFieldValue(number, kind, b)
		if n < 0 {
			return fmt.Errorf("account record: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	l.all = append(l.all, ordinal)
	if devices {
		l.devices = append(l.devices, ordinal)
	}
	for _, ordinals := range l.found {
		*ordinals = append(*ordinals, ordinal)
	}
	return nil
}

// index returns the index of what was added.
func (l *indexLoader) index() *index {
	x := newIndex()
	x.all.AddMany(sorted(l.all))
	x.devices.AddMany(sorted(l.devices))
	for text, ordinals := range l.terms {
		p := posting{few: slices.Compact(sorted(*ordinals))} // a record might name a tag twice
		if len(p.few) > fewMost {
			p = posting{many: roaring.BitmapOf(p.few...)}
		} else {
			p.few = append(make([]uint32, 0, len(p.few)), p.few...) // exact, as posting.with has it
		}
		x.postings[unique.Make(text)] = p
	}
	return x
}

func sorted(ordinals []uint32) []uint32 {
	slices.Sort(ordinals)
	return ordinals
}
