package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

var (
	self  = []byte("node-1")
	other = []byte("node-2")
	heads = []raft.RPCHeader{
		{ProtocolVersion: 3, ID: self, Addr: self},
		{ProtocolVersion: 3, ID: other, Addr: self},
		{ProtocolVersion: 2, ID: self, Addr: []byte("127.0.0.1:1")},
		{},
	}
	entries = []*raft.Log{
		{Index: 7, Term: 2, Type: raft.LogCommand, Data: []byte("seven"), AppendedAt: time.Unix(1_700_000_000, 123)},
		{Index: 8, Term: 2, Type: raft.LogNoop, AppendedAt: time.Unix(1_700_000_000, 100)},
		{Index: 10, Term: 3, Type: raft.LogConfiguration, Data: []byte("ten"), Extensions: []byte("ext")},
		{Index: math.MaxUint64, Term: math.MaxUint64, Type: 255, Data: []byte{0}},
		{Index: 0, Term: 1},
	}
)

// requests are one of every kind, with each of the heads.
func requests() (all []struct {
	kind    kind
	message any
},
) {
	add := func(k kind, m any) {
		all = append(all, struct {
			kind    kind
			message any
		}{k, m})
	}
	for _, h := range heads {
		add(kindHeartbeat, &raft.AppendEntriesRequest{RPCHeader: h, Term: 4})
		add(kindAppend, &raft.AppendEntriesRequest{RPCHeader: h, Term: 4, PrevLogEntry: 6, PrevLogTerm: 2, Entries: entries, LeaderCommitIndex: 5})
		add(kindVote, &raft.RequestVoteRequest{RPCHeader: h, Term: 4, LastLogIndex: 9, LastLogTerm: 3, LeadershipTransfer: true})
		add(kindVote, &raft.RequestVoteRequest{RPCHeader: h})
		add(kindPreVote, &raft.RequestPreVoteRequest{RPCHeader: h, Term: 4, LastLogIndex: 9, LastLogTerm: 3})
		add(kindTimeoutNow, &raft.TimeoutNowRequest{RPCHeader: h})
		add(kindSnapshot, &raft.InstallSnapshotRequest{
			RPCHeader: h, SnapshotVersion: 1, Term: 4, LastLogIndex: 9, LastLogTerm: 3,
			Peers: []byte("p"), Configuration: []byte("c"), ConfigurationIndex: 1, Size: math.MaxInt64,
		})
	}
	return all
}

func TestRequestsComeBack(t *testing.T) {
	t.Parallel()
	for _, r := range requests() {
		body := appendMessage(nil, string(self), r.message)
		got, err := decodeRequest(r.kind, self, body)
		if err != nil || !reflect.DeepEqual(got, r.message) {
			t.Errorf("%T: %v\n got %+v\nwant %+v", r.message, err, got, r.message)
		}
		for n := range body {
			if got, err := decodeRequest(r.kind, self, body[:n]); !errors.Is(err, errMalformed) {
				t.Errorf("%d of %d bytes of a %T: %+v, %v", n, len(body), r.message, got, err)
			}
		}
		if _, err := decodeRequest(r.kind, self, append(body, 0)); !errors.Is(err, errMalformed) {
			t.Errorf("a byte more than a %T: %v", r.message, err)
		}
	}
}

func TestAnswersComeBack(t *testing.T) {
	t.Parallel()
	for _, h := range heads {
		for _, want := range []any{
			&raft.AppendEntriesResponse{RPCHeader: h, Term: 4, LastLog: 9, Success: true, NoRetryBackoff: true},
			&raft.AppendEntriesResponse{RPCHeader: h},
			&raft.RequestVoteResponse{RPCHeader: h, Term: 4, Granted: true, Peers: []byte("p")},
			&raft.RequestPreVoteResponse{RPCHeader: h, Term: 4, Granted: true},
			&raft.TimeoutNowResponse{RPCHeader: h},
			&raft.InstallSnapshotResponse{RPCHeader: h, Term: 4, Success: true},
		} {
			body := appendMessage(nil, string(self), want)
			got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
			if err := decodeAnswer(self, body, got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
			}
			for n := range body {
				if err := decodeAnswer(self, body[:n], got); !errors.Is(err, errMalformed) {
					t.Errorf("%d of %d bytes of a %T: %v", n, len(body), want, err)
				}
			}
		}
	}
}

func TestPulsesComeBack(t *testing.T) {
	t.Parallel()
	p := newPulse([]heartbeat{{0, 1}, {crier.SystemPartition, math.MaxUint64}, {7, 3}})
	body := appendMessage(nil, string(self), p)
	if got, err := decodePulse(body); err != nil || !reflect.DeepEqual(got, p.beats) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range body {
		if got, err := decodePulse(body[:n]); !errors.Is(err, errMalformed) {
			t.Errorf("%d of %d bytes: %+v, %v", n, len(body), got, err)
		}
	}
	if _, err := decodePulse(append(body, 0)); !errors.Is(err, errMalformed) {
		t.Error(err)
	}
	if _, err := decodePulse(binary.AppendUvarint([]byte{1}, uint64(crier.SystemPartition)+1)); !errors.Is(err, errMalformed) {
		t.Error(err)
	}
	if err := decodeAnswer(self, []byte{yes, 0, yes}, p); err != nil || !slices.Equal(p.taken, []bool{true, false, true}) {
		t.Errorf("%v, %v", p.taken, err)
	}
	for _, body := range [][]byte{{}, {yes, yes}, {yes, yes, yes, yes}} {
		if err := decodeAnswer(self, body, &pulse{beats: p.beats}); !errors.Is(err, errMalformed) {
			t.Errorf("%d answers: %v", len(body), err)
		}
	}
}

// A heartbeat is the commonest message: it names nobody.
func TestHeartbeatIsSmall(t *testing.T) {
	t.Parallel()
	id := []byte(strings.Repeat("x", 36))
	h := raft.RPCHeader{ProtocolVersion: 3, ID: id, Addr: id}
	body := appendMessage(nil, string(id), &raft.AppendEntriesRequest{RPCHeader: h, Term: 1000})
	if n := frameHead + requestHead + len(body); n != 19 {
		t.Errorf("%d bytes", n)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	long := make([]byte, 3*readStep+7)
	var stream []byte
	for _, body := range [][]byte{{}, []byte("short"), long} {
		for _, k := range []kind{kindAlive, kindAppend, kindHeartbeat | lazy} {
			start := len(stream)
			var err error
			if stream, err = endFrame(append(beginFrame(stream, k), body...), start); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := bufio.NewReader(bytes.NewReader(stream))
	var scratch []byte
	for _, size := range []int{0, 5, len(long)} {
		for _, want := range []frame{{kind: kindAlive}, {kind: kindAppend}, {kind: kindHeartbeat, lazy: true}} {
			got, err := readFrame(r, &scratch)
			if err != nil || got.kind != want.kind || got.lazy != want.lazy || len(got.body) != size {
				t.Fatalf("got %v, %v, %d bytes, %v; want %v, %d bytes", got.kind, got.lazy, len(got.body), err, want, size)
			}
		}
	}
	if _, err := readFrame(r, &scratch); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	for name, bytes := range map[string]string{
		"no kind": "\x00\x00\x00\x00\x01", "over the bound": "\x04\x00\x00\x01\x01", "far over the bound": "\xff\xff\xff\xff\x01",
	} {
		if _, err := readFrame(bufio.NewReader(strings.NewReader(bytes)), &scratch); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readFrame(bufio.NewReader(strings.NewReader("\x04\x00\x00\x00\x03begin")), &scratch); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("64 MB announced, 5 bytes sent: %v", err)
	}
	if _, err := endFrame(make([]byte, maxFrame+5), 0); !errors.Is(err, ErrTooBig) {
		t.Errorf("a frame over the bound: %v", err)
	}
}

func TestHello(t *testing.T) {
	t.Parallel()
	good := hello{version, forLink, "prod", "node-1", "node-2"}
	for name, c := range map[string]struct {
		change func(*hello)
		says   string
	}{
		"good":            {func(*hello) {}, ""},
		"another cluster": {func(h *hello) { h.cluster = "test" }, `is of cluster "prod", the caller "node-1" is of cluster "test"`},
		"another node":    {func(h *hello) { h.to = "node-3" }, `wants node "node-3"`},
		"itself":          {func(h *hello) { h.from = "node-2" }, "so is this one"},
		"nobody":          {func(h *hello) { h.from = "" }, `node ""`},
		"purpose":         {func(h *hello) { h.purpose = 9 }, "purpose 9"},
		"version":         {func(h *hello) { h.version = 9 }, "version 9"},
	} {
		h := good
		c.change(&h)
		got, err := readHello(bytes.NewReader(h.encode()))
		if err != nil || h.version == version && got != h {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		refused := got.check("prod", "node-2")
		if (refused == nil) != (c.says == "") || refused != nil && (!errors.Is(refused, ErrRefused) || !strings.Contains(refused.Error(), c.says)) {
			t.Errorf("%s: %v", name, refused)
		}
		told := readWelcome(bytes.NewReader(encodeWelcome(refused)))
		if (told == nil) != (refused == nil) || told != nil && !errors.Is(told, ErrRefused) {
			t.Errorf("%s: the caller hears %v", name, told)
		}
	}
	for _, text := range []string{"", "cri", "GET / HTTP/1.1\r\n", "crier\x02\x01\x04pro"} {
		if _, err := readHello(strings.NewReader(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range requests() {
		f.Add(byte(r.kind), appendMessage(nil, string(self), r.message))
	}
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		if beats, err := decodePulse(body); err == nil {
			again, err := decodePulse(appendMessage(nil, string(self), &pulse{beats: beats}))
			if err != nil || !slices.Equal(again, beats) {
				t.Errorf("%v\n got %+v\nthen %+v", err, beats, again)
			}
		}
		got, err := decodeRequest(kind(k), self, body)
		if err != nil {
			return
		}
		again, err := decodeRequest(kind(k), self, appendMessage(nil, string(self), got))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%v\n got %+v\nthen %+v", err, got, again)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendMessage(nil, string(self), &raft.AppendEntriesResponse{RPCHeader: heads[0], Term: 1, LastLog: 2, Success: true}))
	f.Add(appendMessage(nil, string(self), &raft.RequestVoteResponse{RPCHeader: heads[2], Term: 1, Peers: []byte("p")}))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, into := range []any{new(raft.AppendEntriesResponse), new(raft.RequestVoteResponse), new(raft.RequestPreVoteResponse), new(raft.TimeoutNowResponse), new(raft.InstallSnapshotResponse)} {
			if decodeAnswer(self, body, into) != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(into).Elem()).Interface()
			if err := decodeAnswer(self, appendMessage(nil, string(self), into), again); err != nil || !reflect.DeepEqual(again, into) {
				t.Errorf("%v\n got %+v\nthen %+v", err, into, again)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x06\x02hello\x00\x00\x00\x01\x01"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bufio.NewReader(bytes.NewReader(stream))
		var scratch []byte
		for {
			got, err := readFrame(r, &scratch)
			if err != nil {
				return
			}
			if len(got.body) > len(stream) {
				t.Fatalf("%d bytes of %d", len(got.body), len(stream))
			}
			_, _, _, _ = cutRequest(got.body)
			if _, s, text, err := cutAnswer(got.body); err == nil {
				_ = s.err(text)
			}
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello{version, forLink, "prod", "node-1", "node-2"}.encode())
	f.Add(encodeWelcome(ErrRefused))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if h, err := readHello(bytes.NewReader(stream)); err == nil && h.version == version && !bytes.HasPrefix(stream, h.encode()) {
			t.Errorf("%+v", h)
		}
		_ = readWelcome(bytes.NewReader(stream))
	})
}
