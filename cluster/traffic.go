package cluster

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/stats"
)

// traffic counts the bytes between the actors of this node and of others. It implements stats.Handler of gRPC.
type traffic struct{ sent, received prometheus.Counter }

// HandleRPC counts the bytes of a message with its frame, before encryption.
func (t *traffic) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch m := s.(type) {
	case *stats.OutPayload:
		t.sent.Add(float64(m.WireLength))
	case *stats.InPayload:
		t.received.Add(float64(m.WireLength))
	}
}

// TagRPC is gRPC's.
func (t *traffic) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn is gRPC's.
func (t *traffic) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is gRPC's.
func (t *traffic) HandleConn(context.Context, stats.ConnStats) {}
