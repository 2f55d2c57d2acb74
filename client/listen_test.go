package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
	"github.com/crier-im/crier/usersig"
)

// listening is a Listen that runs for a test.
type listening struct {
	*client.Listener
	messages chan *client.Message
	devices  chan error // the answers to registrations
	states   chan client.State
	done     chan error
	stop     context.CancelFunc
}

func listen(t *testing.T, url string, change func(*client.ListenConfig)) *listening {
	t.Helper()
	l := &listening{
		messages: make(chan *client.Message, 1000), devices: make(chan error, 1000), states: make(chan client.State, 1000), done: make(chan error, 1),
	}
	cfg := client.ListenConfig{
		URL: url, SDKAppID: app, UserID: "alice", UserSig: client.SecretKey(gatewaytest.Key), Platform: crier.Web,
		OnMessage:  func(_ context.Context, m *client.Message) error { l.messages <- m; return nil },
		OnState:    func(s client.State) { l.states <- s },
		OnDevice:   func(err error) { l.devices <- err },
		MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if l.Listener, err = client.NewListener(cfg); err != nil {
		l.done <- err
		return l
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	var group sync.WaitGroup
	group.Go(func() { l.done <- l.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return l
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not come", what)
		panic("not reached")
	}
}

func session(t *testing.T, hub *gatewaytest.Hub, i int) *gatewaytest.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := hub.WaitForSession(ctx, i)
	if err != nil {
		t.Fatalf("session %d did not come: %v", i, err)
	}
	return s
}

func wantAcks(t *testing.T, s *gatewaytest.Session, want ...uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.WaitForAcks(ctx, len(want)); err != nil || !slices.Equal(s.Acked(), want) {
		t.Errorf("acked %v, %v, want %v", s.Acked(), err, want)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	for _, protocol := range []client.Protocol{client.JSON, client.Proto, ""} {
		hub := gatewaytest.NewHub(gatewaytest.App())
		server := gatewaytest.Start(t, hub, nil)
		url := strings.TrimSuffix("http"+strings.TrimPrefix(server.URL, "ws"), gateway.Path)
		l := listen(t, url, func(cfg *client.ListenConfig) { cfg.Protocol = protocol })
		s := session(t, hub, 0)
		if up := within(t, "state", l.states); !up.Connected || up.Session != s.Login.Session {
			t.Errorf("%+v", up)
		}
		d := gatewaytest.Message(1, "hello")
		s.Conn.Deliver(d)
		if m := within(t, "message", l.messages); m.Task != d.Task || m.Notification.Text != "hello" || string(m.Elements[0].Content) != `{"Text":"hello"}` {
			t.Errorf("%+v", m)
		}
		wantAcks(t, s, 1)
		online := gatewaytest.Message(2, "online only")
		online.Kept = false
		s.Conn.Deliver(online)
		s.Conn.Deliver(gatewaytest.Message(3, "kept"))
		wantAcks(t, s, 1, 3)
		l.stop()
		if err := within(t, "end", l.done); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

// The server can tell which login of a process is the latest, whichever of its receivers made it.
func TestLoginsOfAProcessHaveAnOrder(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	var last crier.Login
	for i := range 4 {
		l := listen(t, server.URL, nil)
		login := session(t, hub, i).Login
		if login.Instance == "" || i > 0 && login.Instance != last.Instance || login.Attempt <= last.Attempt {
			t.Errorf("login %d: instance %q, attempt %d after instance %q, attempt %d", i, login.Instance, login.Attempt, last.Instance, last.Attempt)
		}
		last = login
		l.stop()
	}
}

// What comes again is acknowledged again and shown once, also over connections.
func TestDuplicatesAreShownOnce(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	l := listen(t, server.URL, nil)
	first := session(t, hub, 0)
	first.Conn.Deliver(gatewaytest.Message(1, "one"))
	first.Conn.Deliver(gatewaytest.Message(1, "one"))
	wantAcks(t, first, 1, 1)
	first.Conn.Close(crier.CloseMoved)
	second := session(t, hub, 1)
	second.Conn.Deliver(gatewaytest.Message(1, "one"))
	second.Conn.Deliver(gatewaytest.Message(2, "two"))
	wantAcks(t, second, 1, 2)
	if a, b := within(t, "message", l.messages), within(t, "message", l.messages); a.Seq != 1 || b.Seq != 2 || len(l.messages) != 0 {
		t.Errorf("got %d, %d and %d more", a.Seq, b.Seq, len(l.messages))
	}
}

func TestMessageThatFailsComesAgain(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	failed := false
	l := listen(t, server.URL, func(cfg *client.ListenConfig) {
		next := cfg.OnMessage
		cfg.OnMessage = func(ctx context.Context, m *client.Message) error {
			if !failed {
				failed = true
				return errors.New("disk full")
			}
			return next(ctx, m)
		}
	})
	first := session(t, hub, 0)
	first.Conn.Deliver(gatewaytest.Message(1, "one"))
	second := session(t, hub, 1)
	second.Conn.Deliver(gatewaytest.Message(1, "one"))
	wantAcks(t, second, 1)
	if len(first.Acked()) != 0 {
		t.Errorf("acked %v", first.Acked())
	}
	if m := within(t, "message", l.messages); m.Seq != 1 {
		t.Errorf("%+v", m)
	}
}

func TestNoAck(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	l := listen(t, server.URL, func(cfg *client.ListenConfig) { cfg.NoAck = true })
	s := session(t, hub, 0)
	s.Conn.Deliver(gatewaytest.Message(1, "one"))
	s.Conn.Deliver(gatewaytest.Message(2, "two"))
	within(t, "message", l.messages)
	within(t, "message", l.messages)
	s.Conn.Close(crier.CloseKicked)
	within(t, "end", l.done)
	if len(s.Acked()) != 0 {
		t.Errorf("acked %v", s.Acked())
	}
}

// brokenStore fails at its first use.
type brokenStore struct {
	client.Store
	used bool
}

func (b *brokenStore) Seen(ctx context.Context, task crier.TaskID) (bool, error) {
	if !b.used {
		b.used = true
		return false, errors.New("no disk")
	}
	return b.Store.Seen(ctx, task)
}

func TestStoreThatFails(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	l := listen(t, server.URL, func(cfg *client.ListenConfig) { cfg.Store = &brokenStore{Store: client.MemoryStore()} })
	session(t, hub, 0).Conn.Deliver(gatewaytest.Message(1, "one"))
	second := session(t, hub, 1)
	second.Conn.Deliver(gatewaytest.Message(1, "one"))
	wantAcks(t, second, 1)
	if len(l.messages) != 1 {
		t.Errorf("%d messages", len(l.messages))
	}
}

func TestEveryCloseCode(t *testing.T) {
	t.Parallel()
	for _, c := range frame.Closes() {
		t.Run(string(c.Reason), func(t *testing.T) {
			t.Parallel()
			hub := gatewaytest.NewHub(gatewaytest.App())
			server := gatewaytest.Start(t, hub, nil)
			l := listen(t, server.URL, nil)
			session(t, hub, 0).Conn.Close(c.Reason)
			within(t, "connection", l.states)
			down := within(t, "end of the connection", l.states)
			var closed *client.CloseError
			if !errors.As(down.Err, &closed) || closed.Code != int(c.Code) || closed.Reason != c.Reason || closed.Error() == "" {
				t.Errorf("%+v", down)
			}
			if !c.Reconnect() {
				if err := within(t, "end", l.done); !errors.As(err, &closed) || closed.Reason != c.Reason || down.Retry != 0 {
					t.Errorf("%v, %v", err, down.Retry)
				}
				return
			}
			if down.Retry == 0 {
				t.Error("no retry is announced")
			}
			s := session(t, hub, 1)
			s.Conn.Deliver(gatewaytest.Message(1, "back"))
			wantAcks(t, s, 1)
		})
	}
}

func TestRefusedLoginIsFinal(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	l := listen(t, server.URL, func(cfg *client.ListenConfig) { cfg.UserSig = client.SecretKey("other") })
	err := within(t, "end", l.done)
	var closed *client.CloseError
	if !errors.Is(err, crier.CodeSigWrong) || !errors.As(err, &closed) || closed.Reason != crier.CloseAuthFailed {
		t.Errorf("%v", err)
	}
}

func signAt(at time.Time) string {
	return usersig.Sign(gatewaytest.Key, app, "alice", at, time.Hour, nil)
}

func TestExpiredUserSigIsRefreshed(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, nil)
	expired := signAt(time.Now().Add(-2 * time.Hour))
	calls := 0
	listen(t, server.URL, func(cfg *client.ListenConfig) {
		cfg.UserSig = func(context.Context, crier.AppID, crier.UserID) (string, error) {
			if calls++; calls == 1 {
				return expired, nil
			}
			return signAt(time.Now()), nil
		}
	})
	s := session(t, hub, 0)
	s.Conn.Deliver(gatewaytest.Message(1, "x"))
	wantAcks(t, s, 1)

	l := listen(t, server.URL, func(cfg *client.ListenConfig) { cfg.UserSig = client.UserSig(expired) })
	if err := within(t, "end", l.done); !errors.Is(err, crier.CodeSigExpired) {
		t.Errorf("%v", err)
	}
}

// A server that is away, or full, or has a proxy's error page, is tried again; one that says it is the wrong address is not.
func TestServerThatDoesNotUpgrade(t *testing.T) {
	t.Parallel()
	for code, final := range map[int]bool{
		http.StatusServiceUnavailable: false, http.StatusBadGateway: false, http.StatusTooManyRequests: false,
		http.StatusNotFound: true, http.StatusBadRequest: true, http.StatusForbidden: true,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(server.Close)
		l := listen(t, server.URL, nil)
		for range 3 {
			if s := within(t, "state", l.states); s.Connected || s.Err == nil || (s.Retry == 0) != final {
				t.Errorf("%d: %+v", code, s)
			}
			if final {
				within(t, "end", l.done)
				break
			}
		}
	}
}

func TestHeartbeatKeepsTheConnection(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Heartbeat = time.Second })
	listen(t, server.URL, nil)
	s := session(t, hub, 0)
	time.Sleep(4 * time.Second) // well over 2.5 heartbeats
	if got := s.Closes(); len(got) != 0 {
		t.Errorf("closed for %v", got)
	}
	if got := server.Value(t, "crier_gateway_frames_received_total", "type", "ping"); got < 2 {
		t.Errorf("%v pings", got)
	}
}

func TestListenChecksItsConfig(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*client.ListenConfig){
		"no app":       func(c *client.ListenConfig) { c.SDKAppID = 0 },
		"no user":      func(c *client.ListenConfig) { c.UserID = "" },
		"no usersig":   func(c *client.ListenConfig) { c.UserSig = nil },
		"no handler":   func(c *client.ListenConfig) { c.OnMessage = nil },
		"bad scheme":   func(c *client.ListenConfig) { c.URL = "ftp://x" },
		"no host":      func(c *client.ListenConfig) { c.URL = "localhost" },
		"bad protocol": func(c *client.ListenConfig) { c.Protocol = "xml" },
	} {
		l := listen(t, "http://127.0.0.1:1", change)
		if err := within(t, "end", l.done); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMemoryStoreIsBounded(t *testing.T) {
	t.Parallel()
	s := client.MemoryStore()
	for i := range 5000 {
		if err := s.Mark(t.Context(), crier.TaskID(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if seen, err := s.Seen(t.Context(), "4999"); !seen || err != nil {
		t.Error("the last one is forgotten")
	}
	if seen, _ := s.Seen(t.Context(), "0"); seen {
		t.Error("nothing is forgotten")
	}
}
