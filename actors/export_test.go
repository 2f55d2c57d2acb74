package actors

import (
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// The bounds that tests fill.
const (
	ParkedMost = parkedMost
	OnlineMost = onlineMost
	TokensMost = tokensMost
)

// FanoutName is the actor that takes packets for sessions.
const FanoutName = fanoutName

// FanoutTries is how often a packet is sent.
const FanoutTries = fanoutTries

// Through makes packets go to another actor, whose answer is waited for as long as said.
func (f *Fanout) Through(to string, wait time.Duration) { f.to, f.wait = to, wait }

// Waiting returns how many messages wait, of all nodes.
func (f *Fanout) Waiting() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range f.nodes {
		n += len(node.waiting)
	}
	return n
}

// StartCampaign returns the request that brings a campaign to a partition.
func StartCampaign(c *crier.Campaign) any { return startCampaign{campaign: c} }

// Gone returns what a user actor tells its partition when its last session has ended.
func Gone(app crier.AppID, user crier.UserID, pid *actor.PID, ordinal uint32) any {
	return sessionsChanged{user: userKey{app, user}, pid: pid, ordinal: ordinal}
}

// Attach returns the request of a session to be let in, of one that logs in or that was there before.
func Attach(login crier.Login, session *actor.PID, again bool) any {
	return attachSession{login: &login, session: session, again: again}
}

// Confirm returns what a session tells the user actor that has let it in.
func Confirm(session crier.SessionID) any { return confirmSession{session} }

// UserOf returns the user actor that has let a session in.
func UserOf(answer any) *actor.PID { return answer.(attached).user }

// CloseReasonOf returns why a session is told to end.
func CloseReasonOf(msg any) (reason crier.CloseReason, ok bool) {
	m, ok := msg.(closeSession)
	return m.reason, ok
}

// SessionsOf returns the actors of the sessions of a partition.
func SessionsOf(s *Service, p crier.PartitionID) []*actor.PID {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return slices.Collect(maps.Values(s.sessions.of[p]))
}

// AttachAt is the request of a session that was in use before.
func AttachAt(login crier.Login, session *actor.PID, cursor uint64, unacked ...uint64) any {
	return attachSession{&login, session, cursor, unacked, true}
}
