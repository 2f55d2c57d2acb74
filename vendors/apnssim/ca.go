package apnssim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/crier-im/crier/vendors/internal/pushcert"
)

// CA is the authority behind the simulator's certificate and the push certificates that it takes.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes one that is valid for ten years.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &CA{key: key}
	now := time.Now()
	ca.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "Crier APNs simulator"}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SerialNumber: big.NewInt(1),
	}
	ca.cert, err = ca.sign(ca.cert, key)
	return ca, err
}

// ReadCA reads what PEM returned.
func ReadCA(text []byte) (*CA, error) {
	ca := &CA{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case "CERTIFICATE":
			ca.cert, err = x509.ParseCertificate(block.Bytes)
		case "EC PRIVATE KEY":
			ca.key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
	}
	if ca.cert == nil || ca.key == nil || !ca.key.PublicKey.Equal(ca.cert.PublicKey) {
		return nil, errors.New("read CA: want a certificate and its key")
	}
	return ca, nil
}

// PEM returns the certificate, for clients to trust, and it with the key, to be read again.
func (ca *CA) PEM() (cert, both []byte) {
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	der, err := x509.MarshalECPrivateKey(ca.key)
	if err != nil {
		panic(err) // only for a curve without a name
	}
	return cert, append(append([]byte(nil), cert...), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
}

// Pool returns the pool that a client trusts.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// PushCertificate is what IssuePush makes.
type PushCertificate struct {
	Topics              []string // the bundle id first
	Sandbox, Production bool
	NotAfter            time.Time // zero: in a year
}

// IssuePush makes a push certificate as Apple would, with a new key.
func (ca *CA) IssuePush(p PushCertificate) (tls.Certificate, error) {
	template := ca.template()
	template.Subject.CommonName = "Apple Push Services: simulated"
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if !p.NotAfter.IsZero() {
		template.NotAfter = p.NotAfter
		template.NotBefore = p.NotAfter.AddDate(-1, 0, 0)
	}
	if err := pushcert.Apply(template, pushcert.Scope{Topics: p.Topics, Sandbox: p.Sandbox, Production: p.Production}); err != nil {
		return tls.Certificate{}, err
	}
	return ca.issue(template)
}

// server makes the certificate of the simulator itself.
func (ca *CA) server(names []string) (tls.Certificate, error) {
	template := ca.template()
	template.Subject.CommonName = names[0]
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if name != "" {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return ca.issue(template)
}

func (ca *CA) template() *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func (ca *CA) issue(template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := ca.sign(template, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func (ca *CA) sign(template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// NewKey makes a token's key with the ids, and its .p8 file.
func NewKey(id, team string) (k Key, p8 []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return k, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return k, nil, err
	}
	k = Key{ID: id, Team: team, Public: &private.PublicKey}
	return k, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ReadKey reads a .p8 file and keeps the public key.
func ReadKey(p8 []byte, id, team string) (Key, error) {
	block, _ := pem.Decode(p8)
	if block == nil {
		return Key{}, errors.New("not a .p8 file")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("read a .p8 file: %w", err)
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return Key{}, errors.New("the key of the .p8 file is not for ES256")
	}
	return Key{ID: id, Team: team, Public: &key.PublicKey}, nil
}
