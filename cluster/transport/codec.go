package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// kind says what a frame is.
type kind byte

const (
	kindAlive kind = iota + 1 // nothing but a sign of life
	kindHeartbeat
	kindAppend
	kindVote
	kindPreVote
	kindTimeoutNow
	kindSnapshot
	kindAnswer
	kindPulse // heartbeats of many groups

	// lazy marks a request, in its kind's byte, whose answer may wait a moment for company.
	lazy kind = 0x80
)

// maxEntries bounds the entries of one frame: raft's own bound of MaxAppendEntries.
const maxEntries = 1024

// Flags of the first byte of every message. A raft node names itself up to three times in each message, and the
// connection knows its name: a heartbeat without the names is 8 bytes instead of over 100. The third, Leader or
// Candidate, is left out: raft deprecates it and takes RPCHeader.Addr, which all that we speak to fill in.
const (
	idIsSender   = 1 << iota // RPCHeader.ID
	addrIsSender             // RPCHeader.Addr
	yes                      // Success, Granted or LeadershipTransfer
	noBackoff                // NoRetryBackoff
)

// appendHead writes what every message begins with.
func appendHead(b []byte, self string, h raft.RPCHeader, flags byte) []byte {
	names := [...][]byte{h.ID, h.Addr}
	for i, n := range names {
		if string(n) == self {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(h.ProtocolVersion))
	for i, n := range names {
		if flags&(1<<i) == 0 {
			b = appendBytes(b, n)
		}
	}
	return b
}

func appendBytes(b, text []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func flagIf(flag byte, is bool) byte {
	if is {
		return flag
	}
	return 0
}

// appendMessage writes a request or a response of raft's, as node self sends it. An unknown type is our mistake.
func appendMessage(b []byte, self string, message any) []byte {
	switch m := message.(type) {
	case *pulse:
		b = appendNumbers(b, uint64(len(m.beats)))
		for _, beat := range m.beats {
			b = appendNumbers(b, uint64(beat.group), beat.term)
		}
		return b
	case *raft.AppendEntriesRequest:
		b = appendHead(b, self, m.RPCHeader, 0)
		b = appendNumbers(b, m.Term, m.PrevLogEntry, m.PrevLogTerm, m.LeaderCommitIndex)
		return appendEntries(b, m.Entries)
	case *raft.AppendEntriesResponse:
		b = appendHead(b, self, m.RPCHeader, flagIf(yes, m.Success)|flagIf(noBackoff, m.NoRetryBackoff))
		return appendNumbers(b, m.Term, m.LastLog)
	case *raft.RequestVoteRequest:
		b = appendHead(b, self, m.RPCHeader, flagIf(yes, m.LeadershipTransfer))
		return appendNumbers(b, m.Term, m.LastLogIndex, m.LastLogTerm)
	case *raft.RequestVoteResponse:
		b = appendHead(b, self, m.RPCHeader, flagIf(yes, m.Granted))
		return appendBytes(appendNumbers(b, m.Term), m.Peers)
	case *raft.RequestPreVoteRequest:
		b = appendHead(b, self, m.RPCHeader, 0)
		return appendNumbers(b, m.Term, m.LastLogIndex, m.LastLogTerm)
	case *raft.RequestPreVoteResponse:
		b = appendHead(b, self, m.RPCHeader, flagIf(yes, m.Granted))
		return appendNumbers(b, m.Term)
	case *raft.TimeoutNowRequest:
		return appendHead(b, self, m.RPCHeader, 0)
	case *raft.TimeoutNowResponse:
		return appendHead(b, self, m.RPCHeader, 0)
	case *raft.InstallSnapshotRequest:
		b = appendHead(b, self, m.RPCHeader, 0)
		b = appendNumbers(b, uint64(m.SnapshotVersion), m.Term, m.LastLogIndex, m.LastLogTerm, m.ConfigurationIndex, uint64(m.Size))
		return appendBytes(appendBytes(b, m.Peers), m.Configuration)
	case *raft.InstallSnapshotResponse:
		b = appendHead(b, self, m.RPCHeader, flagIf(yes, m.Success))
		return appendNumbers(b, m.Term)
	}
	panic(fmt.Sprintf("transport: no codec of a %T", message))
}

// Flags of an entry. Entries follow one another in index and mostly in term, so
// that one takes 3 or 4 bytes, and its time 4 or 5, beside its data.
const (
	nextIndex     = 1 << iota // the index is the one after the last entry's
	sameTerm                  // as the last entry's
	hasExtensions             // of middleware
	hasTime                   // nanoseconds since the last entry's time
)

func appendEntries(b []byte, entries []*raft.Log) []byte {
	size := 0
	for _, e := range entries {
		size += entrySize(e)
	}
	b = slices.Grow(b, size)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	var index, term uint64
	var at int64
	for _, e := range entries {
		flags := flagIf(nextIndex, e.Index == index+1) | flagIf(sameTerm, e.Term == term) |
			flagIf(hasExtensions, len(e.Extensions) > 0) | flagIf(hasTime, !e.AppendedAt.IsZero())
		b = append(b, flags, byte(e.Type))
		if flags&nextIndex == 0 {
			b = binary.AppendUvarint(b, e.Index)
		}
		if flags&sameTerm == 0 {
			b = binary.AppendUvarint(b, e.Term)
		}
		if flags&hasTime != 0 {
			b = binary.AppendVarint(b, e.AppendedAt.UnixNano()-at)
			at = e.AppendedAt.UnixNano()
		}
		b = appendBytes(b, e.Data)
		if flags&hasExtensions != 0 {
			b = appendBytes(b, e.Extensions)
		}
		index, term = e.Index, e.Term
	}
	return b
}

// entrySize bounds what an entry takes in a frame, with what is around its data.
func entrySize(e *raft.Log) int { return len(e.Data) + len(e.Extensions) + 48 }

// decoder reads what the functions above wrote. After a mistake it reads zeros, and end tells.
type decoder struct {
	b      []byte
	sender []byte
	bad    bool
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) numbers(into ...*uint64) {
	for _, n := range into {
		*n = d.uvarint()
	}
}

// alias returns the next text as part of the frame, nil for an empty one.
func (d *decoder) alias() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	text := d.b[:n:n]
	d.b = d.b[n:]
	return text
}

// bytes returns a copy of the next text, nil for an empty one.
func (d *decoder) bytes() []byte { return bytes.Clone(d.alias()) }

// head reads what appendHead wrote.
func (d *decoder) head() (h raft.RPCHeader, flags byte) {
	flags = d.byte()
	version := d.uvarint()
	if version > uint64(raft.ProtocolVersionMax) {
		d.fail() // of a raft that we don't know
	}
	h.ProtocolVersion = raft.ProtocolVersion(version)
	for i, into := range [...]*[]byte{&h.ID, &h.Addr} {
		if flags&(1<<i) != 0 {
			*into = d.sender
		} else {
			*into = d.bytes()
		}
	}
	return h, flags
}

func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return errMalformed
	}
	return nil
}

// decodeRequest reads a request from sender. The data of its entries is part of body.
func decodeRequest(k kind, sender, body []byte) (any, error) {
	d := &decoder{b: body, sender: sender}
	h, flags := d.head()
	var request any
	switch k {
	case kindHeartbeat, kindAppend:
		m := &raft.AppendEntriesRequest{RPCHeader: h}
		d.numbers(&m.Term, &m.PrevLogEntry, &m.PrevLogTerm, &m.LeaderCommitIndex)
		m.Entries = d.entries()
		request = m
	case kindVote:
		m := &raft.RequestVoteRequest{RPCHeader: h, LeadershipTransfer: flags&yes != 0}
		d.numbers(&m.Term, &m.LastLogIndex, &m.LastLogTerm)
		request = m
	case kindPreVote:
		m := &raft.RequestPreVoteRequest{RPCHeader: h}
		d.numbers(&m.Term, &m.LastLogIndex, &m.LastLogTerm)
		request = m
	case kindTimeoutNow:
		request = &raft.TimeoutNowRequest{RPCHeader: h}
	case kindSnapshot:
		request = d.snapshot(h)
	default:
		return nil, fmt.Errorf("%w: kind %d", errMalformed, k)
	}
	return request, d.end()
}

// decodePulse reads the heartbeats of a pulse.
func decodePulse(body []byte) ([]heartbeat, error) {
	d := &decoder{b: body}
	n := d.uvarint()
	if n > uint64(len(d.b))/2 {
		return nil, errMalformed
	}
	beats := make([]heartbeat, n)
	for i := range beats {
		group, term := d.uvarint(), d.uvarint()
		if group > uint64(crier.SystemPartition) {
			d.fail()
		}
		beats[i] = heartbeat{crier.PartitionID(group), term}
	}
	return beats, d.end()
}

func (d *decoder) snapshot(h raft.RPCHeader) *raft.InstallSnapshotRequest {
	m := &raft.InstallSnapshotRequest{RPCHeader: h}
	var version, size uint64
	d.numbers(&version, &m.Term, &m.LastLogIndex, &m.LastLogTerm, &m.ConfigurationIndex, &size)
	m.SnapshotVersion, m.Size = raft.SnapshotVersion(version), int64(size)
	if version > uint64(raft.SnapshotVersionMax) || m.Size < 0 {
		d.fail()
	}
	m.Peers, m.Configuration = d.bytes(), d.bytes()
	return m
}

func (d *decoder) entries() []*raft.Log {
	n := d.uvarint()
	if n > maxEntries || n > uint64(len(d.b)) {
		d.fail()
	}
	if n == 0 || d.bad {
		return nil
	}
	logs, entries := make([]raft.Log, n), make([]*raft.Log, n)
	var index, term uint64
	var at int64
	for i := range logs {
		e := &logs[i]
		flags := d.byte()
		e.Type = raft.LogType(d.byte())
		if index++; flags&nextIndex == 0 {
			index = d.uvarint()
		}
		if flags&sameTerm == 0 {
			term = d.uvarint()
		}
		if flags&hasTime != 0 {
			at += d.varint()
			e.AppendedAt = time.Unix(0, at)
		}
		e.Index, e.Term, e.Data = index, term, d.alias()
		if flags&hasExtensions != 0 {
			e.Extensions = d.alias()
		}
		entries[i] = e
	}
	return entries
}

// decodeAnswer reads a response from sender into one of raft's structs.
func decodeAnswer(sender, body []byte, into any) error {
	d := &decoder{b: body, sender: sender}
	if p, ok := into.(*pulse); ok {
		for range p.beats {
			p.taken = append(p.taken, d.byte()&yes != 0)
		}
		return d.end()
	}
	h, flags := d.head()
	switch m := into.(type) {
	case *raft.AppendEntriesResponse:
		*m = raft.AppendEntriesResponse{RPCHeader: h, Success: flags&yes != 0, NoRetryBackoff: flags&noBackoff != 0}
		d.numbers(&m.Term, &m.LastLog)
	case *raft.RequestVoteResponse:
		*m = raft.RequestVoteResponse{RPCHeader: h, Granted: flags&yes != 0, Term: d.uvarint(), Peers: d.bytes()}
	case *raft.RequestPreVoteResponse:
		*m = raft.RequestPreVoteResponse{RPCHeader: h, Granted: flags&yes != 0, Term: d.uvarint()}
	case *raft.TimeoutNowResponse:
		*m = raft.TimeoutNowResponse{RPCHeader: h}
	case *raft.InstallSnapshotResponse:
		*m = raft.InstallSnapshotResponse{RPCHeader: h, Success: flags&yes != 0, Term: d.uvarint()}
	default:
		panic(fmt.Sprintf("transport: no codec of a %T", into))
	}
	return d.end()
}
