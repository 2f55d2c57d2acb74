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
		p.users[key], p.accounts[pid.GetId()] = pid, &account{key: key}
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

// A user actor that has been idle goes, unless somebody logs in at the same moment: the session would have to attach again.
func TestAnIdleUserStaysForALogin(t *testing.T) {
	t.Parallel()
	p := newPartition(Deps{Logger: slog.New(slog.DiscardHandler)})
	key, pid := userKey{1, "ann"}, actor.NewPID("here", "user1")
	p.users[key], p.accounts[pid.GetId()] = pid, &account{key, 2}
	for _, c := range []struct {
		what    string
		message passivate
		goes    bool
	}{
		{"a login is on the way", passivate{key, pid, 1}, false},
		{"it was replaced", passivate{key, actor.NewPID("here", "user0"), 2}, false},
		{"it is of another account", passivate{userKey{1, "bob"}, pid, 2}, false},
		{"nobody has come", passivate{key, pid, 2}, true},
	} {
		if p.isIdle(c.message) != c.goes {
			t.Errorf("%s: it goes: %t", c.what, !c.goes)
		}
	}
	p.present[key] = new(sessionsChanged)
	if p.isIdle(passivate{key, pid, 2}) {
		t.Error("it goes while a session is there")
	}
}
