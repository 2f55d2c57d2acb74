package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier/cluster/transport"
	"github.com/crier-im/crier/cluster/transport/transporttest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := transporttest.NewAuthority(t), transporttest.NewAuthority(t)
	strangers := func(c *tls.Config) *tls.Config { // trusts us, and is not trusted
		c.RootCAs, c.ClientCAs = ours.Node("b", "").RootCAs, ours.Node("b", "").ClientCAs
		return c
	}
	for name, c := range map[string]struct {
		a, b  *tls.Config
		hears string // what a's error says; empty: none
		logs  string // what b logs
	}{
		"good":                       {ours.Node("a", ""), ours.Node("b", ""), "", ""},
		"a shared name":              {ours.Node("nodes", "nodes"), ours.Node("nodes", "nodes"), "", ""},
		"a server of another CA":     {ours.Node("a", ""), theirs.Node("b", ""), "unknown authority", "bad certificate"},
		"a caller of another CA":     {strangers(theirs.Node("a", "")), ours.Node("b", ""), "unknown certificate authority", "unknown authority"},
		"a server of another name":   {ours.Node("a", ""), ours.Node("c", ""), "not b", "bad certificate"},
		"a caller of another name":   {ours.Node("c", ""), ours.Node("b", ""), "not a", "not a"},
		"a caller without TLS":       {nil, ours.Node("b", ""), "handshake", "TLS"},
		"a server without TLS":       {ours.Node("a", ""), nil, "handshake", "not a node of Crier"},
		"a name that one end shares": {ours.Node("nodes", "nodes"), ours.Node("b", ""), "not nodes", "bad certificate"},
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
	ca := transporttest.NewAuthority(t)
	n := newNetwork()
	a := n.open(t, "a", func(c *transport.Config) { c.TLS = ca.Node("a", "") }).Group(0)
	b := n.open(t, "b", func(c *transport.Config) { c.TLS = ca.Node("b", "") }).Group(0)
	serve(t, b, new(follower).answer)
	vote := func() error {
		return a.RequestVote("b", "b", &raft.RequestVoteRequest{}, new(raft.RequestVoteResponse))
	}
	if err := vote(); err != nil {
		t.Fatal(err)
	}
	ca.Issue("b", &x509.Certificate{DNSNames: []string{"other"}}) // not good for b: so it shows when it is taken
	n.faults.Reset("a", "b")
	eventually(t, time.Minute, "the new certificate", func() bool {
		err := vote()
		return err != nil && strings.Contains(err.Error(), "not b")
	})
	ca.Node("b", "")
	eventually(t, time.Minute, "a good one", func() bool { return vote() == nil })
}

func TestLoadTLSRefuses(t *testing.T) {
	t.Parallel()
	ours, theirs := transporttest.NewAuthority(t), transporttest.NewAuthority(t)
	ours.Node("a", "")
	theirs.Node("a", "")
	at := func(a *transporttest.Authority, name string) string { return filepath.Join(a.Dir, name) }
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
