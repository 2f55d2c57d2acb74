package transport

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// mutual returns the configurations of the two ends of a connection, nil without TLS.
func mutual(c *tls.Config) (client, server *tls.Config) {
	if c == nil {
		return nil, nil
	}
	client = c.Clone()
	client.MinVersion = max(c.MinVersion, tls.VersionTLS13) // both ends are ours
	client.InsecureSkipVerify = false
	server = client.Clone()
	server.ClientAuth = tls.RequireAndVerifyClientCert
	return client, server
}

// named returns the configuration of a dial to a peer: the certificate must be good for
// its node id, or for the one name that all share.
func named(c *tls.Config, peer string) *tls.Config {
	c = c.Clone()
	c.ServerName = cmp.Or(c.ServerName, peer)
	return c
}

// checkName holds a caller to the same rule.
func checkName(state *tls.ConnectionState, c *tls.Config, from string) error {
	if err := state.PeerCertificates[0].VerifyHostname(cmp.Or(c.ServerName, from)); err != nil {
		return fmt.Errorf("%w: the certificate of caller %q: %w", ErrRefused, from, err)
	}
	return nil
}

// abort closes a connection without the farewell of TLS, which takes up to 5 s when the peer does not
// read; frames say where they end.
func abort(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.Close()
}

// LoadTLS returns the configuration of a node whose CA, certificate and key are in PEM files, as `crier tls` makes them. The
// certificate and its key are read again at each handshake, so that renewed ones are taken up; the CA is read once.
// serverName is the name that all certificates share, or empty when each has its node's id.
func LoadTLS(ca, certificate, key, serverName string) (*tls.Config, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("read the CA of nodes: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for nodes: %w", err)
		}
		return &pair, nil
	}
	pair, err := load()
	if err != nil {
		return nil, err
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not of the CA in %s", certificate, ca), err)
	}
	return &tls.Config{
		RootCAs: pool, ClientCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS13,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() },
	}, nil
}
