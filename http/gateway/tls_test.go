package gateway_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
)

// TLS has its own deadlines, half-close and writes, none of them like TCP's.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Heartbeat = time.Second })
	server := httptest.NewTLSServer(s.Gateway)
	t.Cleanup(server.Close)
	join := func() *peer {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		t.Cleanup(cancel)
		ws, _, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(server.URL, "https")+gateway.Path, &websocket.DialOptions{
			HTTPClient: server.Client(), Subprotocols: []string{frame.Proto.Subprotocol()},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.CloseNow() })
		p := &peer{t, ctx, ws, frame.Proto}
		p.send(login("alice"))
		if w, ok := p.receive().(*frame.Welcome); !ok {
			t.Fatalf("got %+v", w)
		}
		return p
	}

	p := join()
	sess := session(t, hub, 0)
	for i := range uint64(100) {
		sess.Conn.Deliver(gatewaytest.Message(i, "x"))
	}
	sess.Conn.Close(crier.CloseKicked)
	for i := range uint64(100) {
		if m, ok := p.receive().(*frame.Message); !ok || m.Seq != i {
			t.Fatalf("message %d: got %+v", i, m)
		}
	}
	if k, ok := p.receive().(*frame.Kicked); !ok || k.Reason != crier.CloseKicked {
		t.Errorf("got %+v", k)
	}
	p.wantClose(4101)
	wantClosed(t, sess, crier.CloseKicked)

	p = join()
	p.wantClose(4003)
	p = join()
	p.sendRaw(true, make([]byte, 16<<10+1))
	p.wantError(crier.CodeBodyTooLarge, 1009)
}
