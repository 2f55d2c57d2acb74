package actors_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors/actorstest"
)

// A user actor that panics ends, and its sessions attach to another: it was made anew without them, and they got nothing any more.
func TestAUserActorThatPanicsIsReplaced(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	phone := dial(t, n, "a", crier.Android)
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the phone has read its mailbox", func() bool { return len(phone.Seqs()) == 1 })
	n.Replicas[0].Fail()
	_, err := n.Service.Connect(t.Context(), crier.Login{App: appID, User: "a", Platform: crier.Web, SigTime: time.Now()}, new(actorstest.Conn))
	if err != nil && !errors.Is(err, crier.CodeInternal) { // the answer may go before
		t.Errorf("the login that it fails at: %v", err)
	}
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "the phone has the push", func() bool { return len(phone.Seqs()) == 2 })
	phone.Acknowledge(phone.Seqs(), false)
	eventually(t, "it is acknowledged", func() bool { return len(waiting(t, n, "a")) == 0 })
	if phone.Reason() != "" {
		t.Errorf("the phone was closed: %s", phone.Reason())
	}
	browser := dial(t, n, "a", crier.Web)
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "both have the next one", func() bool { return len(phone.Seqs()) == 3 && len(browser.Seqs()) == 1 })
}

// A session that panics ends, and its client is told to connect again: it was made anew, held all messages, and its client heard nothing of it.
func TestASessionThatPanicsEnds(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	phone := dial(t, n, "a", crier.Android)
	phone.Fail()
	waitDone(t, n, push(t, n, time.Hour), 1)
	eventually(t, "it is closed", func() bool { return phone.Reason() == crier.CloseInternal })
	eventually(t, "it is gone", func() bool { return presence(t, n, "a").State != crier.Online })
	again := dial(t, n, "a", crier.Android)
	eventually(t, "what was kept comes", func() bool { return len(again.Seqs()) == 1 })
}
