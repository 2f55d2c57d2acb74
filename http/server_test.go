package http_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	nethttp "net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	crierhttp "github.com/crier-im/crier/http"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() crierhttp.Config {
	return crierhttp.Config{
		Listen:   "127.0.0.1:0",
		Ready:    func() error { return nil },
		Gatherer: prometheus.NewRegistry(),
		Logger:   slog.New(slog.DiscardHandler),
	}
}

// start runs a server until the test ends.
func start(t *testing.T, cfg crierhttp.Config, mount func(gin.IRouter)) *crierhttp.Server {
	t.Helper()
	s, err := crierhttp.Open(cfg, mount)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := nethttp.Client{Transport: &nethttp.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPathValuesAreUnescapedOnce(t *testing.T) {
	t.Parallel()
	s := start(t, config(), func(r gin.IRouter) {
		r.GET("/users/:user/devices", func(c *gin.Context) { c.String(nethttp.StatusOK, "%s", c.Param("user")) })
	})
	for _, name := range []string{"a", "a/b", "/", "a+b", "a+b/c", "a b", "a b/c", "100%", "a%2Fb", "a%2Fb/c", "名/字", "a?b#c/d", "a&b=c", "..", "a!"} {
		if status, body := get(t, s.URL()+"/users/"+url.PathEscape(name)+"/devices"); status != nethttp.StatusOK || body != name {
			t.Errorf("%q: %d %q", name, status, body)
		}
	}
	if status, body := get(t, s.URL()+"/users/a%21/devices"); status != nethttp.StatusOK || body != "a!" { // escaped without need
		t.Errorf("%d %q", status, body)
	}
	if status, _ := get(t, s.URL()+"/users/a/b/devices"); status != nethttp.StatusNotFound {
		t.Errorf("a name that is not escaped: %d", status)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	cfg := config()
	cfg.Ready = func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("partition 7 has no leader")
	}
	s := start(t, cfg, func(gin.IRouter) {})
	if status, _ := get(t, s.URL()+"/healthz"); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	if status, body := get(t, s.URL()+"/readyz"); status != 503 || !strings.Contains(body, "partition 7") {
		t.Errorf("not ready: %d %s", status, body)
	}
	ready.Store(true)
	if status, body := get(t, s.URL()+"/readyz"); status != 200 {
		t.Errorf("ready: %d %s", status, body)
	}
	s.Drain()
	s.Drain()
	if status, body := get(t, s.URL()+"/readyz"); status != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("draining: %d %s", status, body)
	}
}

func TestMetricsAndPprofStandOnTheAdminAddress(t *testing.T) {
	t.Parallel()
	plain := start(t, config(), func(gin.IRouter) {})
	if status, _ := get(t, plain.URL()+"/metrics"); status != 200 {
		t.Errorf("metrics without an admin address: %d", status)
	}
	cfg := config()
	cfg.AdminListen = "127.0.0.1:0"
	s := start(t, cfg, func(gin.IRouter) {})
	for url, want := range map[string]int{
		s.URL() + "/metrics":            404,
		s.URL() + "/debug/pprof/":       404,
		s.AdminURL() + "/metrics":       200,
		s.AdminURL() + "/debug/pprof/":  200,
		s.URL() + "/no/such/resource":   404,
		plain.URL() + "/debug/pprof/":   404,
		plain.URL() + "/debug/pprof/cm": 404,
	} {
		if status, _ := get(t, url); status != want {
			t.Errorf("%s: %d, want %d", url, status, want)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	s := start(t, config(), func(r gin.IRouter) { r.GET("/boom", func(*gin.Context) { panic("boom") }) })
	if status, body := get(t, s.URL()+"/boom"); status != 500 || strings.Contains(body, "boom") {
		t.Errorf("%d %s", status, body)
	}
}

func TestPlainHTTPNeedsPermissionOffLoopback(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Listen = "0.0.0.0:0"
	if _, err := crierhttp.Open(cfg, func(gin.IRouter) {}); err == nil || !strings.Contains(err.Error(), "allow_plain_http") {
		t.Errorf("got %v", err)
	}
	cfg.AllowPlain = true
	s, err := crierhttp.Open(cfg, func(gin.IRouter) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config()
	cfg.Listen = l.Addr().String()
	if _, err := crierhttp.Open(cfg, func(gin.IRouter) {}); err == nil || !strings.Contains(err.Error(), cfg.Listen) {
		t.Errorf("got %v", err)
	}
}

// writeCert writes a self-signed certificate for 127.0.0.1 with the serial number.
func writeCert(t *testing.T, dir string, serial int64, written time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, written, written); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func serial(t *testing.T, s *crierhttp.Server) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// waitForSerial polls until the server shows the certificate, 10 s at most.
func waitForSerial(t *testing.T, s *crierhttp.Server, want int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := serial(t, s)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("serial %d, want %d", got, want)
		}
	}
}

func TestCertificateReloads(t *testing.T) {
	t.Parallel()
	dir, written := t.TempDir(), time.Now().Add(-time.Minute)
	cfg := config()
	cfg.TLSCert, cfg.TLSKey = writeCert(t, dir, 1, written)
	s := start(t, cfg, func(gin.IRouter) {})
	if got := serial(t, s); got != 1 {
		t.Fatalf("serial %d", got)
	}
	writeCert(t, dir, 2, written.Add(10*time.Second))
	waitForSerial(t, s, 2)

	if err := os.WriteFile(cfg.TLSCert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, s); got != 2 {
		t.Errorf("a broken file replaced the certificate: serial %d", got)
	}
	writeCert(t, dir, 3, written.Add(20*time.Second))
	waitForSerial(t, s, 3)
}

func TestBrokenCertificateIsNamedAtStart(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.TLSCert, cfg.TLSKey = filepath.Join(t.TempDir(), "none.pem"), "none"
	if _, err := crierhttp.Open(cfg, func(gin.IRouter) {}); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("got %v", err)
	}
}

// Until a node has begun, it answers only what was not put behind Once.
func TestOnce(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	s := start(t, config(), func(r gin.IRouter) {
		yes := func(c *gin.Context) { c.Status(nethttp.StatusOK) }
		r.GET("/early", yes)
		r.Group("", crierhttp.Once(begun)).GET("/late", yes)
	})
	status := func(path string) int {
		resp, err := nethttp.Get(s.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if early, late := status("/early"), status("/late"); early != 200 || late != 503 {
		t.Errorf("before: %d, %d", early, late)
	}
	close(begun)
	if late := status("/late"); late != 200 {
		t.Errorf("afterwards: %d", late)
	}
}

// A call that is under way when the server is told to end has its answer first; nothing new is taken.
func TestCallsUnderWayAreAnswered(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	s, err := crierhttp.Open(config(), func(r gin.IRouter) {
		r.GET("/slow", func(c *gin.Context) {
			close(entered)
			<-release
			c.String(nethttp.StatusOK, "done")
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	answered := make(chan string, 1)
	go func() {
		status, body := get(t, s.URL()+"/slow")
		answered <- fmt.Sprint(status, body)
	}()
	<-entered
	cancel()
	address := strings.TrimPrefix(s.URL(), "http://")
	for { // until nothing new is taken
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = c.Close()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatalf("it has ended before the answer: %v", err)
	default:
	}
	close(release)
	if got := <-answered; got != "200done" {
		t.Errorf("the answer is %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
