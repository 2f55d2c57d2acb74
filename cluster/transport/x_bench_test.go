package transport_test

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
)

// echo answers every request of a group at once.
func echo(b *testing.B, tr raft.Transport) {
	serve(b, tr, func(rpc raft.RPC) (any, error) {
		return &raft.AppendEntriesResponse{RPCHeader: header("b"), Term: 2, Success: true}, nil
	})
}

// pair returns the transports of two nodes.
func pair(b *testing.B, coalesce time.Duration) (x, y *transport.Mux) {
	n := newNetwork()
	quiet := func(c *transport.Config) {
		c.Dial, c.Logger, c.Coalesce = nil, slog.New(slog.DiscardHandler), coalesce
	}
	return n.open(b, "a", quiet), n.open(b, "b", quiet)
}

// BenchmarkAppendEntries is one append and its answer, in one group and in 64 at once.
func BenchmarkAppendEntries(b *testing.B) {
	for _, c := range []struct{ groups, entries, size int }{{1, 1, 200}, {64, 1, 200}, {1, 64, 200}, {1, 64, 15_000}} {
		b.Run(fmt.Sprintf("groups=%d/entries=%dx%d", c.groups, c.entries, c.size), func(b *testing.B) {
			x, y := pair(b, 0)
			request := appendRequest(2, uint64(c.entries), c.size)
			for p := range crier.PartitionID(c.groups) {
				echo(b, y.Group(p))
			}
			if err := beat(x.Group(0)); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(c.entries * c.size))
			b.ReportAllocs()
			b.ResetTimer()
			inGroups(c.groups, b.N, func(p crier.PartitionID, n int) {
				g := x.Group(p)
				for range n {
					if err := g.AppendEntries("b", "b", request, new(raft.AppendEntriesResponse)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkPipeline is an append of a pipeline.
func BenchmarkPipeline(b *testing.B) {
	for _, c := range []struct{ groups, entries, size int }{{1, 1, 200}, {64, 1, 200}} {
		b.Run(fmt.Sprintf("groups=%d/entries=%dx%d", c.groups, c.entries, c.size), func(b *testing.B) {
			x, y := pair(b, 0)
			request := appendRequest(2, uint64(c.entries), c.size)
			for p := range crier.PartitionID(c.groups) {
				echo(b, y.Group(p))
			}
			b.ReportAllocs()
			b.ResetTimer()
			inGroups(c.groups, b.N, func(p crier.PartitionID, n int) {
				pipe, err := x.Group(p).AppendEntriesPipeline("b", "b")
				if err != nil {
					b.Error(err)
					return
				}
				defer pipe.Close()
				var answers sync.WaitGroup
				answers.Go(func() {
					for range n {
						<-pipe.Consumer()
					}
				})
				for range n {
					if _, err := pipe.AppendEntries(request, new(raft.AppendEntriesResponse)); err != nil {
						b.Error(err)
					}
				}
				answers.Wait()
			})
		})
	}
}

// BenchmarkNetworkTransport is the same append by raft's own transport, to compare with.
func BenchmarkNetworkTransport(b *testing.B) {
	open := func() *raft.NetworkTransport {
		t, err := raft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = t.Close() })
		return t
	}
	for _, c := range []struct{ groups, entries, size int }{{1, 1, 200}, {64, 1, 200}, {1, 64, 200}, {1, 64, 15_000}} {
		b.Run(fmt.Sprintf("groups=%d/entries=%dx%d", c.groups, c.entries, c.size), func(b *testing.B) {
			from, to := make([]*raft.NetworkTransport, c.groups), make([]*raft.NetworkTransport, c.groups)
			for p := range c.groups {
				from[p], to[p] = open(), open()
				echo(b, to[p])
			}
			request := appendRequest(2, uint64(c.entries), c.size)
			b.SetBytes(int64(c.entries * c.size))
			b.ReportAllocs()
			b.ResetTimer()
			inGroups(c.groups, b.N, func(p crier.PartitionID, n int) {
				for range n {
					if err := from[p].AppendEntries("b", to[p].LocalAddr(), request, new(raft.AppendEntriesResponse)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// inGroups splits n rounds among groups at once.
func inGroups(groups, n int, f func(p crier.PartitionID, n int)) {
	var wg sync.WaitGroup
	for p := range groups {
		share := n / groups
		if p < n%groups {
			share++
		}
		wg.Go(func() { f(crier.PartitionID(p), share) })
	}
	wg.Wait()
}
