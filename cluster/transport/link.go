package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	// idleLink is after how long without a call a link that is down is given up: the node may
	// have left for good.
	idleLink = time.Minute
)

// link keeps this node's connection to one peer: it dials until it is up, and again when it is lost.
// Safe for concurrent use.
type link struct {
	mux     *Mux
	peer    string
	traffic *traffic
	log     *slog.Logger
	poked   chan struct{} // the peer has shown up: dial now

	mu      sync.Mutex
	known   bool          // there was a connection, in either direction
	out     *outbound     // nil while down
	gathers *round        // heartbeats that wait for the next beat; nil: none
	goesOn  *round        // those of the last beat, which go with the next one too; nil: none
	tried   bool          // a first attempt has ended
	err     error         // of the last attempt
	change  chan struct{} // closed when one of these changes
	wanted  time.Time     // by the last call
	gone    bool          // given up
}

func newLink(m *Mux, peer string) *link {
	return &link{
		mux: m, peer: peer, traffic: m.metrics.peer(peer), log: m.log.With("peer", peer),
		poked: make(chan struct{}, 1), change: make(chan struct{}), wanted: time.Now(),
	}
}

// lost tells the link that the peer's own connection has broken: the next attempt, which begins now, tells whether it has died.
func (l *link) lost() {
	l.mu.Lock()
	l.known = true
	l.mu.Unlock()
	l.poke()
}

// poke ends the pause before the next attempt.
func (l *link) poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// now returns the connection, or fails at once where there is none. Only a link's first attempt is waited for.
func (l *link) now(cancel <-chan struct{}) (*outbound, error) {
	return l.get(time.Now().Add(l.mux.cfg.PeerTimeout), cancel, func() bool { return l.tried })
}

// wait returns the connection as soon as there is one, until the deadline, or cancel is closed.
func (l *link) wait(deadline time.Time, cancel <-chan struct{}) (*outbound, error) {
	return l.get(deadline, cancel, func() bool { return false })
}

// get waits for the connection while enough, which is called with the lock, does not say that it has waited enough.
func (l *link) get(deadline time.Time, cancel <-chan struct{}, enough func() bool) (*outbound, error) {
	var expired <-chan time.Time
	for {
		l.mu.Lock()
		out, err, change, stop := l.out, l.err, l.change, enough() || l.gone
		l.wanted = time.Now()
		l.mu.Unlock()
		if out != nil {
			return out, nil
		}
		if stop {
			return nil, linkDown(l.peer, err)
		}
		if expired == nil {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-change:
		case <-cancel:
			return nil, ErrClosed
		case <-expired:
			return nil, linkDown(l.peer, errors.Join(ErrTimeout, err))
		}
	}
}

// set tells those who wait what has become of the link.
func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.change)
	l.change = make(chan struct{})
}

// run keeps the link until ctx ends, or nobody has wanted it for long.
func (l *link) run(ctx context.Context) {
	pause, logged := firstPause, false
	for ctx.Err() == nil && !l.giveUp() {
		began := time.Now()
		up, err := l.attempt(ctx)
		if ctx.Err() != nil {
			break
		}
		l.traffic.failures.Inc()
		if errors.Is(err, syscall.ECONNREFUSED) && l.mux.cfg.Refused != nil && l.wasUp() {
			l.mux.cfg.Refused(l.peer)
		}
		if up && time.Since(began) > lastPause {
			pause = firstPause
		}
		if up || !logged {
			l.log.Warn("no link to a node", "was_up", up, "err", err)
		}
		logged = true
		select {
		case <-ctx.Done():
		case <-l.poked:
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, lastPause)
	}
	l.set(func() { l.gone, l.err = true, ErrClosed })
}

// attempt dials, and keeps the connection while it lasts. It reports whether there was one.
func (l *link) attempt(ctx context.Context) (up bool, err error) {
	c, err := l.mux.dial(ctx, l.peer, forLink)
	if err != nil {
		l.set(func() { l.tried, l.err = true, err })
		return false, err
	}
	out := newOutbound(newConn(c, l.mux.cfg.PeerTimeout, max(l.mux.cfg.Coalesce, 0), l.traffic), l.mux.cfg.NodeID, l.peer)
	stop := context.AfterFunc(ctx, func() { out.fail(ErrClosed) })
	defer stop()
	l.set(func() { l.tried, l.known, l.out, l.err = true, true, out, nil })
	l.traffic.up.Set(1)
	l.log.Info("a link to a node is up", "addr", c.RemoteAddr().String())
	var writer sync.WaitGroup
	writer.Go(out.writeLoop)
	err = out.readLoop(out.answer)
	l.traffic.up.Set(0)
	l.set(func() { l.out, l.err = nil, err })
	l.beat() // fails what waits
	out.failAll()
	writer.Wait()
	return true, err
}

// wasUp reports whether there has been a connection to the peer, or from it.
func (l *link) wasUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// giveUp withdraws a link that nobody wants any more.
func (l *link) giveUp() bool {
	m := l.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.wanted) < idleLink {
		return false
	}
	delete(m.links, l.peer)
	l.gone = true
	return true
}
