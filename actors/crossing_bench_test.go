package actors

import (
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// BenchmarkTell is a message from one actor to another of the same node: bare, with what crossingProps puts around both, and with
// protoactor's own middleware in its place.
func BenchmarkTell(b *testing.B) {
	inward := func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(c actor.ReceiverContext, e *actor.MessageEnvelope) {
			if _, ok := e.Message.(*actorv1.Packet); ok {
				b.Error("a packet")
			}
			next(c, e)
		}
	}
	outward := func(next actor.SenderFunc) actor.SenderFunc {
		return func(c actor.SenderContext, target *actor.PID, e *actor.MessageEnvelope) {
			if leaves(c.ActorSystem(), target) {
				b.Error("it leaves")
			}
			next(c, target, e)
		}
	}
	metrics := NewMetrics(nil)
	for _, c := range []struct {
		name  string
		props func(actor.Producer) *actor.Props
	}{
		{"bare", func(p actor.Producer) *actor.Props { return actor.PropsFromProducer(p) }},
		{"crossing", func(p actor.Producer) *actor.Props { return crossingProps(metrics, p) }},
		{"middleware", func(p actor.Producer) *actor.Props {
			return actor.PropsFromProducer(p, actor.WithSenderMiddleware(outward), actor.WithReceiverMiddleware(inward))
		}},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkTell(b, c.props) })
	}
}

// tell asks to send so many messages.
type tell int

// benchmarkTell sends in batches, so that the mailbox stays small.
func benchmarkTell(b *testing.B, props func(actor.Producer) *actor.Props) {
	const batch = 1000
	system := actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })))
	defer system.Shutdown()
	var msg any = acknowledge{session: "s"} // boxed once: only the way counts
	taken, all := 0, make(chan struct{})
	sink := system.Root.Spawn(props(func() actor.Actor {
		return actor.ReceiveFunc(func(ctx actor.Context) {
			if _, ok := ctx.Message().(acknowledge); ok {
				if taken++; taken%batch == 0 {
					all <- struct{}{}
				}
			}
		})
	}))
	source := system.Root.Spawn(props(func() actor.Actor {
		return actor.ReceiveFunc(func(ctx actor.Context) {
			if n, ok := ctx.Message().(tell); ok {
				for range n {
					ctx.Send(sink, msg)
				}
			}
		})
	}))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		system.Root.Send(source, tell(batch))
		<-all
	}
	b.StopTimer()
	_ = system.Root.StopFuture(source).Wait() // a benchmark has no use for the error
	_ = system.Root.StopFuture(sink).Wait()
}

// BenchmarkCodec is a message for another node and back.
func BenchmarkCodec(b *testing.B) {
	for _, m := range []any{acknowledge{session: "0d4c8e4e-6e1f-4b0a-9d2c-0f3c5d1c7c11", seqs: []uint64{41}}, delivery()} {
		bytes, err := Codec{}.Encode(m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encode/"+name(m), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Codec{}.Encode(m)
			}
		})
		b.Run("decode/"+name(m), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Codec{}.Decode(bytes)
			}
		})
	}
}

func delivery() *crier.Delivery {
	c := &crier.Campaign{
		App: 1400000001, Task: "1400000001_1700000000000_123_42", Seq: 42, LifeTime: time.Hour, Accepted: time.UnixMilli(1700000000000).UTC(),
		Message: crier.Message{From: "admin", Elements: []crier.Element{{Type: crier.TextElement, Content: []byte(`{"Text":"The match begins in ten minutes"}`)}}},
	}
	return crier.NewDelivery(c, crier.English)
}
