package actors

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// The users of a partition that end together, as after a broadcast or when leadership ends, cost no more than they are: they were looked for among all others, each.
func TestManyUsersEndTogether(t *testing.T) {
	t.Parallel()
	const users = 100_000
	p := newPartition(Deps{Logger: slog.New(slog.DiscardHandler)})
	var all []*actor.PID
	for i := range users {
		key, pid := userKey{1, crier.UserID(fmt.Sprint(i))}, actor.NewPID("here", fmt.Sprint("user", i))
		p.users[key], p.accounts[pid.GetId()] = pid, key
		if i%2 == 0 { // it was sent away, and another has taken its place
			p.users[key] = actor.NewPID("here", fmt.Sprint("successor", i))
		}
		all = append(all, pid)
	}
	began := time.Now()
	for _, pid := range all {
		p.onTerminated(pid)
	}
	if took := time.Since(began); took > 20*time.Second { // milliseconds
		t.Errorf("the end of %d took %v", users, took)
	}
	if len(p.users) != users/2 || len(p.accounts) != 0 {
		t.Errorf("%d users are left, and %d names", len(p.users), len(p.accounts))
	}
}
