package actors

import (
	"slices"
	"time"

	"github.com/crier-im/crier"
)

const (
	// historyMost bounds what an account's actor remembers of what it sent, for explanations.
	historyMost = 16
	// leftMost bounds the accounts without an actor of which a partition remembers that.
	leftMost = 256
)

// sending is a message that was handed to a session.
type sending struct {
	seq        uint64
	login      *crier.Login
	at, acked  int64 // Unix nanoseconds; acked 0: not yet
	background bool
	mailbox    bool
}

// history is what was sent to the sessions of an account, the last historyMost, the oldest first. It lives in memory only: to write it
// would be a record an account and push.
type history []sending

func (h *history) add(s sending) {
	if len(*h) == historyMost {
		*h = slices.Delete(*h, 0, 1)
	}
	*h = append(*h, s)
}

// acknowledge notes that a session has acknowledged a message.
func (h history) acknowledge(session crier.SessionID, seq uint64, at time.Time) {
	for i := range h {
		if h[i].seq == seq && h[i].login.Session == session {
			h[i].acked = at.UnixNano()
		}
	}
}

// of returns what was sent of one campaign.
func (h history) of(seq uint64) (sendings []crier.Sending) {
	for _, s := range h {
		if s.seq != seq {
			continue
		}
		place := crier.Place{Node: s.login.Node, Platform: s.login.Platform, State: crier.Online}
		if s.background {
			place.State = crier.PushOnline
		}
		sending := crier.Sending{Time: time.Unix(0, s.at).UTC(), Session: s.login.Session, Place: place, Mailbox: s.mailbox}
		if s.acked != 0 {
			sending.Acked = time.Unix(0, s.acked).UTC()
		}
		sendings = append(sendings, sending)
	}
	return sendings
}
