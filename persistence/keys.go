package persistence

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/crier-im/crier"
)

// Kinds of keys of the state database: the group (two bytes), a kind, and for
// most the app (four bytes) and the rest. DESIGN.md explains each.
const (
	kindMeta      = 'm' // logv1.Meta
	kindRestoring = '!' // a snapshot is being installed: the state is not whole
	kindDropping  = '-' // the group is being deleted; the next start ends it
	kindOrdinal   = 'n' // app: the next ordinal
	kindAccount   = 'a' // app, user: typesv1.Account
	kindSeq       = 's' // app: the last campaign that was started here
	kindTotal     = 't' // app, seq: how many accounts it matched here
	kindMessage   = 'c' // app, seq: typesv1.Campaign, while somebody has it coming
	kindExpires   = 'q' // app, seq: when kindMessage ends
	kindRemaining = 'b' // app, seq, chunk: who has it coming, a chunk of ordinals that is not as it matched
	kindTodo      = 'w' // app, seq, chunk: who may still get a notification, a chunk of ordinals
	kindFunnel    = 'f' // app, seq: logv1.Funnel
	kindMatched   = 'e' // app, seq, part: who matched
	kindPlaces    = 'l' // app, seq: logv1.Places
	kindAttempts  = 'g' // app, seq, number: logv1.Attempts
	kindSendings  = 'z' // app, seq, number: logv1.Sendings
	kindHolder    = 'd' // app, ordinal: the name of an account with devices
	kindOwner     = 'o' // app, hash of vendor and token: logv1.Owner
	kindHome      = 'h' // app: logv1.Home
	kindRandom    = 'r' // app, MsgRandom: logv1.Random
	kindTask      = 'j' // app, seq: typesv1.Campaign, for reports and unfinished work
	kindReport    = 'p' // app, seq: typesv1.Report
	kindOpen      = 'u' // app, seq: the campaign is not done
	kindKept      = 'k' // app, seq: the push counts as kept until the time in it
	kindDue       = 'x' // time, key: the key ends at the time
	kindOrigin    = 'i' // origin: logv1.Origin
	kindApp       = 'y' // app: crier.App as JSON; system group
	kindNode      = 'v' // id: crier.Node as JSON; system group
	kindRestore   = '+' // logv1.Restore; system group
)

// keyBuilder makes the keys of one group.
type keyBuilder crier.PartitionID

func (p keyBuilder) kind(kind byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 32), uint16(p)), kind)
}

func (p keyBuilder) app(kind byte, app crier.AppID) []byte {
	return binary.BigEndian.AppendUint32(p.kind(kind), uint32(app))
}

func (p keyBuilder) node(id string) []byte { return append(p.kind(kindNode), id...) }

func (p keyBuilder) seq(kind byte, app crier.AppID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(p.app(kind, app), seq)
}

func (p keyBuilder) account(app crier.AppID, user crier.UserID) []byte {
	return append(p.app(kindAccount, app), user...)
}

func (p keyBuilder) random(app crier.AppID, random uint32) []byte {
	return binary.BigEndian.AppendUint32(p.app(kindRandom, app), random)
}

func (p keyBuilder) chunk(kind byte, app crier.AppID, seq uint64, chunk uint32) []byte {
	return binary.BigEndian.AppendUint32(p.seq(kind, app, seq), chunk)
}

func (p keyBuilder) matched(app crier.AppID, seq uint64, part byte) []byte {
	return append(p.seq(kindMatched, app, seq), part)
}

// record is the key of a record of a campaign, with its number.
func (p keyBuilder) record(kind byte, app crier.AppID, seq uint64, n uint32) []byte {
	return binary.BigEndian.AppendUint32(p.seq(kind, app, seq), n)
}

func (p keyBuilder) holder(app crier.AppID, ordinal uint32) []byte {
	return binary.BigEndian.AppendUint32(p.app(kindHolder, app), ordinal)
}

func (p keyBuilder) owner(app crier.AppID, vendor, token string) []byte {
	sum := sha256.Sum256([]byte(vendor + "\x00" + token))
	return append(p.app(kindOwner, app), sum[:16]...)
}

func (p keyBuilder) origin(id uint64) []byte {
	return binary.BigEndian.AppendUint64(p.kind(kindOrigin), id)
}

// due is the key that makes Sweep look at target at the time, in Unix milliseconds.
func (p keyBuilder) due(ms int64, target []byte) []byte {
	return append(binary.BigEndian.AppendUint64(p.kind(kindDue), uint64(ms)), target...)
}

const (
	offApp = 3          // where the app stands in a key
	offSeq = offApp + 4 // where the seq stands, or the user
	offEnd = offSeq + 8 // behind the seq
	offDue = offApp + 8 // where the target stands in a due key
	u64Len = 8          // bytes of a number as a value
)

func keyApp(k []byte) crier.AppID { return crier.AppID(binary.BigEndian.Uint32(k[offApp:])) }

func keySeq(k []byte) uint64 { return binary.BigEndian.Uint64(k[offSeq:]) }

func encodeUint64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
