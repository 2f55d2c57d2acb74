package actors

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// numbered answers with its number.
type numbered int

func (n numbered) onPanic(ctx actor.Context) { ctx.Stop(ctx.Self()) }

func (n numbered) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case acknowledge:
		ctx.Respond(n)
	case logout:
		panic("told to")
	}
}

// Actors that are started at the same time are those that were to be started, each once; one that panics ends, and is not made anew of another.
func TestASpawnerStartsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	system := actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })))
	t.Cleanup(system.Shutdown)
	s := newSpawner(NewMetrics(nil), users)
	pids := make([]*actor.PID, 500)
	var wg sync.WaitGroup
	for i := range pids {
		wg.Go(func() { pids[i] = s.spawn(system.Root, numbered(i)) })
	}
	wg.Wait()
	for i, pid := range pids {
		answer, err := system.Root.RequestFuture(pid, acknowledge{}, time.Minute).Result()
		if n, _ := answer.(numbered); err != nil || int(n) != i {
			t.Fatalf("actor %d answers as %v, %v", i, answer, err)
		}
	}
	system.Root.Send(pids[7], logout{})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, found := system.ProcessRegistry.GetLocal(pids[7].GetId()); !found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("an actor that has panicked lives on")
		}
	}
}
