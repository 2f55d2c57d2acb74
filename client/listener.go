package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

const (
	// dialTimeout bounds connecting and, again, logging in.
	dialTimeout = 15 * time.Second
	// writeTimeout bounds one write.
	writeTimeout = 10 * time.Second
	// maxMessage bounds a frame of the server, in bytes.
	maxMessage = 4 << 20
	// patience is after how many heartbeats without a word the server is given up.
	patience = 2.5
)

// instance and attempts tell which login of this process is the latest, also of receivers of one account that come one after the other.
var (
	instance = rand.Text()
	attempts atomic.Uint64
)

// Listener is one receiver: a device of an account. Run it once; the other methods may be called before and
// meanwhile, from any goroutine, and don't block. What they tell the server it is told again with every connection.
type Listener struct {
	cfg    ListenConfig
	codec  frame.Codec
	wishes wishes

	// The rest belongs to Run.
	ws     *websocket.Conn
	since  time.Time     // when the last login was accepted; zero: it was not
	sig    string        // of the last login
	stale  string        // a UserSig that the server called expired
	again  chan struct{} // a registration on this connection is to be repeated
	failed *crier.Error
}

// NewListener makes a receiver. The error names the field of the configuration.
func NewListener(cfg ListenConfig) (*Listener, error) {
	cfg, codec, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, codec: codec, wishes: wishes{changed: make(chan struct{}, 1)}}
	if cfg.Device != nil {
		l.Register(*cfg.Device)
	}
	return l, nil
}

func (l *Listener) state(s State) {
	if l.cfg.OnState != nil {
		l.cfg.OnState(s)
	}
}

// connect makes one connection and listens until it ends. The error is never nil.
func (l *Listener) connect(ctx context.Context) error {
	sig, err := l.cfg.UserSig(ctx, l.cfg.SDKAppID, l.cfg.UserID)
	if err != nil {
		return fmt.Errorf("get a UserSig: %w", err)
	}
	l.sig, l.failed = sig, nil
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ws, resp, err := websocket.Dial(dial, l.cfg.URL, &websocket.DialOptions{Subprotocols: []string{l.codec.Subprotocol()}})
	if err != nil {
		return refusal(resp, err)
	}
	defer ws.CloseNow() //nolint:errcheck // it has ended already, or is of no more use
	l.ws, l.again = ws, make(chan struct{}, 1)
	ws.SetReadLimit(maxMessage)
	heartbeat, err := l.logIn(dial)
	if err != nil {
		return l.ended(err)
	}

	telling, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { l.tell(telling, heartbeat) })
	defer group.Wait()
	defer stop()
	return l.ended(l.listen(ctx, heartbeat))
}

// refusal makes an error of an answer to the handshake that is no upgrade.
func refusal(resp *http.Response, err error) error {
	if resp == nil {
		return fmt.Errorf("connect: %w", err)
	}
	return fmt.Errorf("connect: %w", errors.Join(status(resp.StatusCode), err))
}

func (l *Listener) logIn(ctx context.Context) (heartbeat time.Duration, err error) {
	err = l.send(ctx, &frame.Login{
		SDKAppID: l.cfg.SDKAppID, Identifier: string(l.cfg.UserID), UserSig: l.sig, Platform: l.cfg.Platform,
		Client: l.cfg.Client, Version: l.cfg.Version, Instance: instance, Attempt: attempts.Add(1),
	})
	if err != nil {
		return 0, err
	}
	for {
		f, err := l.receive(ctx)
		if err != nil {
			return 0, err
		}
		switch f := f.(type) {
		case *frame.Welcome:
			l.since = time.Now()
			l.state(State{Connected: true, Session: f.Session})
			return time.Duration(max(f.Heartbeat, 1)) * time.Second, nil
		case *frame.Error:
			l.failed = &crier.Error{Code: f.Code, Info: f.Text}
		}
	}
}

// listen takes frames until there are no more.
func (l *Listener) listen(ctx context.Context, heartbeat time.Duration) error {
	for {
		read, cancel := context.WithTimeout(ctx, time.Duration(patience*float64(heartbeat)))
		f, err := l.receive(read)
		cancel()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *frame.Message:
			if err := l.take(ctx, f); err != nil {
				return err
			}
		case *frame.Device:
			l.registered(f)
		case *frame.Error:
			l.failed = &crier.Error{Code: f.Code, Info: f.Text}
		}
	}
}

// take hands over a message that was not seen before and acknowledges it. A message that is
// not kept is not acknowledged, but marked all the same: a partition that moves may send it twice.
func (l *Listener) take(ctx context.Context, m *Message) error {
	if l.wishes.wanted().logout {
		return nil // the user has gone
	}
	seen, err := l.cfg.Store.Seen(ctx, m.Task)
	if err != nil {
		return fmt.Errorf("look up task %s: %w", m.Task, err)
	}
	if !seen {
		if err := l.cfg.OnMessage(ctx, m); err != nil {
			return fmt.Errorf("handle task %s: %w", m.Task, err)
		}
		if err := l.cfg.Store.Mark(ctx, m.Task); err != nil {
			return fmt.Errorf("mark task %s: %w", m.Task, err)
		}
	}
	if !m.Kept || l.cfg.NoAck {
		return nil
	}
	// A write to a connection that the server is closing fails; what it said last is still to be read.
	_ = l.send(ctx, &frame.Ack{Seqs: []uint64{m.Seq}})
	return nil
}

func (l *Listener) send(ctx context.Context, f frame.Client) error {
	data, err := l.codec.EncodeClient(f)
	if err != nil {
		return err
	}
	kind := websocket.MessageText
	if l.codec.Binary() {
		kind = websocket.MessageBinary
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return l.ws.Write(ctx, kind, data)
}

// receive returns the next frame of a kind that is known here.
func (l *Listener) receive(ctx context.Context) (frame.Server, error) {
	for {
		_, data, err := l.ws.Read(ctx)
		if err != nil {
			return nil, err
		}
		f, err := l.codec.DecodeServer(data)
		if !errors.Is(err, frame.ErrUnknownType) {
			return f, err
		}
	}
}

// ended makes a CloseError of an error after which the server has said why.
func (l *Listener) ended(err error) error {
	code := int(websocket.CloseStatus(err))
	if code == -1 && l.failed == nil {
		return err
	}
	return &CloseError{Code: code, Reason: frame.ReasonOf(code), Err: l.failed}
}

// final reports whether connecting again would be wrong or of no use.
func (l *Listener) final(err error) bool {
	if s, ok := errors.AsType[status](err); ok {
		return s >= 400 && s < 500 && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout
	}
	closed, ok := errors.AsType[*CloseError](err)
	if !ok {
		return false
	}
	if errors.Is(err, crier.CodeSigExpired) && l.sig != l.stale {
		l.stale = l.sig // the next login asks for another one
		return false
	}
	return closed.Code != -1 && !frame.ReconnectAfter(closed.Code)
}
