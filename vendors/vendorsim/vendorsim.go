// Package vendorsim has small simulators of FCM and of a push service of
// browsers, for tests and for trying Crier without an account of Google's. They check what the real ones check (signatures,
// headers, sizes), keep what arrived, and fail on demand.
package vendorsim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// keepDefault is how many arrivals are kept where Options do not say.
	keepDefault = 1000
	// bodyMost bounds a request, in bytes.
	bodyMost = 64 << 10
	// faultsMost bounds how many faults a simulator has.
	faultsMost = 1000
)

// Options are how a simulator starts. The zero value is a server on a free port of loopback.
type Options struct {
	Listen  string        // host:port; empty: 127.0.0.1:0
	Latency time.Duration // before each answer
	Keep    int           // arrivals that are kept, the oldest go first; 0: 1000
	State   []byte        // what State returned in an earlier run, so that its credentials still work
	Now     func() time.Time
}

// Fault is an answer other than that of a push that went well.
type Fault struct {
	Status     int           // of HTTP; 0: the connection breaks off without an answer
	Code       string        // FCM: the error code; of the token endpoint: the error
	Field      string        // FCM: the field that the answer blames
	Message    string        // FCM: the sentence; Web Push: the body
	RetryAfter string        // the header
	Body       string        // all of the body, instead of one made of the above
	Wait       time.Duration // before the answer, beside the latency
	Times      int           // how often it happens; 0: for ever
}

// server is what the simulators have in common. Safe for concurrent use.
type server struct {
	listener net.Listener
	http     *http.Server
	served   chan struct{}      // closed when Serve has returned
	stop     context.CancelFunc // ends the answers that wait
	latency  time.Duration
	now      func() time.Time

	mu     sync.Mutex
	faults map[string]*Fault // by prefix of a token or a subscription's id
}

func start(o Options, handler http.Handler) (*server, error) {
	l, err := net.Listen("tcp", cmp.Or(o.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &server{
		listener: l, latency: o.Latency, now: o.Now, served: make(chan struct{}), stop: stop, faults: make(map[string]*Fault),
		http: &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
			BaseContext: func(net.Listener) context.Context { return ctx },
		},
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// run begins to answer.
func (s *server) run() {
	go func() {
		defer close(s.served)
		_ = s.http.Serve(s.listener) // ends with Close
	}()
}

// URL is where the simulator answers, as http://host:port.
func (s *server) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends the simulator and its connections. A second Close does nothing.
func (s *server) Close() error {
	s.stop()
	err := s.http.Close()
	<-s.served
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Fail makes pushes fail whose token (FCM) or subscription's id (Web Push) begins with prefix; of several prefixes the
// longest counts. A nil fault ends it.
func (s *server) Fail(prefix string, f *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.faults, prefix)
	if f != nil && len(s.faults) < faultsMost {
		given := *f
		s.faults[prefix] = &given
	}
}

// fault returns the fault that name is to have now.
func (s *server) fault(name string) (f Fault, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := ""
	for prefix := range s.faults {
		if strings.HasPrefix(name, prefix) && (!ok || len(prefix) > len(longest)) {
			longest, ok = prefix, true
		}
	}
	if !ok {
		return Fault{}, false
	}
	f = *s.faults[longest]
	if s.faults[longest].Times--; f.Times == 1 {
		delete(s.faults, longest)
	}
	return f, true
}

// wait lets a time pass; false: the client has gone. The body must have been read: before that, net/http does not look
// whether the client is there.
func (s *server) wait(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// answer sends the status of a fault with a body, or breaks off.
func (f *Fault) answer(w http.ResponseWriter, body string) {
	if f.Status == 0 {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, cmp.Or(f.Body, body))
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMost))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// records keeps the last arrivals. Safe for concurrent use.
type records[T any] struct {
	mu   sync.Mutex
	keep int
	all  []T
	seen int
}

func (r *records[T]) add(v T) (number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) >= cmp.Or(r.keep, keepDefault) {
		r.all = append(r.all[:0:0], r.all[1:]...)
	}
	r.all = append(r.all, v)
	r.seen++
	return r.seen
}

// list returns the arrivals that are kept, the oldest first.
func (r *records[T]) list() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]T{}, r.all...)
}

// latest returns the last of the values that have the same key, in the order of the first with it.
func latest[T any](all []T, key func(T) string) []T {
	place := make(map[string]int)
	out := []T{}
	for _, v := range all {
		k := key(v)
		if i, ok := place[k]; ok && k != "" {
			out[i] = v
			continue
		}
		place[k] = len(out)
		out = append(out, v)
	}
	return out
}

// strict decodes JSON with no unknown fields and nothing after it.
func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}
