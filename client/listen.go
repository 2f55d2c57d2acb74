package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

// Protocol is the encoding of the frames. It makes no difference but in size and speed.
type Protocol string

// The protocols.
const (
	Proto Protocol = "proto" // the default
	JSON  Protocol = "json"
)

// Message is one message of a push.
type Message = frame.Message

// Device is where a vendor can reach this device while it has no connection: what to put into the fields
// is in docs/gateway.md.
type Device = frame.RegisterDevice

// State is what OnState is told.
type State struct {
	Connected bool
	Session   crier.SessionID // while Connected
	Err       error           // why the connection ended, or could not be made; nil after a logout
	Retry     time.Duration   // after how long the next attempt comes; zero: there is none
}

// ListenConfig says who listens where. URL, SDKAppID, UserID, UserSig and OnMessage are required.
type ListenConfig struct {
	URL      string // of the server, such as https://push.example.com, or of its gateway: wss://push.example.com/v1/connect
	SDKAppID crier.AppID
	UserID   crier.UserID
	// UserSig is asked before every login, so that it can give a new one. SecretKey and the function UserSig give one.
	UserSig  Auth
	Platform crier.Platform // empty: PC
	Protocol Protocol       // empty: Proto
	Client   string         // name of the client software; empty: crier-go
	Version  string         // its version

	// OnMessage gets each message, in order, from one goroutine. When it returns nil the message is acknowledged, and
	// does not come again. An error ends the connection, and the message comes again on the next one.
	OnMessage func(ctx context.Context, m *Message) error
	// OnState is told when a connection is up or has ended; nil: nobody is told. It should return soon.
	OnState func(State)

	// Device is registered after every login; nil: none. Listener.Register replaces it.
	Device *Device
	// OnDevice is told how each registration was answered: nil, or a *crier.Error that says why not. CodeTimeout and
	// CodeInternal are tried again by themselves. nil: nobody is told. It should return soon.
	OnDevice func(error)

	Store Store // nil: MemoryStore
	NoAck bool  // acknowledge nothing: kept messages come again with every connection

	MinBackoff time.Duration // before the first attempt to connect again; 0: 500 ms
	MaxBackoff time.Duration // 0: 1 min
}

// CloseError is why a connection ended: the server's close code, the last error or kicked frame it sent, or both.
type CloseError struct {
	Code   int               // of the WebSocket close frame; -1: there was none
	Reason crier.CloseReason // what the code means in Crier's table; may be empty
	Err    *crier.Error      // the error frame before it; nil: there was none
}

// Error says the code and the reason.
func (e *CloseError) Error() string {
	text := fmt.Sprintf("closed by the server with %d", e.Code)
	if e.Reason != "" {
		text += ": " + frame.CloseFor(e.Reason).Text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the error frame, so that errors.Is finds its code.
func (e *CloseError) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return e.Err
}

// steady is how long a connection must have lasted for the next attempt not to wait longer than the one before it.
const steady = 10 * time.Second

// Listen is a Listener's Run, for who has nothing more to tell it.
func Listen(ctx context.Context, cfg ListenConfig) error {
	l, err := NewListener(cfg)
	if err != nil {
		return err
	}
	return l.Run(ctx)
}

// Run connects as an account and hands its messages to OnMessage until ctx ends, and then returns its error. It
// connects again by itself, with a growing and random pause, unless the server says not to: then it returns a
// *CloseError, as after a login elsewhere, a kick or a refused login. A UserSig that has expired is asked for
// again once; the same one again is final. After Logout it returns nil.
//
// Each message is handed over once as long as Store remembers it, and acknowledged when OnMessage has returned nil.
func (l *Listener) Run(ctx context.Context) error {
	wait := backoff{least: l.cfg.MinBackoff, most: l.cfg.MaxBackoff}
	for {
		l.since = time.Time{}
		err := l.connect(ctx)
		if ctx.Err() != nil {
			l.state(State{Err: ctx.Err()})
			return ctx.Err()
		}
		if l.loggedOut(err) {
			l.state(State{})
			return nil
		}
		if l.final(err) {
			l.state(State{Err: err})
			return err
		}
		if !l.since.IsZero() && time.Since(l.since) >= steady {
			wait.reset()
		}
		pause := wait.next()
		l.state(State{Err: err, Retry: pause})
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (cfg ListenConfig) withDefaults() (ListenConfig, frame.Codec, error) {
	if cfg.SDKAppID == 0 || cfg.UserID == "" || cfg.UserSig == nil || cfg.OnMessage == nil {
		return cfg, nil, errors.New("listen: SDKAppID, UserID, UserSig and OnMessage are required")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return cfg, nil, fmt.Errorf("listen: URL %q is not of the form https://host", cfg.URL)
	}
	switch u.Scheme {
	case "http", "https":
		u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
	case "ws", "wss":
	default:
		return cfg, nil, fmt.Errorf("listen: URL %q must begin with https, wss, http or ws", cfg.URL)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/connect"
	}
	cfg.URL = u.String()
	codec := frame.Proto
	switch cfg.Protocol {
	case "", Proto:
	case JSON:
		codec = frame.JSON
	default:
		return cfg, nil, fmt.Errorf("listen: Protocol %q is unknown", cfg.Protocol)
	}
	if cfg.Platform == "" {
		cfg.Platform = crier.PC
	}
	if cfg.Client == "" {
		cfg.Client = "crier-go"
	}
	if cfg.Store == nil {
		cfg.Store = MemoryStore()
	}
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = 500 * time.Millisecond
	}
	if cfg.MaxBackoff < cfg.MinBackoff {
		cfg.MaxBackoff = max(time.Minute, cfg.MinBackoff)
	}
	return cfg, codec, nil
}
