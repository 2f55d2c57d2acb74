package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// spawner starts many actors of one kind with one set of properties. protoactor's own way takes 224 bytes of them for each actor, and
// keeps with it, as long as the actor lives, all that it was made of (ADR 33). Safe for concurrent use.
type spawner struct {
	props *actor.Props

	mu   sync.Mutex
	next actor.Actor // of the spawn under way
}

func newSpawner(m *Metrics, d *dispatcher) *spawner {
	s := new(spawner)
	s.props = crossingProps(m, func() actor.Actor { return s.next }).Configure(actor.WithMailbox(d.mailbox))
	return s
}

// lasting is an actor that is never made anew in its place: there would be nothing to make it of.
type lasting interface {
	actor.Actor
	mortal
}

// spawn starts an actor, as a child where by is an actor's context.
func (s *spawner) spawn(by actor.SpawnerContext, a lasting) *actor.PID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = a
	pid := by.Spawn(s.props) // asks for the actor before it returns
	s.next = nil
	return pid
}
