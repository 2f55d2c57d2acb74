package transport

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A heartbeat goes with two pulses and returns when the second leaves. One that is late, or that the peer does not take, returns with the first answer.
func TestARoundIsTwoBeats(t *testing.T) {
	t.Parallel()
	var addresses atomic.Pointer[map[string]string]
	open := func(node string) *Mux {
		m, err := Open(Config{
			Cluster: "c", NodeID: node, Listen: "127.0.0.1:0", HeartbeatTimeout: 10 * time.Minute, Coalesce: time.Millisecond, Logger: slog.New(slog.DiscardHandler), // the test makes the beats
			Resolve: func(node string) (string, bool) { addr, ok := (*addresses.Load())[node]; return addr, ok },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	a, b := open("a"), open("b")
	addresses.Store(&map[string]string{"a": a.Addr(), "b": b.Addr()})
	var took atomic.Int32
	var refuse atomic.Bool
	b.Group(0).SetHeartbeatHandler(func(rpc raft.RPC) {
		took.Add(1)
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: !refuse.Load()}, nil)
	})
	g := a.Group(0).(*group)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("a"), Addr: []byte("a")}
	b.Group(0).(*group).term.Store(1) // as an append would have
	send := func() chan bool {
		returned := make(chan bool, 1)
		go func() {
			resp := new(raft.AppendEntriesResponse)
			if err := g.AppendEntries("b", "b", &raft.AppendEntriesRequest{RPCHeader: header, Term: 1}, resp); err != nil {
				t.Error(err)
			}
			returned <- resp.Success
		}()
		return returned
	}
	if !<-send() { // by itself, the first of the term
		t.Fatal("the first heartbeat is not taken")
	}
	l, err := a.link("b")
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			l.mu.Lock()
			done := is()
			l.mu.Unlock()
			if done {
				return
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("not after 20 s: %s", what)
			}
		}
	}
	gathers := func() bool { return l.gathers != nil }

	returned := send()
	until("the heartbeat waits", gathers)
	l.beat()
	until("it goes on", func() bool { return l.goesOn != nil })
	if len(returned) > 0 || took.Load() != 2 {
		t.Errorf("after the first beat: returned %d, the peer took %d", len(returned), took.Load())
	}
	l.beat()
	if !<-returned {
		t.Error("a round that was taken returns a no")
	}
	until("the peer takes the second", func() bool { return took.Load() == 3 })

	g.mu.Lock()
	late := g.confirmed["b"]
	late.returned = late.returned.Add(-a.cfg.beat() * 2)
	g.confirmed["b"] = late
	g.mu.Unlock()
	returned = send()
	until("the late one waits", gathers)
	l.beat()
	if !<-returned || took.Load() != 4 {
		t.Errorf("a late one: the peer took %d", took.Load())
	}

	refuse.Store(true)
	returned = send()
	until("the one that is refused waits", gathers)
	l.beat()
	if <-returned || took.Load() != 6 { // again, by itself
		t.Errorf("a refused one: the peer took %d", took.Load())
	}
}
