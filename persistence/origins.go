package persistence

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

const (
	// originsMost is how many origins a group knows, one a process that has sent it commands; over it, the one is forgotten that was heard
	// of longest ago. Commands of a forgotten one that came before would be done again, so it is far more than there are nodes.
	originsMost = 256
	// doneMost bounds the commands of an origin that are remembered: it has so many newer ones than its oldest. Over it, that one is
	// not taken any more.
	doneMost = 4096
)

// errEnded is the result of a command that its origin has given up, and nobody knows any more whether it was done before.
var errEnded = crier.Errorf(crier.CodeTimeout, "the call has ended")

// origin is which commands of one process are done.
type origin struct {
	used   uint64   // the entry of the log before its last command
	oldest uint64   // it sends no lower number again
	done   []uint64 // ascending, from oldest on
}

// once does a command that was not done before. One that was done is done now too, without an error; one that was refused changed nothing,
// and is tried again. The caller holds mu.
func (b *base) once(id crier.CommandID, do func() error) error {
	if id.Origin == 0 {
		return do()
	}
	o := b.origin(id.Origin)
	o.forget(id.Oldest)
	b.heard = append(b.heard, id.Origin)
	at, done := slices.BinarySearch(o.done, id.Number)
	switch {
	case id.Number < o.oldest:
		return errEnded
	case done:
		return nil
	}
	if err := do(); err != nil {
		return err
	}
	o.done = slices.Insert(o.done, at, id.Number)
	if len(o.done) > doneMost {
		o.forget(o.done[0] + 1)
	}
	return nil
}

// forget forgets the commands under oldest.
func (o *origin) forget(oldest uint64) {
	if oldest <= o.oldest {
		return
	}
	o.oldest = oldest
	n, _ := slices.BinarySearch(o.done, oldest)
	o.done = slices.Delete(o.done, 0, n)
}

// origin returns what is known of an origin, and makes room for a new one.
func (b *base) origin(id uint64) *origin {
	o := b.origins[id]
	if o == nil {
		if len(b.origins) >= originsMost {
			b.forgetOrigin()
		}
		o = new(origin)
		b.origins[id] = o
	}
	o.used = b.meta.GetIndex()
	return o
}

// forgetOrigin forgets the origin that was heard of longest ago.
func (b *base) forgetOrigin() {
	var last uint64
	for id, o := range b.origins {
		if l := b.origins[last]; l == nil || cmp.Or(cmp.Compare(o.used, l.used), cmp.Compare(id, last)) < 0 {
			last = id
		}
	}
	delete(b.origins, last)
	b.delete(b.keys.origin(last))
}

// writeOrigins writes those that the command was of.
func (b *base) writeOrigins() {
	slices.Sort(b.heard)
	for _, id := range slices.Compact(b.heard) {
		o := b.origins[id]
		if o == nil {
			continue // forgotten for another of the same command
		}
		p := &logv1.Origin{Used: o.used, Oldest: o.oldest, Done: slices.Clone(o.done)}
		for i := range p.GetDone() {
			p.Done[i] -= o.oldest
		}
		b.putProto(b.keys.origin(id), p)
	}
	b.heard = b.heard[:0]
}

// loadOrigins reads all from disk. The caller holds mu.
func (b *base) loadOrigins(txn *badger.Txn) error {
	b.origins = make(map[uint64]*origin)
	return scan(txn, b.keys.kind(kindOrigin), func(k, v []byte) error {
		var p logv1.Origin
		if err := proto.Unmarshal(v, &p); err != nil {
			return err
		}
		o := &origin{used: p.GetUsed(), oldest: p.GetOldest(), done: p.GetDone()}
		for i := range o.done {
			o.done[i] += o.oldest
		}
		b.origins[binary.BigEndian.Uint64(k[offApp:])] = o
		return nil
	})
}
