package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

// Gateway terminates the connections of devices. It is an http.Handler for
// GET /v1/connect and safe for concurrent use. Drain ends it.
type Gateway struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	admission *admission
	prepared  *prepared
	upgrader  *upgrader
	ctx       context.Context // of the calls to the Hub; ends with Drain
	cancel    context.CancelFunc
	running   sync.WaitGroup // every goroutine of every connection

	mu       sync.Mutex
	conns    map[*conn]struct{}
	upgrades int // admitted and not yet in conns
	draining bool
}

// New makes a gateway. Errors name the field of the configuration.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	trusted, err := parsePrefixes(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	log := cfg.Logger.With("component", "gateway")
	ctx, cancel := context.WithCancel(context.Background())
	return &Gateway{
		cfg: cfg, log: log, metrics: m, admission: newAdmission(trusted, cfg.Limits), prepared: newPrepared(),
		upgrader: newUpgrader(cfg.Compress, log), ctx: ctx, cancel: cancel, conns: make(map[*conn]struct{}),
	}, nil
}

// ServeHTTP upgrades the request to a connection and returns; the connection lives on by itself. What can't be
// upgraded is answered with a status and a sentence.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	codec, status, why := g.negotiate(r)
	if why != "" {
		g.refuse(w, status, "handshake", why)
		return
	}
	ip := g.admission.clientIP(r)
	if !g.admission.begin(ip, g.cfg.Clock()) {
		w.Header().Set("Retry-After", "60")
		g.refuse(w, http.StatusTooManyRequests, "address", "too many connections without a login, or too many failed logins, from this address; wait a minute")
		return
	}
	if why := g.reserve(); why != "" {
		g.admission.end(ip)
		w.Header().Set("Retry-After", "5")
		g.refuse(w, http.StatusServiceUnavailable, "full", why)
		return
	}
	s, err := g.upgrader.upgrade(w, r, codec)
	if err != nil {
		g.admission.end(ip)
		g.release()
		g.metrics.refused.WithLabelValues("upgrade").Inc()
		g.log.Debug("upgrade failed", "ip", ip, "err", err)
		return
	}
	compress := g.cfg.Compress && strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	g.start(newConn(g, s, codec, compress, ip))
}

func (g *Gateway) refuse(w http.ResponseWriter, status int, cause, why string) {
	g.metrics.refused.WithLabelValues(cause).Inc()
	http.Error(w, why, status)
}

// negotiate checks the handshake and picks the subprotocol that the client names first. why is
// empty if all is well.
func (g *Gateway) negotiate(r *http.Request) (codec frame.Codec, status int, why string) {
	switch {
	case r.Method != http.MethodGet:
		return nil, http.StatusMethodNotAllowed, "connect with GET"
	case r.ProtoMajor != 1:
		return nil, http.StatusHTTPVersionNotSupported, "WebSocket needs HTTP/1.1 here"
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		return nil, http.StatusBadRequest, "this address speaks WebSocket: the headers Connection: Upgrade and Upgrade: websocket are missing"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return nil, http.StatusBadRequest, "Sec-WebSocket-Version must be 13"
	case r.Header.Get("Sec-WebSocket-Key") == "":
		return nil, http.StatusBadRequest, "Sec-WebSocket-Key is missing"
	case !g.cfg.originAllowed(r.Header.Get("Origin")):
		return nil, http.StatusForbidden, "connections from this Origin are not allowed"
	}
	for _, name := range tokens(r.Header, "Sec-WebSocket-Protocol") {
		if codec := frame.ForSubprotocol(name); codec != nil {
			return codec, 0, ""
		}
	}
	return nil, http.StatusBadRequest, "Sec-WebSocket-Protocol must name one of " + frame.Subprotocols()
}

// tokens returns the comma-separated values of a header, over all its lines.
func tokens(h http.Header, name string) []string {
	var found []string
	for _, line := range h.Values(name) {
		for token := range strings.SplitSeq(line, ",") {
			found = append(found, strings.TrimSpace(token))
		}
	}
	return found
}

func hasToken(h http.Header, name, want string) bool {
	for _, token := range tokens(h, name) {
		if strings.EqualFold(token, want) {
			return true
		}
	}
	return false
}

// reserve takes a place for one more connection; why says that there is none.
func (g *Gateway) reserve() (why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := g.cfg.Limits.Connections
	switch {
	case g.draining:
		return "the server is stopping"
	case most > 0 && len(g.conns)+g.upgrades >= most:
		return "the server has as many connections as it takes"
	}
	g.upgrades++
	g.running.Add(1)
	return ""
}

// release gives back a place whose upgrade failed.
func (g *Gateway) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.upgrades--
	g.running.Done()
}

// start runs a connection in the place that was reserved for it.
func (g *Gateway) start(c *conn) {
	g.metrics.pending.Inc()
	g.mu.Lock()
	g.upgrades--
	g.conns[c] = struct{}{}
	draining := g.draining
	g.mu.Unlock()
	if draining {
		c.Close(crier.CloseGoingAway)
	}
	go c.run()
}

// forget takes out a connection that has ended; nothing of it runs any more but its writer's last steps.
func (g *Gateway) forget(c *conn) {
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
	g.running.Done()
}

// Connections returns how many connections there are, with and without a login.
func (g *Gateway) Connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}

// Drain refuses new connections, closes those there are with CloseGoingAway, spread over DrainSpread, so that they
// do not all come back to another node at once, and waits until their goroutines have ended. When ctx ends, what
// is left is cut off, and Drain returns its error. The second call only waits.
func (g *Gateway) Drain(ctx context.Context) error {
	g.mu.Lock()
	first := !g.draining
	g.draining = true
	all := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		all = append(all, c)
	}
	g.mu.Unlock()
	if first {
		g.log.Info("closing connections", "connections", len(all))
		g.closePaced(ctx, all)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.running.Wait()
	}()
	select {
	case <-ended:
		g.cancel()
		return nil
	case <-ctx.Done():
	}
	g.cancel()
	g.mu.Lock()
	for c := range g.conns {
		_ = c.out.conn.Close()
	}
	g.mu.Unlock()
	<-ended // a cut connection ends at once, and a Hub.Connect with its context
	return ctx.Err()
}

// closePaced closes connections in equal steps over DrainSpread, or at once when ctx ends.
func (g *Gateway) closePaced(ctx context.Context, all []*conn) {
	begin := time.Now()
	for i, c := range all {
		due := begin.Add(g.cfg.DrainSpread * time.Duration(i) / time.Duration(len(all)))
		if wait := time.Until(due); wait > time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		c.Close(crier.CloseGoingAway)
	}
}
