package gatewaytest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/usersig"
)

// Key signs the UserSigs of the App.
const Key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// App returns an app of its own for a test.
func App() *crier.App {
	return &crier.App{ID: 1400000001, Key: Key, Admins: []crier.UserID{"administrator"}, PushEnabled: true, Limits: crier.DefaultLimits()}
}

// UserSig makes a UserSig for an account of the App that is valid for an hour.
func UserSig(user crier.UserID) string {
	return usersig.Sign(Key, App().ID, user, time.Now(), time.Hour, nil)
}

// Message makes a delivery with a text, kept, with the place seq.
func Message(seq uint64, text string) *crier.Delivery {
	content, err := json.Marshal(map[string]string{"Text": text})
	if err != nil {
		panic("gatewaytest: " + err.Error()) // strings always marshal
	}
	at := time.UnixMilli(1700000000000)
	return &crier.Delivery{
		App: App().ID, Task: crier.NewTaskID(App().ID, at, uint32(seq), seq), Seq: seq, From: "administrator", Accepted: at,
		Elements:     []crier.Element{{Type: crier.TextElement, Content: content}},
		Notification: crier.Notification{Title: "news", Text: text}, Kept: true, Expires: at.Add(time.Hour),
	}
}

// Server is a gateway that listens on loopback.
type Server struct {
	*gateway.Gateway
	URL      string // ws://127.0.0.1:port/v1/connect
	Registry *prometheus.Registry
}

// Start runs a gateway until the test ends; change may alter its settings. The end of the
// test fails where connections or goroutines do not end with it.
func Start(t testing.TB, hub gateway.Hub, change func(*gateway.Config)) *Server {
	t.Helper()
	registry := prometheus.NewRegistry()
	cfg := gateway.Config{
		Hub: hub, Logger: slog.New(slog.DiscardHandler), Registerer: registry,
		Limits: gateway.DefaultLimits(), DrainSpread: time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatalf("gateway: %v", err)
	}
	mux := http.NewServeMux()
	mux.Handle(gateway.Path, g)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := g.Drain(ctx); err != nil {
			t.Errorf("gateway did not drain: %v", err)
		}
		server.Close()
	})
	return &Server{Gateway: g, URL: "ws" + strings.TrimPrefix(server.URL, "http") + gateway.Path, Registry: registry}
}

// Value returns the sum of a counter or gauge over all its labels that have the values
// given as name, value, name, value.
func (s *Server) Value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			got := make(map[string]string)
			for _, l := range m.GetLabel() {
				got[l.GetName()] = l.GetValue()
			}
			matches := true
			for i := 0; i+1 < len(labels); i += 2 {
				matches = matches && got[labels[i]] == labels[i+1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
