package vendorsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/crier-im/crier"
)

const (
	// Project is the Firebase project of the simulator.
	Project = "crier-demo"

	account     = "sender@crier-demo.iam.gserviceaccount.com"
	keyID       = "0123456789abcdef0123456789abcdef01234567"
	scope       = "https://www.googleapis.com/auth/firebase.messaging"
	grant       = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	accessLife  = time.Hour
	accessesMax = 1000
)

// FCM simulates Google's token service at /token and FCM at /v1/projects/crier-demo/messages:send. GET /messages
// shows what arrived. A token that begins with an error code and a colon, such as "UNREGISTERED:", gets that error; so does
// "INVALID_TOKEN:", as FCM answers to what was never a token. Safe for concurrent use.
type FCM struct {
	*server
	key      *rsa.PrivateKey
	messages records[FCMMessage]

	mu       sync.Mutex
	accesses map[string]time.Time // access tokens and their ends
	given    int
	life     time.Duration
	oauth    *Fault
}

// FCMMessage is a message that arrived.
type FCMMessage struct {
	ID          string            `json:"id"`
	At          time.Time         `json:"at"`
	Token       string            `json:"token"`
	Title       string            `json:"title,omitempty"`
	Body        string            `json:"body,omitempty"`
	Image       string            `json:"image,omitempty"`
	Data        map[string]string `json:"data,omitempty"`
	Priority    string            `json:"priority,omitempty"`
	TTL         string            `json:"ttl,omitempty"`
	CollapseKey string            `json:"collapse_key,omitempty"`
	ChannelID   string            `json:"channel_id,omitempty"`
	Sound       string            `json:"sound,omitempty"`
	Tag         string            `json:"tag,omitempty"`
	Size        int               `json:"size"` // bytes of the message without its token
}

// StartFCM starts a simulator. Errors are of the address or the state.
func StartFCM(o Options) (*FCM, error) {
	f := &FCM{accesses: make(map[string]time.Time), life: accessLife}
	f.messages.keep = o.Keep
	if err := f.load(o.State); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", f.token)
	mux.HandleFunc("POST /v1/projects/{project}/messages:send", f.send)
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, f.Messages()) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, fcmFaults["NOT_FOUND"]) })
	var err error
	if f.server, err = start(o, mux); err != nil {
		return nil, err
	}
	f.run()
	return f, nil
}

func (f *FCM) load(state []byte) (err error) {
	if state == nil {
		f.key, err = rsa.GenerateKey(rand.Reader, 2048)
		return err
	}
	block, _ := pem.Decode(state)
	if block == nil {
		return errors.New("the state is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	var ok bool
	if f.key, ok = key.(*rsa.PrivateKey); !ok {
		return errors.New("the state is not an RSA key")
	}
	return nil
}

// State is what a later run needs so that the credential still works. It is secret.
func (f *FCM) State() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(f.key)
	if err != nil {
		panic(err) // an RSA key always has a form
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TokenURL is where access tokens are given.
func (f *FCM) TokenURL() string { return f.URL() + "/token" }

// Credential is a service account that the simulator believes. Its token_uri is Google's, as in a real file: the
// sender's options name TokenURL.
func (f *FCM) Credential() crier.Credential {
	text, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "project_id": Project, "private_key_id": keyID, "private_key": string(f.State()),
		"client_email": account, "client_id": "100000000000000000000", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
		"token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
	}, "", "  ")
	if err != nil {
		panic(err) // strings only
	}
	return crier.Credential{Vendor: crier.FCM, Target: Project, Form: "service-account", Secret: append(text, '\n')}
}

// Messages returns what arrived and is kept, the oldest first.
func (f *FCM) Messages() []FCMMessage { return f.messages.list() }

// Shown returns what a device shows of what is kept: a message replaces an earlier one with its tag.
func (f *FCM) Shown(token string) []FCMMessage {
	own := slices.DeleteFunc(f.Messages(), func(m FCMMessage) bool { return m.Token != token })
	return latest(own, func(m FCMMessage) string { return m.Tag })
}

// Given is how many access tokens were given.
func (f *FCM) Given() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.given
}

// Revoke makes every access token that was given invalid.
func (f *FCM) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.accesses)
}

// SetLife sets how long access tokens are valid that are given from now on.
func (f *FCM) SetLife(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life = d
}

// FailToken makes the token endpoint fail; nil ends it.
func (f *FCM) FailToken(fault *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.oauth = fault
}

// token gives an access token for an assertion that the demo's account has signed (RFC 7523).
func (f *FCM) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, bodyMost)
	_ = r.ParseForm() // what can't be read lacks its grant_type
	f.mu.Lock()
	fault, life := f.oauth, f.life
	f.mu.Unlock()
	if fault != nil {
		if f.wait(r, fault.Wait) {
			fault.answer(w, fmt.Sprintf(`{"error":%q,"error_description":%q}`, fault.Code, fault.Message))
		}
		return
	}
	if !f.wait(r, f.latency) {
		return
	}
	if r.PostFormValue("grant_type") != grant {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type", "error_description": "Invalid grant_type"})
		return
	}
	if err := f.assert(r.PostFormValue("assertion"), "http://"+r.Host+"/token"); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	access := "ya29." + rand.Text()
	f.mu.Lock()
	if len(f.accesses) >= accessesMax {
		clear(f.accesses)
	}
	f.accesses[access] = f.now().Add(life)
	f.given++
	f.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"access_token": access, "expires_in": int(life / time.Second), "token_type": "Bearer"})
}

// assert checks an assertion: its signature and its claims.
func (f *FCM) assert(text, audience string) error {
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	_, err := jwt.ParseWithClaims(text, &claims, func(t *jwt.Token) (any, error) { return &f.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(account), jwt.WithAudience(audience), jwt.WithIssuedAt(),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(f.now))
	switch {
	case err != nil:
		return fmt.Errorf("invalid JWT: %w", err)
	case claims.IssuedAt == nil || claims.ExpiresAt.Sub(claims.IssuedAt.Time) > time.Hour:
		return errors.New("invalid JWT: it must live for at most an hour from iat")
	case !slices.Contains(strings.Fields(claims.Scope), scope):
		return errors.New("invalid JWT: the scope of messaging is missing")
	}
	return nil
}

func (f *FCM) authorized(r *http.Request) bool {
	access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	f.mu.Lock()
	defer f.mu.Unlock()
	return ok && f.now().Before(f.accesses[access])
}

// send takes a message.
func (f *FCM) send(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if !f.wait(r, f.latency) {
		return
	}
	switch {
	case err != nil:
		refuse(w, Fault{Status: http.StatusRequestEntityTooLarge, Message: "too large"})
		return
	case !f.authorized(r):
		refuse(w, fcmFaults["UNAUTHENTICATED"])
		return
	case r.PathValue("project") != Project:
		refuse(w, fcmFaults["PERMISSION_DENIED"])
		return
	}
	m, field, err := readFCM(body)
	if err != nil {
		refuse(w, Fault{Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT", Field: field, Message: err.Error()})
		return
	}
	if fault, ok := f.faultOf(m.Token); ok {
		if f.wait(r, fault.Wait) {
			refuse(w, fault)
		}
		return
	}
	m.ID, m.At = "projects/"+Project+"/messages/0:"+rand.Text(), f.now()
	f.messages.add(m)
	writeJSON(w, http.StatusOK, map[string]string{"name": m.ID})
}

// faultOf returns the fault of a token: injected, or by the code that it begins with.
func (f *FCM) faultOf(token string) (Fault, bool) {
	if fault, ok := f.fault(token); ok {
		return fault, true
	}
	code, _, found := strings.Cut(token, ":")
	fault, ok := fcmFaults[code]
	return fault, found && ok
}
