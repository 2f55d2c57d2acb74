package apnssim

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Options configure a Server. The zero value takes any well-formed push with a
// certificate of its own CA; Keys are needed for provider tokens.
type Options struct {
	Listen     string           // host:port of APNs; "": 127.0.0.1 and a free port
	Admin      string           // host:port of the page, plain HTTP; "": no page
	Names      []string         // more host names and addresses for the certificate
	CA         *CA              // nil: a new one
	Keys       []Key            // whose provider tokens are taken
	Topics     []string         // the bundle ids that exist; empty: any
	Sandbox    bool             // the environment that it plays
	Latency    time.Duration    // before each answer
	MaxStreams uint32           // SETTINGS_MAX_CONCURRENT_STREAMS; 0: 1000
	PerDevice  int              // pushes a second to one device, more are TooManyRequests; 0: any
	NoPrefixes bool             // tokens have no faults of their own, see Prefixes
	Keep       int              // notifications kept in memory; 0: 10000
	Log        io.Writer        // a JSON line for each request; nil: none
	Logger     *slog.Logger     // nil: no log
	Now        func() time.Time // its clock; nil: the system's
}

// Server is a running simulator. Safe for concurrent use.
type Server struct {
	options Options
	now     func() time.Time
	log     *slog.Logger
	ca      *CA
	main    net.Listener
	admin   net.Listener // nil without a page
	page    *http.Server
	faults  faults
	shown   store
	journal journal
	work    sync.WaitGroup
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// Start binds the addresses and serves until Close.
func Start(o Options) (*Server, error) {
	s := &Server{options: o, now: o.Now, log: o.Logger, ca: o.CA, conns: make(map[*conn]struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.options.MaxStreams = cmp.Or(o.MaxStreams, 1000)
	s.shown.init(cmp.Or(o.Keep, 10_000))
	s.journal.w = o.Log
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.work.Go(s.accept)
	if s.admin != nil {
		s.page = &http.Server{Handler: s.pages(), ReadHeaderTimeout: 10 * time.Second}
		s.work.Go(func() {
			if err := s.page.Serve(s.admin); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("the page ended", "err", err)
			}
		})
	}
	return s, nil
}

func (s *Server) listen() (err error) {
	if s.ca == nil {
		if s.ca, err = NewCA(); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", cmp.Or(s.options.Listen, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	host, _, _ := net.SplitHostPort(l.Addr().String())
	cert, err := s.ca.server(append([]string{"localhost", "127.0.0.1", "::1", host}, s.options.Names...))
	if err != nil {
		_ = l.Close()
		return err
	}
	s.main = tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{http2.NextProtoTLS},
		ClientAuth: tls.RequestClientCert, VerifyPeerCertificate: s.refuseExpired,
	})
	if s.options.Admin == "" {
		return nil
	}
	if s.admin, err = net.Listen("tcp", s.options.Admin); err != nil {
		_ = s.main.Close()
		return fmt.Errorf("listen for the page: %w", err)
	}
	return nil
}

// refuseExpired ends the handshake of a certificate that has expired; what else is
// wrong with one is answered with a reason.
func (s *Server) refuseExpired(chain [][]byte, _ [][]*x509.Certificate) error {
	if len(chain) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err == nil && s.now().After(leaf.NotAfter) {
		err = x509.CertificateInvalidError{Cert: leaf, Reason: x509.Expired}
	}
	return err
}

func (s *Server) accept() {
	for {
		wire, err := s.main.Accept()
		if err != nil {
			return // closed
		}
		s.work.Go(func() {
			defer wire.Close()
			if err := s.serve(wire); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Debug("a connection ended", "err", err)
			}
		})
	}
}

// URL is the endpoint, https://host:port.
func (s *Server) URL() string { return "https://" + s.main.Addr().String() }

// AdminURL is where the page is, "" where it is not.
func (s *Server) AdminURL() string {
	if s.admin == nil {
		return ""
	}
	return "http://" + s.admin.Addr().String()
}

// CA is the authority of its certificate, for clients to trust.
func (s *Server) CA() *CA { return s.ca }

// Notifications returns what the devices got and still show, oldest first.
func (s *Server) Notifications() []Notification { return s.shown.all("") }

// Requests returns how many requests were answered or cut off.
func (s *Server) Requests() int64 { return s.journal.count.Load() }

// Connections returns how many connections were opened so far.
func (s *Server) Connections() int64 { return s.journal.conns.Load() }

// SetFault replaces the faults: the first that fits a request decides. None ends them.
func (s *Server) SetFault(f ...Fault) { s.faults.set(f) }

// GoAway announces on every connection that no more streams are taken, with a
// reason unless it is empty. What has arrived is still answered; then the connection closes.
func (s *Server) GoAway(reason string) {
	for _, c := range s.connections() {
		c.goAway(^uint32(0), reason)
	}
}

func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// Close cuts every connection, and returns when all that runs has ended. The second call does nothing.
func (s *Server) Close() error {
	s.cancel()
	err := s.main.Close()
	if s.page != nil {
		_ = s.page.Close()
	}
	for _, c := range s.connections() {
		_ = c.wire.Close()
	}
	s.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
