package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier/cluster/transport"
)

func TestTLSMakesCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "certs")
	file := func(name string) string { return filepath.Join(dir, name) }
	out, err := run(t, "tls", "ca", "--dir", dir)
	if err != nil || !strings.Contains(out, file("ca.crt")) {
		t.Fatalf("%q, %v", out, err)
	}
	if _, err := run(t, "tls", "cert", "node-1", "--dir", dir, "--host", "crier.example.org,10.0.0.1", "--host", "::1"); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{".": os.ModeDir | 0o700, "ca.key": 0o600, "ca.crt": 0o644, "node-1.key": 0o600, "node-1.crt": 0o644} {
		if info, err := os.Stat(file(name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 4 {
		t.Errorf("%v, %v", all, err)
	}
	pair, err := tls.LoadX509KeyPair(file("node-1.crt"), file("node-1.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := tls.LoadX509KeyPair(file("ca.crt"), file("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	for _, name := range []string{"node-1", "crier.example.org", "10.0.0.1", "::1"} {
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for leaf, life := range map[*x509.Certificate]time.Duration{pair.Leaf: nodeLife, ca.Leaf: caLife} {
		if left := time.Until(leaf.NotAfter); left > life || left < life-time.Minute || time.Since(leaf.NotBefore) < 0 {
			t.Errorf("%v: %v to %v", leaf.Subject, leaf.NotBefore, leaf.NotAfter)
		}
	}
	if pair.Leaf.IsCA || !ca.Leaf.IsCA || pair.Leaf.SerialNumber.Cmp(ca.Leaf.SerialNumber) == 0 {
		t.Error("the node's certificate could sign")
	}
}

// The files are good for the transport between nodes.
func TestTLSFilesShakeHands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"ca"}, {"cert", "node-1"}, {"cert", "node-2"}} {
		if _, err := run(t, append(append([]string{"tls"}, args...), "--dir", dir)...); err != nil {
			t.Fatal(err)
		}
	}
	load := func(node, serverName string) *tls.Config {
		c, err := transport.LoadTLS(filepath.Join(dir, "ca.crt"), filepath.Join(dir, node+".crt"), filepath.Join(dir, node+".key"), serverName)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	server := load("node-1", "")
	server.ClientAuth = tls.RequireAndVerifyClientCert
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		s := tls.Server(a, server)
		_, _ = io.Copy(s, s)
	}()
	c := tls.Client(b, load("node-2", "node-1"))
	echoed := make([]byte, 4)
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, echoed); err != nil || string(echoed) != "ping" {
		t.Errorf("%q, %v", echoed, err)
	}
}

func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	dir, empty := t.TempDir(), t.TempDir()
	for _, args := range [][]string{{"ca", "--valid", "48h"}, {"cert", "node-1"}} {
		if _, err := run(t, append(append([]string{"tls"}, args...), "--dir", dir)...); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"--force":           {"ca", "--dir", dir},
		"is there already":  {"cert", "node-1", "--dir", dir},
		"make one with":     {"cert", "node-1", "--dir", empty},
		"can't be the name": {"cert", "../node", "--dir", dir},
		`"ca" can't be`:     {"cert", "ca", "--dir", dir},
		"letters, digits":   {"cert", "*.example.org", "--dir", dir},
		`"a b"`:             {"cert", "node-2", "--host", "a b", "--dir", dir},
		"no time":           {"cert", "node-2", "--valid", "-1h", "--dir", dir},
		"accepts 1 arg":     {"cert", "--dir", dir},
	} {
		if out, err := run(t, append([]string{"tls"}, args...)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "ca.key")); err != nil || !bytes.Equal(before, after) {
		t.Error("the CA's key has changed")
	}
	if _, err := run(t, "tls", "cert", "node-1", "--dir", dir, "--force"); err != nil {
		t.Errorf("a renewal: %v", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "node-1.crt"), filepath.Join(dir, "node-1.key"))
	if err != nil || time.Until(pair.Leaf.NotAfter) > 48*time.Hour {
		t.Errorf("a certificate that outlives its CA: %v, %v", pair.Leaf.NotAfter, err)
	}
}
