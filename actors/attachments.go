package actors

import (
	"context"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

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
