package actors

import (
	"context"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// appsTick is how often a node looks whether an app was disabled.
const appsTick = time.Second

// attachments are the sessions of this node by the partition of their account. Safe for concurrent use.
type attachments struct {
	mu sync.Mutex
	of map[crier.PartitionID]map[string]*actor.PID // by the id of the PID
}

func newAttachments() *attachments {
	return &attachments{of: make(map[crier.PartitionID]map[string]*actor.PID)}
}

func (a *attachments) add(p crier.PartitionID, session *actor.PID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of[p] == nil {
		a.of[p] = make(map[string]*actor.PID)
	}
	a.of[p][session.Id] = session
}

func (a *attachments) remove(p crier.PartitionID, session *actor.PID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of[p], session.Id)
}

// tell sends a message to the sessions of a partition.
func (a *attachments) tell(root outbox, p crier.PartitionID, msg any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, session := range a.of[p] {
		root.Send(session, msg)
	}
}

// FollowLeaders has sessions attach again when another node has come to lead their partition, or the same one has once more. It returns when ctx ends.
func (s *Service) FollowLeaders(ctx context.Context) {
	terms, root := make([]uint64, s.dir.Partitions()), outboxOf(s.actors)
	for {
		news := s.dir.News() // asked for first, so that none is missed
		for i := range terms {
			p := crier.PartitionID(i)
			if term := s.dir.Term(p); term > terms[i] {
				terms[i] = term
				s.sessions.tell(root, p, ledAnew{})
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

// FollowApps ends the sessions of this node whose app is disabled, within appsTick after the node has learned of it. It returns when ctx ends.
func (s *Service) FollowApps(ctx context.Context) {
	seen, root := make(map[crier.AppID]*crier.App), outboxOf(s.actors)
	tick := time.NewTicker(appsTick)
	defer tick.Stop()
	for {
		if s.newlyDisabled(seen) {
			for p := range s.dir.Partitions() {
				s.sessions.tell(root, crier.PartitionID(p), appDisabled{})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// disabled reports whether an app is disabled, as far as this node knows.
func (s *Service) disabled(id crier.AppID) bool {
	app := s.App(id)
	return app != nil && app.Disabled
}

// newlyDisabled reports whether an app is disabled that has changed since it was seen, and notes what is seen now. An app is another one after each change,
// so that one which was enabled only between two looks counts too.
func (s *Service) newlyDisabled(seen map[crier.AppID]*crier.App) (disabled bool) {
	for _, app := range s.system.Apps() {
		disabled = disabled || app.Disabled && seen[app.ID] != app
		seen[app.ID] = app
	}
	return disabled
}
