// Package http is the server behind which the REST API, the operator's API and
// the gateway stand: listeners, TLS, health and metrics.
package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	nethttp "net/http"
	"net/http/pprof"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

const (
	// readHeaderTimeout and idleTimeout bound what a silent client holds.
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	// maxHeaderBytes leaves room for a UserSig of 8 KB in the URL.
	maxHeaderBytes = 32 << 10
	// stopTimeout bounds how long a stop waits for requests under way: a call
	// answers within 3 s.
	stopTimeout = 5 * time.Second
)

// Config says where a Server listens. Listen is required.
type Config struct {
	Listen         string   // host:port of the API and the gateway; port 0 picks one
	TLSCert        string   // PEM files; both or none. Changed files are taken up without a restart
	TLSKey         string   //
	AllowPlain     bool     // let Listen be other than loopback without TLS
	AdminListen    string   // host:port of pprof and metrics; empty: no pprof, and metrics on Listen
	TrustedProxies []string // addresses or CIDRs whose X-Forwarded-For is believed
	Ready          func() error
	Gatherer       prometheus.Gatherer
	Logger         *slog.Logger
}

// Server is the listeners and what answers on them.
type Server struct {
	log      *slog.Logger
	tls      bool
	main     listener
	admin    listener // its net.Listener is nil where there is none
	draining chan struct{}
}

type listener struct {
	net.Listener
	server *nethttp.Server
}

// Open binds the addresses; mount adds the routes of the APIs. Nothing is
// answered before Run. Errors name the address or file.
func Open(cfg Config, mount func(gin.IRouter)) (*Server, error) {
	s := &Server{log: cfg.Logger.With("component", "http"), draining: make(chan struct{})}
	engine, err := s.engine(cfg)
	if err != nil {
		return nil, err
	}
	mount(engine)
	if err := s.listenMain(cfg, engine); err != nil {
		return nil, err
	}
	if cfg.AdminListen != "" {
		l, err := net.Listen("tcp", cfg.AdminListen)
		if err != nil {
			_ = s.main.Close()
			return nil, fmt.Errorf("listen for the admin address: %w", err)
		}
		s.admin = listener{l, s.newServer(s.adminHandler(cfg))}
		s.admin.server.WriteTimeout = 0 // a CPU profile takes as long as it was asked to
	}
	return s, nil
}

// engine makes the router with the routes that every server has.
func (s *Server) engine(cfg Config) (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.HandleMethodNotAllowed = true
	// A %2F within a name must not part it, so routes match the path as it was sent. unescapePath does the rest: gin would take + for a space.
	e.UseRawPath, e.UnescapePathValues = true, false
	if err := e.SetTrustedProxies(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	e.Use(s.recovery, unescapePath)
	e.GET("/healthz", s.healthz)
	e.GET("/readyz", s.readyz(cfg.Ready))
	if cfg.AdminListen == "" {
		e.GET("/metrics", gin.WrapH(metrics(cfg.Gatherer)))
	}
	notFound := func(status int, text string) gin.HandlerFunc {
		return func(c *gin.Context) { c.JSON(status, gin.H{"error": text}) }
	}
	e.NoRoute(notFound(nethttp.StatusNotFound, "no such resource"))
	e.NoMethod(notFound(nethttp.StatusMethodNotAllowed, "the method is not allowed here"))
	return e, nil
}

func (s *Server) listenMain(cfg Config, handler nethttp.Handler) error {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.tls = cfg.TLSCert != ""
	if !s.tls && !cfg.AllowPlain && !isLoopback(l.Addr()) {
		_ = l.Close()
		return fmt.Errorf("%s is not a loopback address and there is no TLS certificate: passwords would cross the network in the clear; "+
			"set http.tls_cert and http.tls_key, or http.allow_plain_http behind a proxy that ends TLS", cfg.Listen)
	}
	s.main = listener{l, s.newServer(handler)}
	if s.tls {
		certs := &certificates{certFile: cfg.TLSCert, keyFile: cfg.TLSKey, log: s.log}
		if err := certs.load(); err != nil {
			_ = l.Close()
			return err
		}
		s.main.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.get}
	}
	return nil
}

func (s *Server) newServer(handler nethttp.Handler) *nethttp.Server {
	return &nethttp.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// URL returns where the API answers, as http://host:port.
func (s *Server) URL() string {
	if s.tls {
		return "https://" + s.main.Addr().String()
	}
	return "http://" + s.main.Addr().String()
}

// AdminURL returns where pprof and metrics answer, "" where they do not.
func (s *Server) AdminURL() string {
	if s.admin.Listener == nil {
		return ""
	}
	return "http://" + s.admin.Addr().String()
}

// Drain makes /readyz say no, so that load balancers look elsewhere. It
// returns at once; the second call does nothing.
func (s *Server) Drain() {
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
}

// Run answers until ctx ends, then stops accepting, lets requests under way
// finish for up to 5 s, and returns. Connections that were upgraded are the gateway's.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	serve := func(l listener, tls bool) {
		group.Go(func() error {
			var err error
			if tls {
				err = l.server.ServeTLS(l, "", "")
			} else {
				err = l.server.Serve(l)
			}
			if errors.Is(err, nethttp.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		})
		group.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			if err := l.server.Shutdown(stop); err != nil {
				s.log.Warn("requests under way were cut off", "err", err)
				return l.server.Close()
			}
			return nil
		})
	}
	serve(s.main, s.tls)
	if s.admin.Listener != nil {
		serve(s.admin, false)
	}
	return group.Wait()
}

// Close frees the addresses of a server that was never run. After Run it does nothing.
func (s *Server) Close() error {
	err := s.main.server.Close()
	_ = s.main.Close()
	if s.admin.Listener != nil {
		err = errors.Join(err, s.admin.server.Close())
		_ = s.admin.Close()
	}
	return err
}

func (s *Server) healthz(c *gin.Context) { c.JSON(nethttp.StatusOK, gin.H{"status": "ok"}) }

// Once answers 503 until begun is closed: the node is starting, and may know neither apps nor accounts.
func Once(begun <-chan struct{}) gin.HandlerFunc {
	return func(c *gin.Context) {
		select {
		case <-begun:
		default:
			c.AbortWithStatusJSON(nethttp.StatusServiceUnavailable, gin.H{"error": "the node is starting"})
		}
	}
}

// readyz answers 200 when this node can serve requests, else 503 and why.
func (s *Server) readyz(ready func() error) gin.HandlerFunc {
	return func(c *gin.Context) {
		err := ready()
		select {
		case <-s.draining:
			err = errors.New("the node is stopping")
		default:
		}
		if err != nil {
			c.JSON(nethttp.StatusServiceUnavailable, gin.H{"status": "not ready", "reason": err.Error()})
			return
		}
		c.JSON(nethttp.StatusOK, gin.H{"status": "ready"})
	}
}

// recovery answers 500 for a panic of a handler that has no recovery of its own.
func (s *Server) recovery(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, nethttp.ErrAbortHandler) {
				panic(p)
			}
			s.log.Error("panic in a handler", "path", c.FullPath(), "panic", p)
			c.AbortWithStatusJSON(nethttp.StatusInternalServerError, gin.H{"error": "internal error"})
		}
	}()
	c.Next()
}

// unescapePath unescapes the values of a path that was matched as it was sent: URL.RawPath is set where that makes a difference.
func unescapePath(c *gin.Context) {
	if c.Request.URL.RawPath == "" {
		return
	}
	for i, p := range c.Params {
		if v, err := url.PathUnescape(p.Value); err == nil { // the server has refused what can't be unescaped
			c.Params[i].Value = v
		}
	}
}

func metrics(g prometheus.Gatherer) nethttp.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{})
}

func (s *Server) adminHandler(cfg Config) nethttp.Handler {
	mux := nethttp.NewServeMux()
	mux.Handle("GET /metrics", metrics(cfg.Gatherer))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
