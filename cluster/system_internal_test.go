package cluster

import (
	"log/slog"
	"testing"
)

// What was sent to a process of an earlier life comes to nobody: no later life has its id.
func TestProcessIDsAreOfOneLife(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 3 {
		system := newSystem(slog.New(slog.DiscardHandler))
		for range 1000 {
			id := system.ProcessRegistry.NextId()
			if seen[id] {
				t.Fatalf("%s was there before", id)
			}
			seen[id] = true
		}
		system.Shutdown()
	}
}
