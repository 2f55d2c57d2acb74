package persistence

import (
	"fmt"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// The parts of kindMatched. The numbers 0 and 2 to 254 were used once.
const (
	partWho     = 1   // logv1.Matched, as long as the campaign is remembered
	partExpired = 255 // who had not acknowledged when the message's time was over, as bits
)

// matched is who matched a campaign in this partition, and under which term.
type matched struct {
	accounts *roaring.Bitmap
	terms    [][]byte
}

// putExpired stores who had not acknowledged in time.
func (m *Machine) putExpired(app crier.AppID, seq uint64, who *roaring.Bitmap) {
	m.words[0] = wordsOf(who, m.words[0])
	m.put(m.keys.matched(app, seq, partExpired), encodeBits(m.words[0]))
}

// hasExpired reports whether an account had not acknowledged in time.
func (m *Machine) hasExpired(app crier.AppID, seq uint64, ordinal uint32) (bool, error) {
	key := m.keys.matched(app, seq, partExpired)
	v, err := m.get(key)
	if err != nil {
		return false, err
	}
	who, err := decodeBits(v)
	if err != nil {
		return false, m.damaged(key, err)
	}
	return who.Contains(ordinal), nil
}

// putWho stores who matched, who is in m.words[0], which it uses up.
func (m *Machine) putWho(state *appState, c *crier.Campaign) {
	left := m.words[0]
	p := &logv1.Matched{Accounts: encodeBits(left)}
	if terms := orTerms(&c.Condition); len(terms) > 0 {
		for _, t := range terms[:len(terms)-1] { // each account under the first that it has: all that all have would be twice as much
			m.words[1] = wordsOf(state.index.postings[t].bitmap(), m.words[1])
			m.words[2] = gather(m.words[1], left, m.words[2])
			p.Terms = append(p.Terms, encodeBits(m.words[2]))
			for i, had := range m.words[1][:min(len(m.words[1]), len(left))] {
				left[i] &^= had
			}
		}
	}
	m.putProto(m.keys.matched(c.App, c.Seq, partWho), p)
}

// orTerms are the terms of which an account needs only one: which it had can't be told from the condition. One
// alone is no choice.
func orTerms(c *crier.Condition) (terms []term) {
	if len(c.TagsOr) > 1 {
		for _, t := range c.TagsOr {
			terms = append(terms, tagTerm(t))
		}
	}
	if len(c.AttrsOr) > 1 {
		for _, t := range c.AttrsOr {
			terms = append(terms, attrTerm(t.Slot, t.Value))
		}
	}
	return terms
}

// gather returns the bits of words that stand where at has bits, one next to the other, in the memory of to where that suffices.
func gather(words, at, to []uint64) []uint64 {
	to = to[:0]
	var out uint64 // what has been gathered since the last whole word
	n := 0         // how many bits that is
	for i, mask := range at {
		var word, some uint64
		if i < len(words) {
			word = words[i]
		}
		k := 0
		for mask != 0 { // a run of ones at a time
			from := bits.TrailingZeros64(mask)
			run := bits.TrailingZeros64(^(mask >> from))
			ones := uint64(1)<<run - 1
			some |= word >> from & ones << k
			mask &^= ones << from
			k += run
		}
		out |= some << n
		if n += k; n >= 64 {
			to = append(to, out)
			n -= 64
			out = some >> (k - n)
		}
	}
	if n > 0 {
		to = append(to, out)
	}
	return to
}

// readWho reads what putWho stored, nil where there is nothing.
func (m *Machine) readWho(app crier.AppID, seq uint64) (*matched, error) {
	key := m.keys.matched(app, seq, partWho)
	v, err := m.get(key)
	if err != nil || v == nil {
		return nil, err
	}
	p := new(logv1.Matched)
	if err := m.decode(key, v, p); err != nil {
		return nil, err
	}
	accounts, err := decodeBits(p.GetAccounts())
	if err != nil {
		return nil, m.damaged(key, err)
	}
	return &matched{accounts: accounts, terms: p.GetTerms()}, nil
}

// term returns which of orTerms was the first that an account had. It must have matched.
func (w *matched) term(ordinal uint32) (int, error) {
	at := uint32(w.accounts.Rank(ordinal)) - 1
	for i, v := range w.terms {
		had, err := decodeBits(v)
		switch {
		case err != nil:
			return 0, fmt.Errorf("term %d: %w", i, err)
		case had.Contains(at):
			return i, nil
		}
		at -= uint32(had.Rank(at))
	}
	return len(w.terms), nil
}
