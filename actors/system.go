package actors

import (
	"context"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// SystemProps makes the actor of the system group: it changes apps.
func SystemProps(s SystemReplica, m *Metrics) *actor.Props {
	return crossingProps(m, func() actor.Actor { return &system{replica: s, metrics: m} })
}

// system is the actor of the system group on its leader.
type system struct {
	replica  SystemReplica
	metrics  *Metrics
	commands sync.WaitGroup
}

// Receive takes one message.
func (s *system) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Stopped:
		s.commands.Wait()
	case createApp:
		s.command(ctx, func(c context.Context) error { return s.replica.CreateApp(c, m.id, m.app) })
	case updateApp:
		s.command(ctx, func(c context.Context) error { return s.replica.UpdateApp(c, m.id, m.app) })
	case setAttrNames:
		s.command(ctx, func(c context.Context) error { return s.replica.SetAttrNames(c, m.id, m.app, m.set) })
	case readIndex:
		s.command(ctx, s.replica.Verify)
	default:
		unknownMessage(ctx, s.metrics)
	}
}

// command runs one beside the actor and answers the sender.
func (s *system) command(ctx actor.Context, call func(context.Context) error) {
	sender, root := ctx.Sender(), outboxOf(ctx.ActorSystem())
	s.commands.Go(func() {
		c, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		if err := call(c); err != nil {
			root.Send(sender, failed{err})
			return
		}
		root.Send(sender, done{s.replica.Index()})
	})
}
