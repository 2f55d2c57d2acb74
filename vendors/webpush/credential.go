package webpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"net/mail"
	"net/url"
	"strings"

	"github.com/crier-im/crier"
)

// Form is the only form of a credential: Secret is the private key of VAPID, 32 bytes as base64url, as tools for
// Web Push make them.
const Form = "vapid"

// Summary is what of a credential may be shown.
type Summary struct {
	PublicKey string `json:"public_key"` // what pages subscribe with: applicationServerKey, as base64url
	Subject   string `json:"subject"`    // whom a push service writes to
}

// vapid is a credential as it is used.
type vapid struct {
	private, public string // base64url without padding
	subject         string
}

func bad(field, rule string) error { return crier.Errorf(crier.CodeBadParameter, "%s %s", field, rule) }

// Check checks a credential. Errors carry CodeBadParameter, name the field and the rule, and hold nothing of the secret.
func Check(c crier.Credential) (Summary, error) {
	v, err := read(c)
	if err != nil {
		return Summary{}, err
	}
	return Summary{PublicKey: v.public, Subject: v.subject}, nil
}

func read(c crier.Credential) (*vapid, error) {
	switch {
	case c.Vendor != crier.WebPush:
		return nil, bad("vendor", "must be webpush")
	case c.Form != Form:
		return nil, bad("form", "must be "+Form)
	case c.Target != "":
		return nil, bad("target", "must be empty: one key serves all browsers")
	case c.Sandbox:
		return nil, bad("sandbox", "must be false: Web Push has none")
	}
	for name := range c.Params {
		if name != "public_key" && name != "subject" {
			return nil, bad("params", "must be public_key and subject, not "+crier.Quote(name))
		}
	}
	public, err := decode(c.Params["public_key"])
	if _, invalid := ecdh.P256().NewPublicKey(public); err != nil || invalid != nil {
		return nil, bad("params.public_key", "must be a point of P-256 in 65 bytes as base64url")
	}
	if !isContact(c.Params["subject"]) {
		return nil, bad("params.subject", "must be mailto: and an address, or an https URL")
	}
	secret, err := decode(string(bytes.TrimSpace(c.Secret)))
	if err != nil {
		return nil, bad("secret", "must be a private key of P-256 in 32 bytes as base64url")
	}
	private, err := ecdh.P256().NewPrivateKey(secret)
	if err != nil {
		return nil, bad("secret", "must be a private key of P-256 in 32 bytes as base64url")
	}
	if !bytes.Equal(private.PublicKey().Bytes(), public) {
		return nil, bad("params.public_key", "must belong to the private key")
	}
	return &vapid{encode(secret), encode(public), c.Params["subject"]}, nil
}

// isContact follows what Apple asks: an address without a name, or a URL of a host.
func isContact(subject string) bool {
	if address, ok := strings.CutPrefix(subject, "mailto:"); ok {
		a, err := mail.ParseAddress(address)
		return err == nil && a.Address == address
	}
	u, err := url.Parse(subject)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}

// decode reads base64 of either alphabet, padded or not.
func decode(text string) ([]byte, error) {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	return base64.RawURLEncoding.DecodeString(text)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
