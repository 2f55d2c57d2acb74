package transport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier/cluster/transport"
)

// authority is a CA that writes files as `crier tls` does.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".crt", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.write(name+".key", &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name string, block *pem.Block) {
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// node returns the configuration of a node whose certificate has the name.
func (a *authority) node(name, serverName string) *tls.Config {
	a.t.Helper()
	a.issue(name, &x509.Certificate{
		DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	c, err := transport.LoadTLS(filepath.Join(a.dir, "ca.crt"), filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key"), serverName)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	strangers := func(c *tls.Config) *tls.Config { // trusts us, and is not trusted
		c.RootCAs, c.ClientCAs = ours.node("b", "").RootCAs, ours.node("b", "").ClientCAs
		return c
	}
	for name, c := range map[string]struct {
		a, b  *tls.Config
		hears string // what a's error says; empty: none
		logs  string // what b logs
	}{
		"good":                       {ours.node("a", ""), ours.node("b", ""), "", ""},
		"a shared name":              {ours.node("nodes", "nodes"), ours.node("nodes", "nodes"), "", ""},
		"a server of another CA":     {ours.node("a", ""), theirs.node("b", ""), "unknown authority", "bad certificate"},
		"a caller of another CA":     {strangers(theirs.node("a", "")), ours.node("b", ""), "unknown certificate authority", "unknown authority"},
		"a server of another name":   {ours.node("a", ""), ours.node("c", ""), "not b", "bad certificate"},
		"a caller of another name":   {ours.node("c", ""), ours.node("b", ""), "not a", "not a"},
		"a caller without TLS":       {nil, ours.node("b", ""), "handshake", "TLS"},
		"a server without TLS":       {ours.node("a", ""), nil, "handshake", "not a node of Crier"},
		"a name that one end shares": {ours.node("nodes", "nodes"), ours.node("b", ""), "not nodes", "bad certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			a := n.open(t, "a", func(cfg *transport.Config) { cfg.TLS = c.a }).Group(0)
			b := n.open(t, "b", func(cfg *transport.Config) { cfg.TLS = c.b }).Group(0)
			serve(t, b, new(follower).answer)
			err := a.RequestVote("b", "b", &raft.RequestVoteRequest{}, new(raft.RequestVoteResponse))
			if (err == nil) != (c.hears == "") || err != nil && (!errors.Is(err, transport.ErrLinkDown) || !strings.Contains(err.Error(), c.hears)) {
				t.Errorf("%v", err)
			}
			eventually(t, time.Minute, "node b logs "+c.logs, func() bool {
				for line := range strings.Lines(n.logs.String()) {
					if strings.Contains(line, "node=b") && strings.Contains(line, c.logs) {
						return true
					}
				}
				return c.logs == ""
			})
		})
	}
}

// A renewed certificate is taken up by the next connection.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.TLS = ca.node("a", "") }).Group(0)
	b := n.open(t, "b", func(c *transport.Config) { c.TLS = ca.node("b", "") }).Group(0)
	serve(t, b, new(follower).answer)
	vote := func() error {
		return a.RequestVote("b", "b", &raft.RequestVoteRequest{}, new(raft.RequestVoteResponse))
	}
	if err := vote(); err != nil {
		t.Fatal(err)
	}
	ca.issue("b", &x509.Certificate{DNSNames: []string{"other"}}) // not good for b: so it shows when it is taken
	n.faults.Reset("a", "b")
	eventually(t, time.Minute, "the new certificate", func() bool {
		err := vote()
		return err != nil && strings.Contains(err.Error(), "not b")
	})
	ca.node("b", "")
	eventually(t, time.Minute, "a good one", func() bool { return vote() == nil })
}

func TestLoadTLSRefuses(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.node("a", "")
	theirs.node("a", "")
	at := func(a *authority, name string) string { return filepath.Join(a.dir, name) }
	for name, files := range map[string][3]string{
		"no CA":               {at(ours, "none"), at(ours, "a.crt"), at(ours, "a.key")},
		"a CA that is none":   {at(ours, "a.key"), at(ours, "a.crt"), at(ours, "a.key")},
		"no certificate":      {at(ours, "ca.crt"), at(ours, "none"), at(ours, "a.key")},
		"the key of another":  {at(ours, "ca.crt"), at(ours, "a.crt"), at(ours, "ca.key")},
		"another's authority": {at(ours, "ca.crt"), at(theirs, "a.crt"), at(theirs, "a.key")},
	} {
		if _, err := transport.LoadTLS(files[0], files[1], files[2], ""); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, c := range []*tls.Config{{}, {RootCAs: x509.NewCertPool(), ClientCAs: x509.NewCertPool()}} {
		cfg := transport.Config{Cluster: "c", NodeID: "n", Listen: "127.0.0.1:0", TLS: c}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%v", err)
		}
	}
}
