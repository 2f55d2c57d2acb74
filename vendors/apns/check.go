package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sideshow/apns2/token"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/pushcert"
)

// The forms of a credential for APNs.
const (
	FormKey         = "p8"  // a token's key; Params key_id and team_id
	FormCertificate = "p12" // a certificate with its key; Params password
)

// secretMost bounds the uploaded file, in bytes. A .p8 file has 257, a .p12 file 3 to 10 thousand.
const secretMost = 64 << 10

// Summary is what may be shown of a credential.
type Summary struct {
	Kind       string    `json:"kind"` // "key" or "certificate"
	KeyID      string    `json:"key_id,omitempty"`
	TeamID     string    `json:"team_id,omitempty"`
	Subject    string    `json:"subject,omitempty"` // of the certificate
	Topics     []string  `json:"topics,omitempty"`  // that the certificate is for
	Sandbox    bool      `json:"sandbox"`           // usable in the sandbox; a key may be restricted, which only APNs knows
	Production bool      `json:"production"`        // usable in production
	Expires    time.Time `json:"expires,omitzero"`  // of the certificate; a key has no end
}

// identity is a parsed credential: one of key and cert.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *tls.Certificate
	Summary
}

// Check verifies a credential without asking APNs. Errors are *crier.Error with
// CodeBadParameter; they name the field and the rule and hold nothing of the secret.
func Check(c crier.Credential) (Summary, error) {
	id, err := parse(c, time.Now())
	return id.Summary, err
}

// appleID is the form of the ids that Apple gives to keys and teams.
var appleID = regexp.MustCompile(`^[A-Z0-9]{10}$`)

func parse(c crier.Credential, now time.Time) (identity, error) {
	switch {
	case c.Vendor != crier.APNs:
		return identity{}, bad("vendor is %s, want %q", crier.Quote(string(c.Vendor)), crier.APNs)
	case c.Target == "":
		return identity{}, bad("target is missing: it is the bundle id of the app, such as com.example.app")
	case strings.ContainsFunc(c.Target, notInTopic) || len(c.Target) > 255:
		return identity{}, bad("target %s is not a bundle id: letters, digits, dots and hyphens, 255 at most", crier.Quote(c.Target))
	case len(c.Secret) == 0:
		return identity{}, bad("secret is missing: it is the content of the .p8 or .p12 file")
	case len(c.Secret) > secretMost:
		return identity{}, bad("secret has %d bytes, the limit is %d: it is not a .p8 or .p12 file", len(c.Secret), secretMost)
	}
	switch c.Form {
	case FormKey:
		return parseKey(c)
	case FormCertificate:
		return parseCertificate(c, now)
	}
	return identity{}, bad(`form is %s, want "p8" (a token's key) or "p12" (a certificate)`, crier.Quote(c.Form))
}

func bad(format string, args ...any) error {
	return crier.Errorf(crier.CodeBadParameter, format, args...)
}

// notInTopic reports whether r has no place in a bundle id, which stands in a header.
func notInTopic(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
}

func parseKey(c crier.Credential) (identity, error) {
	for _, name := range []string{"key_id", "team_id"} {
		if !appleID.MatchString(c.Params[name]) {
			return identity{}, bad("params.%s is not the 10 capital letters and digits that Apple's developer account shows", name) // unquoted: the key may have been pasted there
		}
	}
	if block, _ := pem.Decode(c.Secret); block != nil && block.Type == "CERTIFICATE" {
		return identity{}, bad("secret is a certificate, want the .p8 file of a key")
	}
	key, err := token.AuthKeyFromBytes(c.Secret)
	switch {
	case errors.Is(err, token.ErrAuthKeyNotPem):
		return identity{}, bad("secret is not a .p8 file: it has no line -----BEGIN PRIVATE KEY-----")
	case errors.Is(err, token.ErrAuthKeyNotECDSA) || err == nil && key.Curve != elliptic.P256():
		return identity{}, bad("secret holds a key that is not for ES256 (ECDSA on P-256): use the .p8 file of an APNs key as it was downloaded")
	case err != nil: // the parser's own words may quote what it read
		return identity{}, bad("secret is a damaged .p8 file: its key can't be read")
	}
	return identity{key: key, Summary: Summary{
		Kind: "key", KeyID: c.Params["key_id"], TeamID: c.Params["team_id"], Sandbox: true, Production: true,
	}}, nil
}

func parseCertificate(c crier.Credential, now time.Time) (identity, error) {
	// apns2 reads .p12 files with golang.org/x/crypto/pkcs12, which knows neither AES, as openssl 3 writes
	// it, nor files with the issuer's certificates.
	key, leaf, chain, err := pkcs12.DecodeChain(c.Secret, c.Params["password"])
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return identity{}, bad("params.password does not open the .p12 file")
	case err != nil:
		return identity{}, bad("secret is not a .p12 file with one certificate and its key: export both together")
	}
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, issuer := range chain {
		cert.Certificate = append(cert.Certificate, issuer.Raw)
	}
	scope := pushcert.Of(leaf)
	if err := fits(c, leaf, scope, now); err != nil {
		return identity{}, err
	}
	return identity{cert: cert, Summary: Summary{
		Kind: "certificate", Subject: leaf.Subject.CommonName, Topics: scope.Topics,
		Sandbox: scope.Sandbox, Production: scope.Production, Expires: leaf.NotAfter,
	}}, nil
}

// fits checks that a certificate may push what the credential is for.
func fits(c crier.Credential, leaf *x509.Certificate, scope pushcert.Scope, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return bad("secret: the certificate has expired on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return bad("secret: the certificate is valid from %s only", leaf.NotBefore.UTC().Format(time.DateOnly))
	case len(scope.Topics) == 0 || !scope.Sandbox && !scope.Production:
		return bad("secret: the certificate is not one for push: it names no bundle id or no environment")
	case !slices.Contains(scope.Topics, c.Target):
		return bad("target is %s, but the certificate is for %s", crier.Quote(c.Target), crier.Quote(strings.Join(scope.Topics, ", ")))
	case c.Sandbox && !scope.Sandbox:
		return bad("sandbox is true, but the certificate is for production only")
	case !c.Sandbox && !scope.Production:
		return bad("sandbox is false, but the certificate is for the sandbox only")
	}
	return nil
}
