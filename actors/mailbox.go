package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// turn is how many messages an actor takes before others that wait for its dispatcher have theirs.
const turn = 300

// mailbox is that of one of very many actors which have little to do each. It is one allocation under one lock; protoactor's own are seven, most of which a message to
// many actors finds outside the processor's caches (ADR 29). A dispatcher runs it. Safe for concurrent use.
type mailbox struct {
	dispatcher *dispatcher
	invoker    actor.MessageInvoker // set before the first message

	mu        sync.Mutex
	scheduled bool // the dispatcher has it, or a worker runs it
	suspended bool // only messages of the system are taken, until a supervisor has decided about a failure
	system    queue
	user      queue
}

var _ actor.Mailbox = (*mailbox)(nil)

// RegisterHandlers is actor.Mailbox's. The dispatcher is the mailbox's own, not that of the actor's properties.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	m.invoker = invoker
}

// Start is actor.Mailbox's.
func (m *mailbox) Start() {}

// PostUserMessage is actor.Mailbox's. A batch of messages is one message: nobody sends any.
func (m *mailbox) PostUserMessage(message any) { m.post(&m.user, message) }

// PostSystemMessage is actor.Mailbox's.
func (m *mailbox) PostSystemMessage(message any) { m.post(&m.system, message) }

// UserMessageCount is actor.Mailbox's.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

func (m *mailbox) post(q *queue, message any) {
	m.mu.Lock()
	q.push(message)
	wakes := !m.scheduled && (!m.suspended || q == &m.system)
	m.scheduled = m.scheduled || wakes
	m.mu.Unlock()
	if wakes {
		m.dispatcher.schedule(m)
	}
}

// run has the actor take its messages, those of the system first, until there are none or it is the turn of others. A worker of the dispatcher calls it.
func (m *mailbox) run() {
	var message any
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, message)
			m.dispatcher.schedule(m)
		}
	}()
	for range turn {
		var from *queue
		switch message, from = m.take(); from {
		case nil:
			return
		case &m.system:
			m.invoker.InvokeSystemMessage(message)
		case &m.user:
			m.invoker.InvokeUserMessage(message)
		}
	}
	m.dispatcher.schedule(m)
}

// take returns the next message and the queue that it was in. Where there is none it returns nil, and the next that comes has the mailbox run again.
func (m *mailbox) take() (any, *queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.system.len() > 0 {
		message := m.system.pop()
		switch message.(type) {
		case *actor.SuspendMailbox:
			m.suspended = true
		case *actor.ResumeMailbox:
			m.suspended = false
		default:
			return message, &m.system
		}
	}
	if m.user.len() > 0 && !m.suspended {
		return m.user.pop(), &m.user
	}
	m.scheduled = false
	return nil, nil
}

// queue has messages in order. The only one of a queue needs no memory besides, and an empty queue keeps none.
type queue struct {
	first any // nil: what is oldest is in rest
	rest  fifo[any]
}

func (q *queue) len() int {
	if q.first == nil {
		return q.rest.len()
	}
	return 1 + q.rest.len()
}

func (q *queue) push(message any) {
	if q.len() == 0 {
		q.first = message
		return
	}
	q.rest.push(message)
}

// pop takes the oldest message; there must be one.
func (q *queue) pop() (message any) {
	if q.first != nil {
		message, q.first = q.first, nil
		return message
	}
	if message = q.rest.pop(); q.rest.len() == 0 {
		q.rest = fifo[any]{}
	}
	return message
}
