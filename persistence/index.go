package persistence

import (
	"slices"
	"unique"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
)

// fewMost is how many ordinals a posting holds as a plain slice. Most attribute
// values have one or two accounts in a partition, where a bitmap would cost ten
// times as much.
const fewMost = 32

// term is a tag or an attribute value as the index knows it: "t" and the tag, or
// the digit of the slot and the value. The text is shared by all partitions.
type term = unique.Handle[string]

// tagMark is the first byte of the term of a tag.
const tagMark = 't'

// slotMark is the first byte of the terms of an attribute.
func slotMark(slot int) byte { return '0' + byte(slot) }

func tagTerm(tag string) term { return unique.Make(string(tagMark) + tag) }

func attrTerm(slot int, value string) term { return unique.Make(string(slotMark(slot)) + value) }

// posting is the accounts of one term: a sorted slice while they are few, else
// a bitmap.
type posting struct {
	few  []uint32
	many *roaring.Bitmap
}

func (p posting) with(ordinal uint32) posting {
	if p.many != nil {
		p.many.Add(ordinal)
		return p
	}
	i, found := slices.BinarySearch(p.few, ordinal)
	if found {
		return p
	}
	if len(p.few) == fewMost {
		many := roaring.BitmapOf(p.few...)
		many.Add(ordinal)
		return posting{many: many}
	}
	few := make([]uint32, 0, len(p.few)+1) // exact: postings are many and change rarely
	few = append(append(append(few, p.few[:i]...), ordinal), p.few[i:]...)
	return posting{few: few}
}

func (p posting) without(ordinal uint32) posting {
	if p.many != nil {
		p.many.Remove(ordinal)
		if p.many.GetCardinality() > fewMost/2 {
			return p
		}
		return posting{few: p.many.ToArray()}
	}
	i, found := slices.BinarySearch(p.few, ordinal)
	if !found {
		return p
	}
	few := make([]uint32, 0, len(p.few)-1)
	return posting{few: append(append(few, p.few[:i]...), p.few[i+1:]...)}
}

func (p posting) empty() bool { return len(p.few) == 0 && p.many == nil }

// bitmap returns the posting as a bitmap that must not be changed.
func (p posting) bitmap() *roaring.Bitmap {
	if p.many != nil {
		return p.many
	}
	return roaring.BitmapOf(p.few...)
}

// index is the audience index of one app in one partition: who exists, and who
// has which tag and attribute value. The owner guards it.
type index struct {
	all      *roaring.Bitmap
	devices  *roaring.Bitmap // who has registered one
	postings map[term]posting
}

func newIndex() *index {
	return &index{all: roaring.New(), devices: roaring.New(), postings: make(map[term]posting)}
}

func (x *index) add(t term, ordinal uint32) { x.postings[t] = x.postings[t].with(ordinal) }

func (x *index) remove(t term, ordinal uint32) {
	if p := x.postings[t].without(ordinal); p.empty() {
		delete(x.postings, t)
	} else {
		x.postings[t] = p
	}
}

// change moves an account from old to now; nil stands for an account that does
// not exist.
func (x *index) change(old, now *crier.Account) {
	if old == nil {
		old = &crier.Account{}
	}
	if now == nil {
		x.all.Remove(old.Ordinal)
		now = &crier.Account{Ordinal: old.Ordinal}
	} else {
		x.all.Add(now.Ordinal)
	}
	switch {
	case len(now.Devices) > 0 && len(old.Devices) == 0:
		x.devices.Add(now.Ordinal)
	case len(now.Devices) == 0 && len(old.Devices) > 0:
		x.devices.Remove(now.Ordinal)
	}
	for _, t := range old.Tags {
		if !now.HasTag(t) {
			x.remove(tagTerm(t), now.Ordinal)
		}
	}
	for _, t := range now.Tags {
		if !old.HasTag(t) {
			x.add(tagTerm(t), now.Ordinal)
		}
	}
	for slot, v := range now.Attrs {
		was := old.Attrs[slot]
		if v == was {
			continue
		}
		if was != "" {
			x.remove(attrTerm(slot, was), now.Ordinal)
		}
		if v != "" {
			x.add(attrTerm(slot, v), now.Ordinal)
		}
	}
}

// evaluate returns whom the condition matches. The result belongs to the caller.
func (x *index) evaluate(c *crier.Condition) *roaring.Bitmap {
	var result *roaring.Bitmap // nil: everyone, so far
	shared := true             // result is the index's own
	and := func(b *roaring.Bitmap) {
		if result == nil {
			result = b
		} else {
			result, shared = roaring.And(result, b), false
		}
	}
	tags := func(list []string) (bitmaps []*roaring.Bitmap) {
		for _, t := range list {
			bitmaps = append(bitmaps, x.postings[tagTerm(t)].bitmap())
		}
		return bitmaps
	}
	terms := func(list []crier.AttrTerm) (bitmaps []*roaring.Bitmap) {
		for _, t := range list {
			bitmaps = append(bitmaps, x.postings[attrTerm(t.Slot, t.Value)].bitmap())
		}
		return bitmaps
	}
	// The narrowest first: every further step is bounded by the smaller side.
	for _, b := range append(tags(c.TagsAnd), terms(c.AttrsAnd)...) {
		and(b)
	}
	if len(c.TagsOr) > 0 {
		and(or(tags(c.TagsOr)))
	}
	if len(c.AttrsOr) > 0 {
		and(or(terms(c.AttrsOr)))
	}
	if result == nil {
		result = x.all
	}
	if len(c.TagsNot) > 0 {
		return roaring.AndNot(result, or(tags(c.TagsNot)))
	}
	if shared {
		return result.Clone()
	}
	return result
}

// or returns the union; of one bitmap, itself.
func or(bitmaps []*roaring.Bitmap) *roaring.Bitmap {
	if len(bitmaps) == 1 {
		return bitmaps[0]
	}
	return roaring.FastOr(bitmaps...)
}

// compact shrinks the bitmaps, after many changes.
func (x *index) compact() {
	x.all.RunOptimize()
	x.devices.RunOptimize()
	for _, p := range x.postings {
		if p.many != nil {
			p.many.RunOptimize()
		}
	}
}
