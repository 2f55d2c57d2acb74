package fcm

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"

	"github.com/crier-im/crier"
)

const (
	// Form is the only form of a credential: the JSON file of a service account, as the Firebase console gives it.
	Form = "service-account"
	// secretMost bounds the file, in bytes: real ones have 2.4 KB.
	secretMost = 64 << 10
	// keyLeast is the shortest key, in bits: Google makes 2048.
	keyLeast = 2048
	// tokenMost is the longest registration token, in bytes; FCM's have about 160.
	tokenMost = 4096
)

// Summary is what of a credential may be shown.
type Summary struct {
	ProjectID   string `json:"project_id"`
	ClientEmail string `json:"client_email"`
	KeyID       string `json:"key_id,omitempty"`
}

// account is the file of a service account.
type account struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	TokenURI     string `json:"token_uri"`
}

func bad(field, rule string) error { return crier.Errorf(crier.CodeBadParameter, "%s %s", field, rule) }

// Check checks a credential without asking Google. Errors carry
// CodeBadParameter, name the field and the rule, and hold nothing of the secret.
func Check(c crier.Credential) (Summary, error) {
	a, err := read(c)
	if err != nil {
		return Summary{}, err
	}
	return Summary{ProjectID: a.ProjectID, ClientEmail: a.ClientEmail, KeyID: a.PrivateKeyID}, nil
}

func read(c crier.Credential) (*account, error) {
	switch {
	case c.Vendor != crier.FCM:
		return nil, bad("vendor", "must be fcm")
	case c.Form != Form:
		return nil, bad("form", "must be "+Form)
	case c.Sandbox:
		return nil, bad("sandbox", "must be false: FCM has none")
	case c.Target == "":
		return nil, bad("target", "must be the id of the Firebase project")
	case len(c.Params) > 0:
		return nil, bad("params", "must be empty: the file has everything")
	case len(c.Secret) == 0 || len(c.Secret) > secretMost:
		return nil, bad("secret", "must be the JSON file of a service account, of at most 64 KB")
	}
	a := new(account)
	if json.Unmarshal(c.Secret, a) != nil { // the cause would show what was read
		return nil, bad("secret", "is not the JSON file of a service account")
	}
	switch {
	case a.Type != "service_account":
		return nil, bad("secret.type", `must be "service_account"`)
	case a.ProjectID == "":
		return nil, bad("secret.project_id", "is missing")
	case a.ProjectID != c.Target:
		return nil, bad("secret.project_id", "must be the target: it is "+crier.Quote(a.ProjectID)+", the target is "+crier.Quote(c.Target))
	case !isProjectID(a.ProjectID):
		return nil, bad("secret.project_id", "must have letters, digits, '-', '.' and ':' only")
	case !strings.Contains(a.ClientEmail, "@") || strings.ContainsAny(a.ClientEmail, " \t\r\n"):
		return nil, bad("secret.client_email", "must be an e-mail address")
	case a.TokenURI != "" && !isGoogle(a.TokenURI):
		return nil, bad("secret.token_uri", "must be an https URL of Google's")
	}
	return a, checkKey(a.PrivateKey)
}

// isProjectID allows what may stand in the path of a request: project ids, and those of a domain ("example.com:name").
func isProjectID(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-.:_", r)
	})
}

// isGoogle keeps a file from choosing the server that this one calls.
func isGoogle(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.User == nil &&
		(strings.HasSuffix(u.Host, ".googleapis.com") || u.Host == "accounts.google.com")
}

func checkKey(text string) error {
	const field = "secret.private_key"
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return bad(field, "is missing or not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if err != nil {
		return bad(field, "is not a private key of PKCS #8 or PKCS #1")
	}
	switch k, ok := key.(*rsa.PrivateKey); {
	case !ok:
		return bad(field, "must be an RSA key")
	case k.N.BitLen() < keyLeast:
		return bad(field, "must have at least 2048 bits")
	}
	return nil
}

// CheckToken checks the form of a registration token: 1 to 4096 printable
// characters of ASCII without spaces. The error carries CodeBadParameter.
func CheckToken(token string) error {
	switch {
	case token == "" || len(token) > tokenMost:
		return bad("token", "must have 1 to 4096 characters")
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return bad("token", "must have printable ASCII characters only")
	}
	return nil
}
