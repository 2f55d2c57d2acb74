package actors

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

const (
	// DefaultIdle is how long a user actor without a session stays.
	DefaultIdle = 30 * time.Second
	// mailboxPage is how many messages are read from the mailbox at a time.
	mailboxPage = 32
	// fromMailbox and fromLive are the labels of deliveries.
	fromMailbox, fromLive = "mailbox", "live"
	// inFlightMost and inFlightBytes bound the kept messages in flight of a session, the bytes by the largest body that the app allows. They are half of
	// what a connection's queue takes by default, in frames and in bytes: a frame has the texts of its notification beside the elements.
	inFlightMost  = 256
	inFlightBytes = 512 << 10
	// onlineMost bounds the messages for online accounts that wait while a session catches up with
	// its mailbox. One more, and the session is closed as slow: they would be lost in silence.
	onlineMost = 256
)

// user is the actor of one account while it has sessions. It delivers to each
// in the order of the campaigns, and takes their acknowledgements.
type user struct {
	*Deps    // of the partition
	key      userKey
	parent   *actor.PID
	ordinal  uint32
	sessions []*userSession
	recorder *recorder
	entering int            // logins whose account is being created, and sessions whose account was not there
	attaches int            // attachSession that it has taken
	changing sync.WaitGroup // commands under way
}

// userSession is what a user knows of one of its sessions.
type userSession struct {
	login      *crier.Login
	pid        *actor.PID
	since      time.Time
	background bool
	unread     int
	// cursor is the last campaign that was sent, or passed over.
	cursor uint64
	// unacked are the kept messages that were sent and not acknowledged, ascending.
	unacked []uint64
	// mailboxTo is the last campaign that came from the mailbox: what is acknowledged up to it came later than live.
	mailboxTo uint64
	// confirmed: its connection is in use. Who has asked to be let in may be gone long since, or never learn that it was.
	confirmed bool
	// caughtUp: the mailbox has nothing over cursor; new kept messages are sent as they come.
	caughtUp bool
	// waiting are messages for online accounts that came before the session had caught up, ascending.
	waiting []*crier.Delivery
}

// stateOf is the state of a session.
func stateOf(background bool) crier.PresenceState {
	if background {
		return crier.PushOnline
	}
	return crier.Online
}

// loginDone continues a login whose account has been created, or a session whose account was not there.
type loginDone struct {
	attach attachSession
	sender *actor.PID
	err    error
}

// Receive takes one message.
func (u *user) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		u.Metrics.users.Inc()
		ctx.SetReceiveTimeout(u.Idle)
	case *actor.Stopped:
		u.changing.Wait()
		u.Metrics.users.Dec()
	case *actor.ReceiveTimeout:
		if u.entering > 0 {
			ctx.SetReceiveTimeout(u.Idle)
		} else if len(u.sessions) == 0 {
			ctx.Send(u.parent, passivate{u.key, ctx.Self(), u.attaches})
			ctx.SetReceiveTimeout(u.Idle) // it may have to go on, and asks again
		}
	case *actor.Terminated:
		u.onTerminated(ctx, m)
	case attachSession:
		u.attaches++
		u.onAttach(ctx, m)
	case loginDone:
		u.onLoginDone(ctx, m)
	case *deliver:
		u.onDeliver(ctx, m.delivery)
	case acknowledge:
		u.onAcknowledge(ctx, m)
	case moveSession:
		u.onMove(ctx, m)
	case confirmSession:
		u.onConfirm(ctx, m)
	case sessionMissing:
		u.onSessionGone(ctx, func(s *userSession) bool { return s.pid.Equal(m.session) })
	case detachSession:
		u.onSessionGone(ctx, func(s *userSession) bool { return s.login.Session == m.session })
	case endSessions:
		u.onEnd(ctx, m.reason)
	default:
		unknownMessage(ctx, u.Metrics)
	}
}

// onPanic is mortal's: sessions attach again, to another actor.
func (u *user) onPanic(ctx actor.Context) {
	ctx.Send(u.parent, userFailed{u.key, ctx.Self()})
	ctx.Stop(ctx.Self())
}

// onAttach is a login, or a session that was there before. A login creates an account that does not exist yet. For another session such an account was
// deleted, unless this node does not lead any more and has never learned of it: that is verified first.
func (u *user) onAttach(ctx actor.Context, m attachSession) {
	accounts, err := u.Replica.Accounts(u.key.app, []crier.UserID{u.key.user})
	if err != nil {
		ctx.Respond(failed{err})
		return
	}
	if accounts[0] != nil {
		u.enter(ctx, m, ctx.Sender(), accounts[0])
		return
	}
	u.entering++
	sender, self, root := ctx.Sender(), ctx.Self(), ctx.ActorSystem().Root
	u.changing.Go(func() {
		c, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		var err error
		if m.again {
			err = u.Replica.Verify(c)
		} else {
			err = u.Replica.ChangeAccounts(c, u.key.app, []crier.Change{{Op: crier.OpLogin, User: u.key.user}})
		}
		root.Send(self, loginDone{m, sender, err})
	})
}

func (u *user) onLoginDone(ctx actor.Context, m loginDone) {
	u.entering--
	accounts, err := u.Replica.Accounts(u.key.app, []crier.UserID{u.key.user})
	switch {
	case m.err != nil:
		ctx.Send(m.sender, failed{m.err})
	case err != nil:
		ctx.Send(m.sender, failed{err})
	case accounts[0] == nil && u.behind(&m.attach):
		ctx.Send(m.sender, failed{&crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text()}})
	case accounts[0] == nil: // deleted before, or in between
		ctx.Send(m.sender, failed{crier.Errorf(crier.CodeAccountMissing, "account %s was deleted", crier.Quote(string(u.key.user)))})
	default:
		u.enter(ctx, m.attach, m.sender, accounts[0])
	}
}

// enter takes the session in. The partition learns of it before the mailbox is
// read, so that a campaign is either in what is read or delivered live, or both, and
// then the cursor tells.
func (u *user) enter(ctx actor.Context, m attachSession, sender *actor.PID, account *crier.Account) {
	app := u.System.App(u.key.app)
	switch {
	case app == nil: // the node of the connection knew it, this one is behind
		ctx.Send(sender, failed{&crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text()}})
		return
	case app.Disabled:
		ctx.Send(sender, failed{crier.Errorf(crier.CodeAppDisabled, "app %d is disabled", u.key.app)})
		return
	}
	if err := account.CheckSig(m.login.SigTime); err != nil {
		ctx.Send(sender, failed{err})
		return
	}
	if u.behind(&m) {
		ctx.Send(sender, failed{&crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text()}})
		return
	}
	u.ordinal = account.Ordinal
	ctx.CancelReceiveTimeout()
	s := u.add(&m)
	ctx.Watch(m.session)
	if m.again {
		u.settle(ctx, s, &m)
	}
	u.tellPartition(ctx)
	ctx.Send(sender, attached{ctx.Self(), u.Term})
	u.see(account.DeviceOf(m.login.Platform))
	u.catchUp(ctx, s)
}

// behind reports whether the session was sent what this partition does not know: this node does not lead any more, or the partition was recovered and has lost campaigns.
func (u *user) behind(m *attachSession) bool {
	return m.again && m.cursor > u.Replica.LastCampaign(u.key.app)
}

// settle takes for acknowledged what the mailbox still has although the session was sent it and waits for no acknowledgement: that one was lost, with the link to
// the leader or with the leader before it was in the log.
func (u *user) settle(ctx actor.Context, s *userSession, m *attachSession) {
	for after := uint64(0); ; {
		page, err := u.Replica.Mailbox(u.key.app, u.ordinal, after, mailboxPage)
		if err != nil {
			return // catchUp fails too, and says so
		}
		for _, c := range page {
			if c.Seq > m.cursor {
				return
			}
			if after = c.Seq; m.has(c.Seq) && c.Expires().After(time.Now()) {
				u.acknowledged(ctx, s, c.Seq)
			}
		}
		if len(page) < mailboxPage {
			return
		}
	}
}

// has reports whether the client has acknowledged a kept message that waited for it, as far as the session knew.
func (m *attachSession) has(seq uint64) bool {
	return seq <= m.cursor && !slices.Contains(m.unacked, seq)
}

// acknowledged notes that the account has a message.
func (u *user) acknowledged(ctx actor.Context, s *userSession, seq uint64) {
	u.record(seq, s, false, true)
	ctx.Send(u.parent, acknowledged{u.key.app, crier.Ack{Seq: seq, Ordinal: u.ordinal, Later: seq <= s.mailboxTo}})
}

// see notes that a device is in use, if that was noted long ago.
func (u *user) see(d *crier.Device) {
	if d == nil || time.Since(d.LastSeen) < crier.SeenEvery {
		return
	}
	seen := crier.Change{Op: crier.OpSeeDevice, User: u.key.user, Device: &crier.Device{Vendor: d.Vendor, Token: d.Token}}
	u.changing.Go(func() {
		c, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		if err := u.Replica.ChangeAccounts(c, u.key.app, []crier.Change{seen}); err != nil {
			u.Logger.Debug("that a device was seen can't be stored", "err", err)
		}
	})
}

// add puts a session behind those that came before it. One that attaches again was there before others logged in, for all that this actor knows. Logins
// of one running client stand in the order in which it has made them, whatever came when. If the session is there already, it stays as it is, but for what it is known to have acknowledged: its request came twice, and this is the older one, or
// its node has lost the link to this one, and acknowledgements on it.
func (u *user) add(m *attachSession) *userSession {
	if s := u.find(m.login.Session); s != nil {
		s.unacked = slices.DeleteFunc(s.unacked, m.has)
		return s
	}
	s := &userSession{login: m.login, pid: m.session, since: time.Now(), cursor: m.cursor, unacked: m.unacked}
	at := len(u.sessions)
	if m.again {
		at = 0
	}
	for i, other := range u.sessions {
		switch {
		case s.login.Instance == "" || other.login.Instance != s.login.Instance:
		case other.login.Attempt < s.login.Attempt:
			at = max(at, i+1)
		default:
			at = min(at, i)
		}
	}
	u.sessions = slices.Insert(u.sessions, at, s)
	return s
}

// onConfirm closes the sessions that the app's policy does not allow beside a later one that is in use.
func (u *user) onConfirm(ctx actor.Context, m confirmSession) {
	s, app := u.find(m.session), u.System.App(u.key.app)
	if s == nil || app == nil {
		return
	}
	s.confirmed = true
	replaced := make(map[*userSession]bool)
	for i, earlier := range u.sessions {
		replaced[earlier] = slices.ContainsFunc(u.sessions[i+1:], func(later *userSession) bool { return later.confirmed && !beside(app, earlier, later) })
	}
	newest := 0 // of those up to this one
	for _, earlier := range slices.Backward(u.sessions[:slices.Index(u.sessions, s)+1]) {
		if replaced[earlier] {
			continue
		}
		if newest++; app.Limits.SessionsPerUser > 0 && newest > app.Limits.SessionsPerUser {
			replaced[earlier] = true
		}
	}
	for _, gone := range u.sessions {
		if replaced[gone] {
			u.Fanout.Send(ctx, gone.pid, closeSession{crier.CloseReplaced})
		}
	}
	u.onSessionGone(ctx, func(s *userSession) bool { return replaced[s] })
}

// beside reports whether the app's policy allows two sessions of one account at a time.
func beside(app *crier.App, a, b *userSession) bool {
	switch app.Sessions {
	case crier.OnePerAccount:
		return false
	case crier.ManySessions:
		return true
	default:
		return a.login.Platform != b.login.Platform
	}
}

func (u *user) tellPartition(ctx actor.Context) {
	m := sessionsChanged{user: u.key, pid: ctx.Self(), ordinal: u.ordinal}
	for _, s := range u.sessions {
		m.sessions = append(m.sessions, crier.SessionPresence{
			ID: s.login.Session, Node: s.login.Node, Platform: s.login.Platform, State: stateOf(s.background), Since: s.since,
		})
	}
	if len(u.sessions) == 0 {
		ctx.SetReceiveTimeout(u.Idle)
	}
	ctx.Send(u.parent, m)
}

// catchUp sends what the mailbox has over the session's cursor, as far as the
// bound of unacknowledged messages allows.
func (u *user) catchUp(ctx actor.Context, s *userSession) {
	for !s.caughtUp {
		room := u.inFlight() - len(s.unacked)
		if room <= 0 {
			return
		}
		limit := min(room, mailboxPage)
		page, err := u.Replica.Mailbox(u.key.app, u.ordinal, s.cursor, limit)
		if err != nil {
			u.Logger.Error("a mailbox can't be read", slog.Uint64("app", uint64(u.key.app)), slog.Any("err", err))
			u.drop(ctx, s, crier.CloseInternal)
			return
		}
		s.caughtUp = len(page) < limit
		for _, c := range page {
			u.sendWaiting(ctx, s, c.Seq)
			if c.Expires().After(time.Now()) {
				d := crier.NewDelivery(c, u.language())
				d.FromMailbox = true
				u.send(ctx, s, d)
			}
			s.cursor = max(s.cursor, c.Seq)
		}
	}
	u.sendWaiting(ctx, s, 1<<63)
}

// inFlight is how many kept messages a session may have unacknowledged: no more than the queue of its connection takes, however slow that is. One over, and the connection would be
// closed for it, and the next one too.
func (u *user) inFlight() int {
	app, most := u.System.App(u.key.app), inFlightMost
	if app == nil {
		return most
	}
	if n := app.Limits.InFlightMessages; n > 0 {
		most = min(most, n)
	}
	if n := app.Limits.PushBodyBytes; n > 0 {
		most = max(1, min(most, inFlightBytes/n))
	}
	return most
}

func (u *user) language() crier.Language {
	if app := u.System.App(u.key.app); app != nil {
		return app.Language
	}
	return ""
}

// sendWaiting sends the messages for online accounts whose place is before seq.
func (u *user) sendWaiting(ctx actor.Context, s *userSession, before uint64) {
	for len(s.waiting) > 0 && s.waiting[0].Seq < before {
		d := s.waiting[0]
		s.waiting = s.waiting[1:]
		if d.Seq > s.cursor {
			u.send(ctx, s, d)
		}
	}
}

// send hands one message to a session, and moves its cursor.
func (u *user) send(ctx actor.Context, s *userSession, d *crier.Delivery) {
	s.cursor = d.Seq
	if d.Kept {
		s.unacked = append(s.unacked, d.Seq)
	}
	from := fromLive
	if d.FromMailbox {
		from, s.mailboxTo = fromMailbox, d.Seq
	}
	u.record(d.Seq, s, d.FromMailbox, false)
	u.Metrics.deliveries[from].Inc()
	u.Fanout.Send(ctx, s.pid, d)
}

// record keeps what went over a connection, for explanations.
func (u *user) record(seq uint64, s *userSession, mailbox, acknowledged bool) {
	u.recorder.add(campaignKey{u.key.app, seq}, sending{
		at: time.Now().UnixMilli(), login: s.login, ordinal: u.ordinal, background: s.background, mailbox: mailbox, acknowledged: acknowledged,
	})
}

// onDeliver is a campaign that has just matched the account.
func (u *user) onDeliver(ctx actor.Context, d *crier.Delivery) {
	var slow []*userSession
	for _, s := range u.sessions {
		switch {
		case d.Seq <= s.cursor: // was in what the mailbox gave
		case s.caughtUp && (!d.Kept || len(s.unacked) < u.inFlight()):
			u.send(ctx, s, d)
		case d.Kept:
			s.caughtUp = false // it is in the mailbox; an acknowledgement will make room
		case len(s.waiting) >= onlineMost:
			slow = append(slow, s)
		default:
			i, _ := slices.BinarySearchFunc(s.waiting, d.Seq, func(w *crier.Delivery, seq uint64) int { return cmp.Compare(w.Seq, seq) })
			s.waiting = slices.Insert(s.waiting, i, d)
		}
	}
	for _, s := range slow {
		u.drop(ctx, s, crier.CloseSlow)
	}
}

// onAcknowledge takes the acknowledgements of messages that were sent to the
// session; others are ignored.
func (u *user) onAcknowledge(ctx actor.Context, m acknowledge) {
	s := u.find(m.session)
	if s == nil {
		return
	}
	for _, seq := range m.take(&s.unacked) {
		u.acknowledged(ctx, s, seq)
	}
	u.catchUp(ctx, s)
}

// take removes what is acknowledged from the ascending unacked, and returns it.
func (m acknowledge) take(unacked *[]uint64) (acked []uint64) {
	if len(m.seqs) == 0 {
		return nil
	}
	if m.cumulative {
		n, found := slices.BinarySearch(*unacked, slices.Max(m.seqs))
		if found {
			n++
		}
		acked = slices.Clone((*unacked)[:n])
		*unacked = slices.Delete(*unacked, 0, n)
		return acked
	}
	for _, seq := range m.seqs {
		if i, found := slices.BinarySearch(*unacked, seq); found {
			acked = append(acked, seq)
			*unacked = slices.Delete(*unacked, i, i+1)
		}
	}
	return acked
}

func (u *user) onMove(ctx actor.Context, m moveSession) {
	if s := u.find(m.session); s != nil {
		s.background, s.unread = m.background, m.unread
		u.tellPartition(ctx)
	}
}

func (u *user) onEnd(ctx actor.Context, reason crier.CloseReason) {
	for _, s := range u.sessions {
		u.Fanout.Send(ctx, s.pid, closeSession{reason})
	}
	u.sessions = nil
	u.tellPartition(ctx)
}

func (u *user) drop(ctx actor.Context, s *userSession, reason crier.CloseReason) {
	u.Fanout.Send(ctx, s.pid, closeSession{reason})
	u.onSessionGone(ctx, func(other *userSession) bool { return other == s })
}

// onTerminated is the end of a session, or of the connection to its node. The session may not have noticed that one, and live on: it is told.
func (u *user) onTerminated(ctx actor.Context, m *actor.Terminated) {
	if m.Why == actor.TerminatedReason_AddressTerminated {
		u.Fanout.Send(ctx, m.Who, sessionForgotten{ctx.Self()})
	}
	u.onSessionGone(ctx, func(s *userSession) bool { return s.pid.Equal(m.Who) })
}

func (u *user) onSessionGone(ctx actor.Context, gone func(*userSession) bool) {
	before := len(u.sessions)
	u.sessions = slices.DeleteFunc(u.sessions, gone)
	if len(u.sessions) != before {
		u.tellPartition(ctx)
	}
}

func (u *user) find(id crier.SessionID) *userSession {
	for _, s := range u.sessions {
		if s.login.Session == id {
			return s
		}
	}
	return nil
}
