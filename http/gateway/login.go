package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/usersig"
)

// received takes one frame of the client (receiver).
func (c *conn) received(binary bool, data []byte) {
	if c.out.ending() {
		return
	}
	c.gw.metrics.bytesIn.Add(float64(len(data)))
	switch {
	case binary != c.codec.Binary():
		c.refuse(crier.CloseBadFrame, 1003, crier.Errorf(crier.CodeBadJSON, "%s takes no frames of this opcode", c.codec.Subprotocol()))
		return
	case c.session == nil && len(data) > maxLoginFrame:
		c.refuse(crier.CloseBadFrame, 1009, crier.Errorf(crier.CodeBodyTooLarge, "a frame before the login is over %d bytes", maxLoginFrame))
		return
	}
	f, err := c.codec.DecodeClient(data)
	if err != nil {
		c.gw.metrics.framesIn.WithLabelValues("malformed").Inc()
		c.refuse(crier.CloseBadFrame, 0, crier.Errorf(crier.CodeBadJSON, "%v", err))
		return
	}
	c.gw.metrics.framesIn.WithLabelValues(frame.Type(f)).Inc()
	if login, ok := f.(*frame.Login); ok && c.session == nil {
		c.logIn(login)
		return
	}
	c.act(f)
}

// act does what a frame after the login says.
func (c *conn) act(f frame.Client) {
	if c.session == nil {
		c.refuse(crier.CloseBadFrame, 0, crier.Errorf(crier.CodeSigMissing, "the first frame must be a login, not %s", frame.Type(f)))
		return
	}
	if c.limiter != nil {
		// Not reading is the gentlest answer to a flood: TCP holds the client back. One frame
		// comes at a time, so that the wait is never longer than the time of one.
		time.Sleep(c.limiter.Reserve().Delay())
	}
	c.heard()
	switch f := f.(type) {
	case *frame.Ack:
		if len(f.Seqs) > 0 {
			c.session.Acknowledge(f.Seqs, f.Cumulative)
		}
	case *frame.Foreground:
		c.session.Foreground()
	case *frame.Background:
		c.session.Background(int(f.Unread))
	case *frame.Ping:
		c.out.push(c.encode(&frame.Pong{}))
	case *frame.RegisterDevice:
		c.register(f)
	case *frame.Logout:
		c.logOut()
	default:
		c.refuse(crier.CloseBadFrame, 0, crier.Errorf(crier.CodeBadJSON, "a second %s", frame.Type(f)))
	}
}

// logIn starts the session, or refuses it.
func (c *conn) logIn(f *frame.Login) {
	login, err := c.gw.authenticate(f)
	if err != nil {
		c.refuseLogin(err)
		return
	}
	ctx, cancel := context.WithTimeout(c.gw.ctx, c.gw.cfg.ConnectTimeout)
	defer cancel()
	session, err := c.gw.cfg.Hub.Connect(ctx, login, c)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		c.refuseLogin(&crier.Error{Code: crier.CodeTimeout, Info: "the login could not be finished in time, try again", Err: err})
		return
	case err != nil:
		c.refuseLogin(err)
		return
	}
	c.session, c.app, c.id, c.platform = session, login.App, login.Session, login.Platform
	c.admit()
	c.gw.metrics.login(0)
	c.gw.metrics.connections.WithLabelValues(c.codec.Subprotocol(), string(login.Platform)).Inc()
	if n := c.gw.cfg.Limits.FramesPerSecond; n > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(n), 2*n)
	}
	c.heard()
	c.out.open(c.encode(&frame.Welcome{
		Session: login.Session, Heartbeat: uint32(c.gw.cfg.Heartbeat / time.Second), Time: c.gw.cfg.Clock().UnixMilli(),
	}))
	c.gw.log.Debug("login", "ip", c.ip, "app", login.App, "session", login.Session, "platform", login.Platform,
		"client", crier.Quote(f.Client), "version", crier.Quote(f.Version))
}

// refuseLogin tells the code and ends the connection. A fault of ours asks
// the client to come again; anything else would only fail again.
func (c *conn) refuseLogin(err error) {
	e := crier.AsError(err)
	c.gw.metrics.login(e.Code)
	reason := crier.CloseAuthFailed
	switch e.Code {
	case crier.CodeInternal, crier.CodeTimeout:
		reason = crier.CloseInternal
		c.gw.log.Warn("a login failed", "code", int(e.Code), "err", err)
	case crier.CodeAppDisabled:
		reason = crier.CloseDisabled
	default:
		c.gw.admission.failed(c.ip, c.gw.cfg.Clock())
	}
	c.refuse(reason, 0, e)
}

// admit takes the connection out of those that wait for their login.
func (c *conn) admit() {
	c.admitted = true
	c.gw.admission.end(c.ip)
	c.gw.metrics.pending.Dec()
}

// authenticate checks a login frame by what this node has in memory. Errors are *crier.Error.
func (g *Gateway) authenticate(f *frame.Login) (crier.Login, error) {
	var none crier.Login
	if f.SDKAppID == 0 {
		return none, crier.Errorf(crier.CodeMissingSDKAppID, "sdkappid is missing")
	}
	user, err := crier.ParseUserID(f.Identifier)
	if err != nil {
		return none, err
	}
	if !f.Platform.Valid() {
		return none, crier.Errorf(crier.CodeBadParameter, "platform %s is unknown", crier.Quote(string(f.Platform)))
	}
	if len(f.Instance) > crier.MaxInstance {
		return none, crier.Errorf(crier.CodeBadParameter, "instance is %d bytes long, it must be %d at most", len(f.Instance), crier.MaxInstance)
	}
	ticket, err := usersig.Parse(f.UserSig)
	if err != nil {
		return none, err
	}
	app := g.cfg.Hub.App(f.SDKAppID)
	if app == nil {
		return none, crier.Errorf(crier.CodeUnknownApp, "there is no app %d", f.SDKAppID)
	}
	now := g.cfg.Clock()
	if err := ticket.Check(app.ID, user, app.Keys(now), now); err != nil {
		return none, err
	}
	if app.Disabled { // told only to who holds a key
		return none, crier.Errorf(crier.CodeAppDisabled, "app %d is disabled", f.SDKAppID)
	}
	return crier.Login{
		App: app.ID, User: user, Session: crier.SessionID(rand.Text()), Platform: f.Platform, SigTime: ticket.Time,
		Instance: f.Instance, Attempt: f.Attempt,
	}, nil
}
