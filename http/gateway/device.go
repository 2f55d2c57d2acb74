package gateway

import (
	"sync"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

// register hands a device to the session. The answer follows when the session has
// one, and at the latest after RegisterTimeout. Another registration is not taken before it:
// the answers name no device, so their order must tell.
func (c *conn) register(f *frame.RegisterDevice) {
	if !c.waitForAnswer() {
		return
	}
	d := crier.Device{
		Vendor: f.Vendor, Token: f.Token, Target: f.Target, Sandbox: f.Sandbox, Platform: c.platform, Language: f.Language,
	}
	if err := d.Validate(); err != nil { // whether the token is one of the vendor is for the session to judge
		c.answer(err)
		return
	}
	answered := make(chan struct{})
	c.answered = answered
	var once sync.Once
	done := func(err error) {
		once.Do(func() {
			c.answer(err)
			close(answered)
		})
	}
	timer := time.AfterFunc(c.gw.cfg.RegisterTimeout, func() {
		done(&crier.Error{Code: crier.CodeTimeout, Info: "the registration could not be finished in time, try again"})
	})
	c.session.RegisterDevice(d, func(err error) {
		timer.Stop()
		done(err)
	})
}

// waitForAnswer blocks the reader until no registration is under way. false: the connection ends.
func (c *conn) waitForAnswer() bool {
	if c.answered == nil {
		return true
	}
	select {
	case <-c.answered:
	case <-c.out.done:
		return false
	}
	c.heard() // it was not the client that was silent
	return !c.out.ending()
}

// answer tells what became of a registration. Safe for concurrent use; after the end of the connection it does nothing.
func (c *conn) answer(err error) {
	f := &frame.Device{OK: true}
	if err != nil {
		e := crier.AsError(err)
		f = &frame.Device{Code: e.Code, Text: e.Info}
		if e.Code == crier.CodeInternal || e.Code == crier.CodeTimeout {
			c.gw.log.Warn("a device could not be registered", "app", c.app, "session", c.id, "code", int(e.Code), "err", err)
		}
	}
	c.gw.metrics.registered(f.Code)
	c.out.push(c.encode(f))
}

// logOut ends the session for good. The connection closes first, so that nothing
// is delivered any more once the session knows.
func (c *conn) logOut() {
	c.out.cut(crier.CloseByClient)
	c.session.Logout()
}
