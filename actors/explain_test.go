package actors_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors/actorstest"
)

func explain(t testing.TB, n *actorstest.Node, task crier.TaskID, user crier.UserID) *crier.Explanation {
	t.Helper()
	e, err := n.Service.Explain(t.Context(), appID, task, user)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// sendings returns what an explanation tells of connections: where, how, and whether it was acknowledged.
func sendings(e *crier.Explanation) (told []string) {
	for _, s := range e.Sendings {
		text := s.Node + " " + string(s.Platform) + " " + string(s.State)
		if s.Mailbox {
			text += " mailbox"
		}
		if !s.Acked.IsZero() {
			text += " acknowledged"
		}
		told = append(told, text)
	}
	slices.Sort(told)
	return told
}

// Where an account was connected, what it was sent there and what it acknowledged: it outlives the sessions, the account's actor,
// and the leader.
func TestExplainTellsOfConnections(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1, fallback(time.Hour))
	n.Idle = 50 * time.Millisecond
	move(t, n, 0)
	began := time.Now().Truncate(time.Millisecond)
	change(t, n, imports(2)...)
	android, iphone := dial(t, n, "user0", crier.Android), dial(t, n, "user0", crier.IPhone)
	iphone.Background(0)
	eventually(t, "one is in the background", func() bool {
		return slices.ContainsFunc(presence(t, n, "user0").Sessions, func(s crier.SessionPresence) bool { return s.State == crier.PushOnline })
	})
	task := push(t, n, time.Hour)
	waitDone(t, n, task, 2)
	eventually(t, "both have it", func() bool { return len(android.Seqs()) == 1 && len(iphone.Seqs()) == 1 })
	android.Acknowledge([]uint64{1}, true)
	check := func(what string, want ...string) {
		t.Helper()
		eventually(t, what, func() bool { return slices.Equal(sendings(explain(t, n, task, "user0")), want) })
	}
	both := []string{"node Android Online acknowledged", "node iPhone PushOnline"}
	check("one has acknowledged", both...)
	e := explain(t, n, task, "user0")
	for _, s := range e.Sendings {
		if len(s.Session) != 6 || s.Time.Before(began) || !s.Acked.IsZero() && s.Acked.Before(s.Time) {
			t.Errorf("%+v", s)
		}
	}
	if len(e.Connected) != 2 || e.Connected[0].Node != "node" || !e.Online || e.LeaderSince.After(e.Sendings[0].Time) {
		t.Errorf("%+v", e)
	}
	if e := explain(t, n, task, "user1"); e.Online || len(e.Connected)+len(e.Sendings) != 0 {
		t.Errorf("who was away: %+v", e)
	}
	android.Closed(crier.CloseByClient)
	iphone.Closed(crier.CloseByClient)
	eventually(t, "the actor is gone", func() bool { return userActors(t, n) == 0 })
	check("without the actor", both...)
	dial(t, n, "user1", crier.Web)
	eventually(t, "the mailbox", func() bool {
		return slices.Equal(sendings(explain(t, n, task, "user1")), []string{"node Web Online mailbox"})
	})
	move(t, n, 0)
	check("another leader", both...)
	if after := explain(t, n, task, "user0"); len(after.Connected) != 2 || !slices.Equal(after.Sendings, e.Sendings) || !after.LeaderSince.After(e.LeaderSince) {
		t.Errorf("another leader: %+v", after)
	}
}

// What can't be recorded at once is recorded later, and an explanation does not wait for that.
func TestSendingsAreRecordedLater(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "user0", crier.Android)
	var refuse atomic.Bool
	refuse.Store(true)
	n.Replicas[0].Intercept(func(_ context.Context, command string) error {
		if command == "RecordSendings" && refuse.Load() {
			return crier.CodeTimeout
		}
		return nil
	}, nil)
	task := push(t, n, time.Hour)
	eventually(t, "it comes", func() bool { return len(d.Seqs()) == 1 })
	if e := explain(t, n, task, "user0"); !e.Matched || len(e.Sendings) != 0 {
		t.Errorf("while it can't be recorded: %+v", e)
	}
	refuse.Store(false)
	eventually(t, "it is told", func() bool { return len(explain(t, n, task, "user0").Sendings) == 1 })
	if e := explain(t, n, task, "user0"); e.SendingsMissing {
		t.Errorf("%+v", e)
	}
}

// They are recorded without being asked for: a leader that dies loses those of a second.
func TestSendingsAreRecordedByThemselves(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	d := dial(t, n, "user0", crier.Android)
	push(t, n, 0)
	eventually(t, "it comes", func() bool { return len(d.Seqs()) == 1 })
	eventually(t, "it is recorded", func() bool { return n.Replicas[0].Commands("RecordSendings") == 1 })
}
