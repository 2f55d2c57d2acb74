package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = slog.New(slog.DiscardHandler)

// peer is a client of another make, so that no mistake is made on both sides.
type peer struct {
	t     testing.TB
	ctx   context.Context
	ws    *websocket.Conn
	codec frame.Codec
}

// dial connects without logging in.
func dial(t testing.TB, url string, codec frame.Codec) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{codec.Subprotocol()}})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &peer{t, ctx, ws, codec}
}

// join connects and logs in.
func join(t testing.TB, s *gatewaytest.Server, codec frame.Codec, user crier.UserID) *peer {
	t.Helper()
	p := dial(t, s.URL, codec)
	p.send(login(user))
	if w, ok := p.receive().(*frame.Welcome); !ok || w.Session == "" || w.Heartbeat == 0 {
		t.Fatalf("no welcome: %+v", w)
	}
	return p
}

func login(user crier.UserID) *frame.Login {
	return &frame.Login{
		SDKAppID: gatewaytest.App().ID, Identifier: string(user), UserSig: gatewaytest.UserSig(user), Platform: crier.Web, Client: "test", Version: "1",
	}
}

func (p *peer) send(f frame.Client) {
	p.t.Helper()
	data, err := p.codec.EncodeClient(f)
	if err != nil {
		p.t.Fatal(err)
	}
	p.sendRaw(p.codec.Binary(), data)
}

func (p *peer) sendRaw(binary bool, data []byte) {
	p.t.Helper()
	kind := websocket.MessageText
	if binary {
		kind = websocket.MessageBinary
	}
	if err := p.ws.Write(p.ctx, kind, data); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

func (p *peer) receive() frame.Server {
	p.t.Helper()
	kind, data, err := p.ws.Read(p.ctx)
	if err != nil {
		p.t.Fatalf("receive: %v", err)
	}
	if (kind == websocket.MessageBinary) != p.codec.Binary() {
		p.t.Fatalf("a frame of kind %v under %s", kind, p.codec.Subprotocol())
	}
	f, err := p.codec.DecodeServer(data)
	if err != nil {
		p.t.Fatalf("receive %q: %v", data, err)
	}
	return f
}

// wantError expects an error frame and then a close.
func (p *peer) wantError(code crier.Code, closeCode int) {
	p.t.Helper()
	e, ok := p.receive().(*frame.Error)
	if !ok || e.Code != code || e.Text == "" {
		p.t.Errorf("got %+v, want error %d", e, int(code))
	}
	p.wantClose(closeCode)
}

func (p *peer) wantClose(code int) {
	p.t.Helper()
	_, data, err := p.ws.Read(p.ctx)
	if got := websocket.CloseStatus(err); int(got) != code {
		p.t.Errorf("got %q, %v, want close %d", data, err, code)
	}
}

func session(t testing.TB, hub *gatewaytest.Hub, i int) *gatewaytest.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := hub.WaitForSession(ctx, i)
	if err != nil {
		t.Fatalf("session %d did not come: %v", i, err)
	}
	return s
}

func wantClosed(t testing.TB, s *gatewaytest.Session, want crier.CloseReason) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if got, err := s.WaitForClosed(ctx); err != nil || got != want {
		t.Errorf("closed for %q, %v, want %q", got, err, want)
	}
}

// eachCodec runs a test under both subprotocols.
func eachCodec(t *testing.T, test func(t *testing.T, codec frame.Codec)) {
	t.Parallel()
	for _, codec := range frame.Codecs() {
		t.Run(codec.Subprotocol(), func(t *testing.T) {
			t.Parallel()
			test(t, codec)
		})
	}
}

func TestSession(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec frame.Codec) {
		hub := gatewaytest.NewHub(gatewaytest.App())
		s := gatewaytest.Start(t, hub, nil)
		p := join(t, s, codec, "alice")
		sess := session(t, hub, 0)
		if l := sess.Login; l.User != "alice" || l.App != gatewaytest.App().ID || l.Platform != crier.Web || l.Session == "" || time.Since(l.SigTime) > time.Minute {
			t.Errorf("login %+v", l)
		}

		d := gatewaytest.Message(7, "hello <b> 你好")
		sess.Conn.Deliver(d)
		if got := p.receive(); !reflect.DeepEqual(got, frame.NewMessage(d)) {
			t.Errorf("got %+v", got)
		}
		p.send(&frame.Ack{Seqs: []uint64{7}})
		p.send(&frame.Ack{Seqs: []uint64{9, 12, 11}, Cumulative: true})
		p.send(&frame.Ack{})
		if err := sess.WaitForAcks(p.ctx, 2); err != nil || !slices.Equal(sess.Acked(), []uint64{7, 12}) {
			t.Errorf("acked %v, %v", sess.Acked(), err)
		}
		p.send(&frame.Background{Unread: 5})
		if unread, err := sess.WaitForState(p.ctx, "background"); err != nil || unread != 5 {
			t.Errorf("background %d, %v", unread, err)
		}
		p.send(&frame.Foreground{})
		if _, err := sess.WaitForState(p.ctx, "foreground"); err != nil {
			t.Error(err)
		}
		p.send(&frame.Ping{})
		if _, ok := p.receive().(*frame.Pong); !ok {
			t.Error("no pong")
		}
		wantValue(t, s, 1, "crier_gateway_connections", "protocol", codec.Subprotocol(), "platform", "Web")
		if err := p.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Errorf("close: %v", err)
		}
		wantClosed(t, sess, crier.CloseByClient)
	})
}

func TestWebSocketPing(t *testing.T) {
	t.Parallel()
	s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), nil)
	p := join(t, s, frame.JSON, "alice")
	p.ws.CloseRead(p.ctx) // reads the pong
	if err := p.ws.Ping(p.ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
}

func TestHandshakeRefusals(t *testing.T) {
	t.Parallel()
	s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) { cfg.Origins = []string{"https://ok.example"} })
	url := "http" + strings.TrimPrefix(s.URL, "ws")
	good := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "chat, crier.v1.json", "Origin": "https://OK.example",
	}
	for name, c := range map[string]struct {
		method, header, value string
		status                int
		text                  string
	}{
		"good":               {"GET", "", "", http.StatusSwitchingProtocols, ""},
		"no origin":          {"GET", "Origin", "", http.StatusSwitchingProtocols, ""},
		"POST":               {"POST", "", "", http.StatusMethodNotAllowed, "GET"},
		"plain GET":          {"GET", "Upgrade", "", http.StatusBadRequest, "WebSocket"},
		"no Connection":      {"GET", "Connection", "close", http.StatusBadRequest, "WebSocket"},
		"old version":        {"GET", "Sec-WebSocket-Version", "8", http.StatusBadRequest, "13"},
		"no key":             {"GET", "Sec-WebSocket-Key", "", http.StatusBadRequest, "Sec-WebSocket-Key"},
		"no subprotocol":     {"GET", "Sec-WebSocket-Protocol", "", http.StatusBadRequest, "crier.v1.json, crier.v1.proto"},
		"other subprotocols": {"GET", "Sec-WebSocket-Protocol", "chat, crier.v2.json", http.StatusBadRequest, "crier.v1.json"},
		"other origin":       {"GET", "Origin", "https://evil.example", http.StatusForbidden, "Origin"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range good {
			r.Header.Set(k, v)
		}
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var body bytes.Buffer
		if resp.StatusCode != http.StatusSwitchingProtocols {
			_, _ = body.ReadFrom(resp.Body)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(body.String(), c.text) {
			t.Errorf("%s: %d %q", name, resp.StatusCode, body.String())
		}
	}
}

func TestSubprotocolOfTheClientsChoice(t *testing.T) {
	t.Parallel()
	s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), nil)
	for want, offered := range map[string][]string{
		"crier.v1.json":  {"chat", "crier.v1.json", "crier.v1.proto"},
		"crier.v1.proto": {"crier.v1.proto", "crier.v1.json"},
	} {
		ws, _, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{Subprotocols: offered})
		if err != nil {
			t.Fatal(err)
		}
		if ws.Subprotocol() != want {
			t.Errorf("offered %v: got %s", offered, ws.Subprotocol())
		}
		_ = ws.CloseNow()
	}
}

func TestMountedInGin(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, nil)
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET(gateway.Path, gin.WrapH(s.Gateway))
	p := join(t, &gatewaytest.Server{URL: serve(t, engine)}, frame.JSON, "alice")
	session(t, hub, 0).Conn.Deliver(gatewaytest.Message(1, "x"))
	if m, ok := p.receive().(*frame.Message); !ok || m.Seq != 1 {
		t.Errorf("got %+v", m)
	}
}

// TestOnlyOneOwnApp: nothing of another account or app can arrive, since a Conn is lent to one session.
func TestDeliveriesStayApart(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, nil)
	alice, bob := join(t, s, frame.JSON, "alice"), join(t, s, frame.Proto, "bob")
	session(t, hub, 0).Conn.Deliver(gatewaytest.Message(1, "for alice"))
	session(t, hub, 1).Conn.Deliver(gatewaytest.Message(2, "for bob"))
	if m := alice.receive().(*frame.Message); m.Seq != 1 || m.Notification.Text != "for alice" {
		t.Errorf("alice got %+v", m)
	}
	if m := bob.receive().(*frame.Message); m.Seq != 2 || m.Notification.Text != "for bob" {
		t.Errorf("bob got %+v", m)
	}
}

func TestOrderOfManyMessages(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec frame.Codec) {
		const n = 10_000
		hub := gatewaytest.NewHub(gatewaytest.App())
		s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Limits.QueueFrames, cfg.Limits.QueueBytes = n+10, 64<<20 })
		p := join(t, s, codec, "alice")
		sess := session(t, hub, 0)
		go func() {
			for i := range uint64(n) {
				sess.Conn.Deliver(gatewaytest.Message(i+1, "x"))
			}
			sess.Conn.Close(crier.CloseGoingAway)
		}()
		for i := range uint64(n) {
			if m, ok := p.receive().(*frame.Message); !ok || m.Seq != i+1 {
				t.Fatalf("message %d: got %+v", i+1, m)
			}
		}
		if _, ok := p.receive().(*frame.Bye); !ok {
			t.Error("no bye")
		}
		p.wantClose(4000)
	})
}

// The actor may deliver from the moment in which Connect returns, and even close.
func TestWelcomeComesFirst(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	hub.OnConnect = func(_ context.Context, _ crier.Login, conn crier.Conn) error {
		conn.Deliver(gatewaytest.Message(1, "early"))
		conn.Close(crier.CloseReplaced)
		return nil
	}
	s := gatewaytest.Start(t, hub, nil)
	p := join(t, s, frame.JSON, "alice")
	if m, ok := p.receive().(*frame.Message); !ok || m.Seq != 1 {
		t.Errorf("got %+v", m)
	}
	if k, ok := p.receive().(*frame.Kicked); !ok || k.Reason != crier.CloseReplaced {
		t.Errorf("got %+v", k)
	}
	p.wantClose(4100)
	wantClosed(t, session(t, hub, 0), crier.CloseReplaced)
}

func TestEveryCloseReason(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, nil)
	for i, c := range frame.Closes() {
		p := join(t, s, frame.JSON, "alice")
		sess := session(t, hub, i)
		sess.Conn.Close(c.Reason)
		sess.Conn.Close(crier.CloseInternal) // does nothing
		sess.Conn.Deliver(gatewaytest.Message(1, "too late"))
		var err error
		var last frame.Server
		for err == nil {
			var data []byte
			if _, data, err = p.ws.Read(p.ctx); err == nil {
				last, _ = frame.JSON.DecodeServer(data)
			}
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || int(closed.Code) != int(c.Code) || closed.Reason != string(c.Reason) {
			t.Errorf("%s: %v", c.Reason, err)
		}
		want := map[crier.CloseReason]string{
			crier.CloseReplaced: "kicked", crier.CloseKicked: "kicked", crier.CloseDeleted: "kicked", crier.CloseDisabled: "kicked",
			crier.CloseGoingAway: "bye", crier.CloseMoved: "bye",
		}[c.Reason]
		if got := frame.Type(last); got != want {
			t.Errorf("%s: last frame %q, want %q", c.Reason, got, want)
		}
		wantClosed(t, sess, c.Reason)
		if got := sess.Closes(); len(got) != 1 {
			t.Errorf("%s: closed for %v", c.Reason, got)
		}
		wantValue(t, s, 1, "crier_gateway_closes_total", "reason", string(c.Reason))
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	const n = 20
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.DrainSpread = 200 * time.Millisecond })
	var peers []*peer
	for i := range n {
		peers = append(peers, join(t, s, frame.JSON, crier.UserID(fmt.Sprintf("user%d", i))))
	}
	drained := make(chan error, 1)
	begin := time.Now()
	go func() { drained <- s.Drain(t.Context()) }()
	for _, p := range peers {
		if b, ok := p.receive().(*frame.Bye); !ok || b.Reason != crier.CloseGoingAway {
			t.Errorf("got %+v", b)
		}
		p.wantClose(4000)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d < 150*time.Millisecond {
		t.Errorf("drained in %v, not spread", d)
	}
	if s.Connections() != 0 {
		t.Errorf("%d connections are left", s.Connections())
	}
	if _, resp, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{Subprotocols: []string{"crier.v1.json"}}); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("connected to a drained gateway: %v", err)
	}
}

// A client that neither reads nor closes, and a Hub that does not answer, can't hold up a stop.
func TestDrainCutsOffAtTheDeadline(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	entered := make(chan struct{})
	hub.OnConnect = func(ctx context.Context, login crier.Login, _ crier.Conn) error {
		if login.User == "stuck" {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.ConnectTimeout, cfg.DrainSpread = time.Minute, time.Hour })
	join(t, s, frame.JSON, "alice")
	p := dial(t, s.URL, frame.JSON)
	p.send(login("stuck"))
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if s.Connections() != 0 {
		t.Errorf("%d connections are left", s.Connections())
	}
}

// wantValue waits for a metric: a session hears of its end before it is counted.
func wantValue(t *testing.T, s *gatewaytest.Server, want float64, name string, labels ...string) {
	t.Helper()
	var got float64
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = s.Value(t, name, labels...); got == want {
			return
		}
	}
	t.Errorf("%s%v is %v, want %v", name, labels, got, want)
}
