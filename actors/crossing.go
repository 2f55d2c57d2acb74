package actors

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// noHost is the address of actors that were spawned before their system listened.
const noHost = "nonhost"

// leaves reports whether an actor lives on another node.
func leaves(system *actor.ActorSystem, pid *actor.PID) bool {
	return pid.Address != system.Address() && pid.Address != noHost
}

// packed returns the packet of a message. Messages of protoactor are protobuf already. In the place of one that can't
// be sent goes a failure, so that nobody waits for it in vain.
func packed(system *actor.ActorSystem, msg any) any {
	if _, ok := msg.(proto.Message); ok {
		return msg
	}
	body, err := Codec{}.Encode(msg)
	if err != nil {
		system.Logger().Error("a message can't go to another node", slog.String("type", fmt.Sprintf("%T", msg)), slog.Any("err", err))
		if body, err = (Codec{}).Encode(failed{err}); err != nil {
			panic(err) // a failure can always be sent
		}
	}
	return &actorv1.Packet{Body: body}
}

// crossingProps makes an actor that sends to other nodes and is sent to from them. protoactor has middleware for this, but with it
// every message is put into an envelope, local ones too (BenchmarkTell).
func crossingProps(m *Metrics, producer actor.Producer) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &crossing{actor: producer(), metrics: m} })
}

// mortal is an actor that ends when it panics, since others notice its end and make another. protoactor by itself makes it anew in its place, which nobody notices.
type mortal interface {
	// onPanic ends it.
	onPanic(ctx actor.Context)
}

// crossing stands around an actor: packets that come in are opened, and what goes out to other nodes is packed.
type crossing struct {
	actor   actor.Actor
	metrics *Metrics
	ctx     crossingContext // the same for the actor's whole life
}

// Receive takes one message.
func (c *crossing) Receive(ctx actor.Context) {
	if c.ctx.Context == nil {
		c.ctx = crossingContext{ctx, ctx.ActorSystem()}
	}
	defer c.recover(ctx)
	if p, ok := ctx.Message().(*actorv1.Packet); ok {
		c.onPacket(ctx, p)
		return
	}
	c.actor.Receive(&c.ctx)
}

// recover tells of a panic, also whoever waits for an answer. What the actor knows may be half done by now.
func (c *crossing) recover(ctx actor.Context) {
	reason := recover()
	if reason == nil {
		return
	}
	c.metrics.panics.Inc()
	ctx.Logger().Error("an actor panicked", slog.String("actor", fmt.Sprintf("%T", c.actor)), slog.String("message", fmt.Sprintf("%T", ctx.Message())),
		slog.Any("reason", reason), slog.String("stack", string(debug.Stack())))
	if ctx.Sender() != nil {
		c.ctx.Respond(failed{crier.Errorf(crier.CodeInternal, "an actor has failed")})
	}
	m, ok := c.actor.(mortal)
	if !ok {
		panic(reason) // protoactor starts it anew, and ends its children
	}
	m.onPanic(&c.ctx)
}

// onPacket receives what is in a packet, in its place.
func (c *crossing) onPacket(ctx actor.Context, p *actorv1.Packet) {
	msg, err := Codec{}.Decode(p.GetBody())
	if err == nil {
		ctx.Receive(&actor.MessageEnvelope{Message: msg, Sender: ctx.Sender()})
		return
	}
	c.metrics.unknown.Inc()
	ctx.Logger().Debug("a packet can't be read", slog.Any("err", err))
	if ctx.Sender() != nil {
		c.ctx.Respond(failed{crier.AsError(err)})
	}
}

// crossingContext is an actor's context whose messages can go to other nodes.
type crossingContext struct {
	actor.Context
	system *actor.ActorSystem
}

// Send is actor.Context's.
func (c *crossingContext) Send(pid *actor.PID, msg any) {
	if leaves(c.system, pid) {
		msg = packed(c.system, msg)
	}
	c.Context.Send(pid, msg)
}

// Request is actor.Context's.
func (c *crossingContext) Request(pid *actor.PID, msg any) {
	c.RequestWithCustomSender(pid, msg, c.Self())
}

// RequestWithCustomSender is actor.Context's.
func (c *crossingContext) RequestWithCustomSender(pid *actor.PID, msg any, sender *actor.PID) {
	if leaves(c.system, pid) {
		msg = packed(c.system, msg)
	}
	c.Context.RequestWithCustomSender(pid, msg, sender)
}

// Respond is actor.Context's.
func (c *crossingContext) Respond(answer any) {
	sender := c.Sender()
	if sender == nil {
		c.Context.Respond(answer) // to the dead letters
		return
	}
	c.Send(sender, answer)
}

// Forward is actor.Context's.
func (c *crossingContext) Forward(pid *actor.PID) {
	if !leaves(c.system, pid) {
		c.Context.Forward(pid)
		return
	}
	c.RequestWithCustomSender(pid, c.Message(), c.Sender())
}

// outbox is the root context of an actor's goroutines: what they send can go to other nodes.
type outbox struct{ *actor.RootContext }

func outboxOf(system *actor.ActorSystem) outbox { return outbox{system.Root} }

// Send is actor.RootContext's.
func (o outbox) Send(pid *actor.PID, msg any) {
	if leaves(o.ActorSystem(), pid) {
		msg = packed(o.ActorSystem(), msg)
	}
	o.RootContext.Send(pid, msg)
}
