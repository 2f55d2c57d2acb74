package transport_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
)

// take is what a receiver has taken of a snapshot.
type take struct {
	bytes []byte
	err   error
}

// restorer answers snapshots as raft does: the size is checked.
func restorer(takes chan<- take, pause time.Duration) func(raft.RPC) (any, error) {
	return func(rpc raft.RPC) (any, error) {
		request := rpc.Command.(*raft.InstallSnapshotRequest)
		b, err := io.ReadAll(rpc.Reader)
		if err == nil && int64(len(b)) != request.Size {
			err = io.ErrShortBuffer
		}
		time.Sleep(pause)
		takes <- take{b, err}
		return &raft.InstallSnapshotResponse{RPCHeader: header("b"), Term: request.Term, Success: err == nil}, err
	}
}

func snapshot(size int64) *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{RPCHeader: header("a"), SnapshotVersion: 1, Term: 3, LastLogIndex: 9, LastLogTerm: 2, Configuration: []byte("c"), Size: size}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	timeouts := func(c *transport.Config) { c.PeerTimeout = 2 * time.Second }
	a, b := n.open(t, "a", timeouts).Group(1), n.open(t, "b", timeouts).Group(1)
	takes := make(chan take, 1)
	serve(t, b, restorer(takes, 3*time.Second)) // longer than PeerTimeout: the receiver lives, and is busy
	data := bytes.Repeat([]byte("snapshot"), 1<<19)
	broken := errors.New("the disk is broken")
	for name, c := range map[string]struct {
		size int64
		data io.Reader
		want error
	}{
		"4 MB":          {int64(len(data)), bytes.NewReader(data), nil},
		"nothing":       {0, strings.NewReader(""), nil},
		"one byte":      {1, strings.NewReader("x"), nil},
		"byte by byte":  {1000, iotest.OneByteReader(bytes.NewReader(data[:1000])), nil},
		"too short":     {int64(len(data)) + 1, bytes.NewReader(data), transport.ErrSnapshotSize},
		"too long":      {int64(len(data)) - 1, bytes.NewReader(data), transport.ErrSnapshotSize},
		"a broken disk": {int64(len(data)), io.MultiReader(bytes.NewReader(data[:1<<20]), iotest.ErrReader(broken)), broken},
	} {
		var resp raft.InstallSnapshotResponse
		err := a.InstallSnapshot("b", "b", snapshot(c.size), &resp, c.data)
		got := <-takes
		if c.want == nil && (err != nil || !resp.Success || got.err != nil || !bytes.Equal(got.bytes, data[:c.size]) && c.size > 1) {
			t.Errorf("%s: %+v, %v; the receiver has %d bytes, %v", name, resp, err, len(got.bytes), got.err)
		}
		if c.want != nil && (!errors.Is(err, c.want) || got.err == nil) {
			t.Errorf("%s: %v; the receiver has %d bytes, %v", name, err, len(got.bytes), got.err)
		}
	}
}

// What holds a snapshot up for good is noticed at both ends.
// Snapshots share the bytes a second that a node may send.
func TestSnapshotsAreSlowedDown(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	const rate, size = 1_000_000, 1_000_000
	sender, receiver := n.open(t, "a", func(c *transport.Config) { c.SnapshotRate = rate }), n.open(t, "b", nil)
	takes := make(chan take, 2)
	began := time.Now()
	var sends errgroup.Group
	for p := range crier.PartitionID(2) {
		serve(t, receiver.Group(p), restorer(takes, 0))
		sends.Go(func() error {
			var resp raft.InstallSnapshotResponse
			return sender.Group(p).InstallSnapshot("b", "b", snapshot(size), &resp, bytes.NewReader(make([]byte, size)))
		})
	}
	if err := sends.Wait(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 1500*time.Millisecond { // the first 262 kB are free
		t.Errorf("2 MB at 1 MB/s took %v", took)
	}
}

func TestSnapshotStalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size   int64
		answer func(raft.RPC, <-chan struct{}) (any, error)
		cut    bool
	}{
		"a receiver that does not read": {64 << 20, func(_ raft.RPC, woken <-chan struct{}) (any, error) {
			<-woken
			return nil, errors.New("woke up")
		}, false},
		"a restore that hangs": {4 << 10, func(rpc raft.RPC, woken <-chan struct{}) (any, error) {
			_, err := io.ReadAll(rpc.Reader)
			<-woken
			return nil, err
		}, false},
		"a cut": {256 << 20, func(rpc raft.RPC, _ <-chan struct{}) (any, error) {
			_, err := io.Copy(io.Discard, rpc.Reader)
			return nil, err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			short := func(c *transport.Config) {
				c.PeerTimeout, c.SnapshotStall, c.SnapshotRestore = 300*time.Millisecond, 600*time.Millisecond, 600*time.Millisecond
			}
			a, b := n.open(t, "a", short).Group(1), n.open(t, "b", short).Group(1)
			woken := make(chan struct{})
			serve(t, b, func(rpc raft.RPC) (any, error) { return c.answer(rpc, woken) })
			t.Cleanup(func() { close(woken) }) // before serve's: it waits for the answers
			if c.cut {
				n.faults.Delay("a", "b", 5*time.Millisecond) // so that it lasts
				time.AfterFunc(200*time.Millisecond, func() { n.faults.Cut("a", "b") })
			}
			if err := a.InstallSnapshot("b", "b", snapshot(c.size), new(raft.InstallSnapshotResponse), io.LimitReader(endless{}, c.size)); err == nil {
				t.Error("no error")
			}
		})
	}
}

// A snapshot waits for its group to open there, before a byte of it is read.
func TestSnapshotWaitsForTheGroup(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	a, b := n.open(t, "a", nil).Group(1), n.open(t, "b", nil)
	done := make(chan error, 1)
	go func() {
		done <- a.InstallSnapshot("b", "b", snapshot(3), new(raft.InstallSnapshotResponse), strings.NewReader("abc"))
	}()
	select {
	case err := <-done:
		t.Fatalf("%v", err)
	case <-time.After(200 * time.Millisecond):
	}
	takes := make(chan take, 1)
	serve(t, b.Group(1), restorer(takes, 0))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := <-takes; string(got.bytes) != "abc" {
		t.Errorf("%+v", got)
	}
}
