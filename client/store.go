package client

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/crier-im/crier"
)

// Store remembers which messages were shown, so that one that comes again is
// not shown again. A Store that survives the process keeps that promise over restarts
// too. Listen calls it from one goroutine; an error ends the connection, and the
// message comes again on the next one.
type Store interface {
	// Seen reports whether the message of the task was marked.
	Seen(ctx context.Context, task crier.TaskID) (bool, error)
	// Mark remembers that the message of the task was shown.
	Mark(ctx context.Context, task crier.TaskID) error
}

// memoryTasks is how many tasks MemoryStore remembers: well over what an app
// keeps at one time.
const memoryTasks = 4096

type memoryStore struct {
	tasks *lru.Cache[crier.TaskID, struct{}]
}

// MemoryStore remembers the last 4096 tasks until the process ends. Share one
// among the connections of one account.
func MemoryStore() Store {
	tasks, err := lru.New[crier.TaskID, struct{}](memoryTasks)
	if err != nil {
		panic(fmt.Sprintf("client: %v", err)) // the size is positive
	}
	return memoryStore{tasks}
}

func (s memoryStore) Seen(_ context.Context, task crier.TaskID) (bool, error) {
	_, ok := s.tasks.Get(task)
	return ok, nil
}

func (s memoryStore) Mark(_ context.Context, task crier.TaskID) error {
	s.tasks.Add(task, struct{}{})
	return nil
}
