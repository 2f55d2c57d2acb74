package actors

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// reattachWithin is how long a session looks for its user actor after that one has ended.
	reattachWithin = 10 * time.Second
	// reattachJitter spreads the sessions of a partition that has moved.
	reattachJitter = 500 * time.Millisecond
)

// session is the actor of one connection, on the node that terminates it.
type session struct {
	service   *Service
	login     *crier.Login
	partition crier.PartitionID // of its account
	conn      crier.Conn
	user      *actor.PID
	term      uint64            // that the partition was led in when user let the session in
	cursor    uint64            // the last message that was handed to the connection
	unacked   []uint64          // kept messages that were handed to it and are not acknowledged, ascending
	acks      []uint64          // taken from unacked while there was no user actor
	held      []*crier.Delivery // came before begin
	begun     bool              // Connect has returned
	state     *moveSession      // what the client said last of foreground and background
	forgotten *actor.PID        // a user actor that has lost the session, while none had let it in
	ending    bool
	device    *sessionDevice     // nil: the client has given none
	cancel    context.CancelFunc // of an attempt to attach again
}

// begin lets messages through: Connect returns.
type begin attached

// reattached is the end of an attempt to attach again.
type reattached struct {
	attached
	err error
}

// ledAnew is that the partition has another leader, or the same one once more.
type ledAnew struct{}

// appDisabled is that some app was disabled: the session looks whether it is its own.
type appDisabled struct{}

// closed is the end of the connection.
type closed struct{}

// registerDevice is what the client said of its device.
type registerDevice struct {
	device crier.Device
	done   func(error)
}

// logout is the client's last word.
type logout struct{}

// Receive takes one message.
func (s *session) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.service.metrics.sessionGauge(s.login.Platform).Inc()
		s.service.sessions.add(s.partition, ctx.Self())
	case *actor.Stopped:
		s.service.metrics.sessionGauge(s.login.Platform).Dec()
		s.service.sessions.remove(s.partition, ctx.Self())
		if s.cancel != nil {
			s.cancel()
		}
	case begin:
		s.onBegin(ctx, attached(m))
	case *crier.Delivery:
		s.onDelivery(ctx, m)
	case acknowledge:
		s.onAcknowledge(ctx, m)
	case moveSession:
		s.onMove(ctx, m)
	case registerDevice:
		s.onRegisterDevice(m)
	case logout:
		s.onLogout(ctx)
	case closeSession:
		s.close(ctx, m.reason)
	case appDisabled:
		s.onAppDisabled(ctx)
	case closed:
		s.onClosed(ctx)
	case *actor.Terminated:
		s.onUserGone(ctx, m.Who)
	case sessionForgotten:
		s.onUserGone(ctx, m.user)
	case ledAnew:
		s.onLedAnew(ctx)
	case reattached:
		s.onReattached(ctx, m)
	default:
		unknownMessage(ctx, s.service.metrics)
	}
}

func (s *session) onBegin(ctx actor.Context, at attached) {
	s.begun = true
	s.enter(ctx, at)
	for _, d := range s.held {
		s.onDelivery(ctx, d)
	}
	s.held = nil
	s.look(ctx)
}

// enter takes a user actor that has let the session in, and tells it that somebody is there: this may come long after the session had asked. Where the client
// is gone by now, it may have logged in again already. The app may have been disabled here before the user actor's node has learned of it.
func (s *session) enter(ctx actor.Context, at attached) {
	s.user, s.term = at.user, at.term
	if s.conn.Gone() {
		s.onClosed(ctx)
		return
	}
	if s.onAppDisabled(ctx); s.ending {
		return
	}
	ctx.Watch(s.user)
	ctx.Send(s.user, confirmSession{s.login.Session})
}

// onAppDisabled ends the session if its app is disabled.
func (s *session) onAppDisabled(ctx actor.Context) {
	if s.service.disabled(s.login.App) {
		s.close(ctx, crier.CloseDisabled)
	}
}

// onDelivery hands a message to the connection, which has its own bounded queue.
func (s *session) onDelivery(ctx actor.Context, d *crier.Delivery) {
	switch {
	case !s.begun:
		s.held = append(s.held, d) // kept ones in flight, and online ones of the moment until begin comes
	case d.Seq > s.cursor:
		s.cursor = d.Seq
		s.conn.Deliver(d)
		if d.Kept {
			s.unacked = append(s.unacked, d.Seq)
		}
		if !d.FromMailbox {
			s.service.metrics.latency.Observe(time.Since(d.Accepted).Seconds())
		}
	case d.Kept && !slices.Contains(s.unacked, d.Seq): // acknowledged to a user actor that is gone, or does not know it any more
		s.acks = append(s.acks, d.Seq)
		s.sendAcks(ctx)
	}
}

// onAcknowledge hands an acknowledgement to the user actor, or keeps it until there is
// one: what was sent before a partition moved is known to the session alone. Only what was sent and not acknowledged is kept, since a client may
// acknowledge whatever it likes.
func (s *session) onAcknowledge(ctx actor.Context, m acknowledge) {
	acked := m.take(&s.unacked)
	if s.user == nil {
		s.acks = append(s.acks, acked...) // bounded by what was delivered
		return
	}
	ctx.Send(s.user, m)
}

// sendAcks tells the user actor what was kept for it. The request to attach may have gone before, and have named these as not acknowledged.
func (s *session) sendAcks(ctx actor.Context) {
	if s.user == nil || len(s.acks) == 0 {
		return
	}
	ctx.Send(s.user, acknowledge{session: s.login.Session, seqs: s.acks})
	s.acks = nil
}

// onMove tells where the app is.
func (s *session) onMove(ctx actor.Context, m moveSession) {
	s.state = &m
	s.toUser(ctx, m)
	if s.device != nil {
		s.device.move(m.background, m.unread)
	}
}

func (s *session) onRegisterDevice(m registerDevice) {
	if s.device == nil {
		s.device = &sessionDevice{service: s.service, login: s.login}
		if s.state != nil {
			s.device.move(s.state.background, s.state.unread)
		}
	}
	s.device.register(m)
}

// onLogout ends the session for good: its device gets nothing any more, also where its registration is under way.
func (s *session) onLogout(ctx actor.Context) {
	if s.device != nil {
		s.device.leave()
	}
	s.onClosed(ctx)
}

func (s *session) toUser(ctx actor.Context, msg any) {
	if s.user != nil {
		ctx.Send(s.user, msg)
	}
}

// close ends the session, and tells the client why.
func (s *session) close(ctx actor.Context, reason crier.CloseReason) {
	s.conn.Close(reason)
	s.onClosed(ctx)
}

func (s *session) onClosed(ctx actor.Context) {
	if s.ending {
		return
	}
	s.ending = true
	s.toUser(ctx, detachSession{s.login.Session})
	ctx.Stop(ctx.Self())
}

// onPanic is mortal's: the client connects anew.
func (s *session) onPanic(ctx actor.Context) {
	s.conn.Close(crier.CloseInternal)
	ctx.Stop(ctx.Self())
}

// onUserGone attaches again: the partition has moved, or was restarted, or has lost the session.
func (s *session) onUserGone(ctx actor.Context, who *actor.PID) {
	switch {
	case s.ending:
	case s.user == nil: // its answer is on the way, maybe
		s.forgotten = who
	case s.user.Equal(who):
		s.attachAgain(ctx)
	}
}

// onLedAnew attaches again where the user actor was one of a term that is over. Its end may never be told: between two nodes each direction has its own
// connection, and one that broke takes with it what this node is not told of.
func (s *session) onLedAnew(ctx actor.Context) {
	if !s.ending && s.user != nil && s.term != 0 && s.service.dir.Term(s.partition) > s.term { // 0: its node is older, and does not tell
		ctx.Unwatch(s.user)
		s.attachAgain(ctx)
	}
}

func (s *session) attachAgain(ctx actor.Context) {
	s.user, s.forgotten = nil, nil
	self, root := ctx.Self(), ctx.ActorSystem().Root
	c, cancel := context.WithTimeout(context.Background(), reattachWithin)
	s.cancel = cancel
	m := attachSession{s.login, self, s.cursor, slices.Clone(s.unacked), true}
	go func() { // ends with c
		defer cancel()
		select {
		case <-time.After(rand.N(reattachJitter)):
		case <-c.Done():
		}
		answer, err := s.service.dir.Request(c, crier.KindUser, crier.UserIdentity(s.login.App, s.login.User), m)
		r := reattached{err: err}
		if a, ok := answer.(attached); ok {
			r.attached = a
		}
		root.Send(self, r)
	}()
}

func (s *session) onReattached(ctx actor.Context, m reattached) {
	switch {
	case s.ending:
	case errors.Is(m.err, crier.CodeAppDisabled) && s.service.disabled(s.login.App): // here too: one of the nodes may be behind
		s.close(ctx, crier.CloseDisabled)
	case errors.Is(m.err, crier.CodeAccountMissing): // its client would create the account by another login
		s.close(ctx, crier.CloseDeleted)
	case m.err != nil || m.user == nil:
		s.service.log.Debug("a session could not attach again", "err", m.err)
		s.close(ctx, crier.CloseMoved)
	default:
		s.enter(ctx, m.attached)
		if s.state != nil {
			ctx.Send(m.user, *s.state)
		}
		s.sendAcks(ctx)
		s.look(ctx)
	}
}

// look takes what came while the session was let in.
func (s *session) look(ctx actor.Context) {
	if s.forgotten != nil {
		s.onUserGone(ctx, s.forgotten)
	}
	s.onLedAnew(ctx)
}

// sessionHandle is what the gateway holds of a session. It implements crier.Session.
type sessionHandle struct {
	root outbox
	pid  *actor.PID
	id   crier.SessionID
}

// Acknowledge tells the user actor what the receiver has.
func (h sessionHandle) Acknowledge(seqs []uint64, cumulative bool) {
	h.root.Send(h.pid, acknowledge{h.id, seqs, cumulative})
}

// Foreground tells that the app is in front.
func (h sessionHandle) Foreground() { h.root.Send(h.pid, moveSession{session: h.id}) }

// Background tells that the app is not in front; unread is the badge base.
func (h sessionHandle) Background(unread int) {
	h.root.Send(h.pid, moveSession{session: h.id, background: true, unread: unread})
}

// RegisterDevice is crier.Session's.
func (h sessionHandle) RegisterDevice(d crier.Device, done func(error)) {
	h.root.Send(h.pid, registerDevice{d, done})
}

// Logout is crier.Session's.
func (h sessionHandle) Logout() { h.root.Send(h.pid, logout{}) }

// Closed ends the session.
func (h sessionHandle) Closed(crier.CloseReason) { h.root.Send(h.pid, closed{}) }
