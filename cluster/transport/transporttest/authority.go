package transporttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crier-im/crier/cluster/transport"
)

// Authority is a CA that writes files as `crier tls` does, into Dir.
type Authority struct {
	t    testing.TB
	Dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one, whose files are NAME.crt and NAME.key.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, Dir: t.TempDir()}
	a.cert, a.key = a.Issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// Issue makes a certificate and its key.
func (a *Authority) Issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
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

func (a *Authority) write(name string, block *pem.Block) {
	if err := os.WriteFile(filepath.Join(a.Dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// Node returns the configuration of a node whose certificate has the name.
func (a *Authority) Node(name, serverName string) *tls.Config {
	a.t.Helper()
	a.Issue(name, &x509.Certificate{
		DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	c, err := transport.LoadTLS(filepath.Join(a.Dir, "ca.crt"), filepath.Join(a.Dir, name+".crt"), filepath.Join(a.Dir, name+".key"), serverName)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}
