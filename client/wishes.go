package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

// wish is what the app wants the server to know.
type wish struct {
	device     *Device // compared by address: the same one registered again is another
	background bool
	unread     uint32
	logout     bool
}

// wishes keep the last wish, for the connection of now and those to come.
type wishes struct {
	mu      sync.Mutex
	now     wish
	changed chan struct{} // has one place: now is another
}

// Register gives the device another token, or registers it again. OnDevice is told the answer.
func (l *Listener) Register(d Device) { l.wishes.change(func(now *wish) { now.device = &d }) }

// Background tells that the app is not in front; unread is the base of the badge.
func (l *Listener) Background(unread uint32) {
	l.wishes.change(func(now *wish) { now.background, now.unread = true, unread })
}

// Foreground tells that the app is in front, where it is at first.
func (l *Listener) Foreground() {
	l.wishes.change(func(now *wish) { now.background, now.unread = false, 0 })
}

// Logout ends the session and takes back the device's registration: the vendor notifies it no more. No message is handed
// over from now on. Run returns nil once the server has taken it; where there is no connection it makes one first.
func (l *Listener) Logout() { l.wishes.change(func(now *wish) { now.logout = true }) }

func (w *wishes) change(f func(now *wish)) {
	w.mu.Lock()
	f(&w.now)
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *wishes) wanted() wish {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// frames are what a server that knows of told must hear.
func (w *wish) frames(told wish) []frame.Client {
	var frames []frame.Client
	if w.device != nil && w.device != told.device {
		frames = append(frames, w.device)
	}
	switch {
	case w.background && (!told.background || w.unread != told.unread):
		frames = append(frames, &frame.Background{Unread: w.unread})
	case !w.background && told.background:
		frames = append(frames, &frame.Foreground{})
	}
	if w.logout {
		frames = append(frames, &frame.Logout{})
	}
	return frames
}

// tell sends what the app wants, and heartbeats, until ctx ends, the user has logged out, or a
// write fails, which the reader notices too.
func (l *Listener) tell(ctx context.Context, heartbeat time.Duration) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	pause := backoff{least: l.cfg.MinBackoff, most: l.cfg.MaxBackoff}
	var told wish // a session begins in the foreground, without a device
	var retry <-chan time.Time
	for {
		now := l.wishes.wanted()
		for _, f := range now.frames(told) {
			if l.send(ctx, f) != nil {
				return
			}
		}
		if told = now; told.logout {
			return
		}
		select {
		case <-l.wishes.changed:
		case <-l.again:
			retry = time.After(pause.next())
		case <-retry:
			told.device = nil
		case <-beat.C:
			if l.send(ctx, &frame.Ping{}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// registered takes the answer to a registration.
func (l *Listener) registered(f *frame.Device) {
	var err error
	if !f.OK {
		err = &crier.Error{Code: f.Code, Info: f.Text}
	}
	if errors.Is(err, crier.CodeTimeout) || errors.Is(err, crier.CodeInternal) {
		select {
		case l.again <- struct{}{}:
		default:
		}
	}
	if l.cfg.OnDevice != nil {
		l.cfg.OnDevice(err)
	}
}

// loggedOut reports whether a connection ended because the user wanted it.
func (l *Listener) loggedOut(err error) bool {
	closed, ok := errors.AsType[*CloseError](err)
	return ok && closed.Reason == crier.CloseByClient && l.wishes.wanted().logout
}
