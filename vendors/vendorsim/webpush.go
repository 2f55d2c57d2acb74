package vendorsim

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crier-im/crier"
)

const (
	// subscriptionsMost bounds how many subscriptions a simulator has.
	subscriptionsMost = 10000
	// bodyLimit is what every push service takes, in bytes (RFC 8030, 7.2).
	bodyLimit = 4096
	// subject is the contact of the demo's credential.
	subject = "mailto:push@example.com"
)

// b64 is base64url without padding.
var b64 = base64.RawURLEncoding

var (
	idForm    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	topicForm = regexp.MustCompile(`^[A-Za-z0-9_-]{0,32}$`)
	byStatus  = regexp.MustCompile(`^[1-5][0-9][0-9]-`)
	urgencies = []string{"", "very-low", "low", "normal", "high"}
)

// WebPush simulates a push service of browsers (RFC 8030) and the browsers: it has their keys, and keeps what they
// would read. GET /messages shows what arrived. A subscription whose id begins with a status and a dash, such as "410-phone", is
// answered with that status. Safe for concurrent use.
type WebPush struct {
	*server
	vapid    *ecdh.PrivateKey
	messages records[WebPushMessage]

	mu            sync.Mutex
	subscriptions map[string]*subscription
}

// WebPushMessage is a message that arrived.
type WebPushMessage struct {
	ID           string          `json:"id"`
	At           time.Time       `json:"at"`
	Subscription string          `json:"subscription"`
	TTL          int             `json:"ttl"` // seconds
	Topic        string          `json:"topic,omitempty"`
	Urgency      string          `json:"urgency,omitempty"`
	Payload      json.RawMessage `json:"payload"` // decrypted
	Size         int             `json:"size"`    // bytes as sent
}

// subscription is what a browser keeps of one.
type subscription struct {
	private *ecdh.PrivateKey
	auth    []byte
	gone    bool
}

// webPushState is the form of State.
type webPushState struct {
	VAPID         []byte
	Subscriptions map[string][2][]byte // the private key and the secret by id
}

// StartWebPush starts a simulator. Errors are of the address or the state.
func StartWebPush(o Options) (*WebPush, error) {
	p := &WebPush{subscriptions: make(map[string]*subscription)}
	p.messages.keep = o.Keep
	if err := p.load(o.State); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /push/{id}", p.push)
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, p.Messages()) })
	var err error
	if p.server, err = start(o, mux); err != nil {
		return nil, err
	}
	p.run()
	return p, nil
}

func (p *WebPush) load(state []byte) (err error) {
	if state == nil {
		p.vapid, err = ecdh.P256().GenerateKey(rand.Reader)
		return err
	}
	var s webPushState
	if err := json.Unmarshal(state, &s); err != nil {
		return err
	}
	if p.vapid, err = ecdh.P256().NewPrivateKey(s.VAPID); err != nil {
		return err
	}
	for id, keys := range s.Subscriptions {
		private, err := ecdh.P256().NewPrivateKey(keys[0])
		if err != nil {
			return err
		}
		p.subscriptions[id] = &subscription{private: private, auth: keys[1]}
	}
	return nil
}

// State is what a later run needs so that the credential and the subscriptions
// still work. It is secret.
func (p *WebPush) State() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := webPushState{VAPID: p.vapid.Bytes(), Subscriptions: make(map[string][2][]byte)}
	for id, sub := range p.subscriptions {
		s.Subscriptions[id] = [2][]byte{sub.private.Bytes(), sub.auth}
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // bytes only
	}
	return text
}

// Credential is the VAPID key that the subscriptions were made for.
func (p *WebPush) Credential() crier.Credential {
	return crier.Credential{
		Vendor: crier.WebPush, Form: "vapid", Secret: []byte(b64.EncodeToString(p.vapid.Bytes())),
		Params: map[string]string{"public_key": b64.EncodeToString(p.vapid.PublicKey().Bytes()), "subject": subject},
	}
}

// Subscribe makes a subscription as a browser gives it, as JSON; for an id that is there already, the same again.
// An id has 1 to 64 letters, digits, '-' and '_'.
func (p *WebPush) Subscribe(id string) (string, error) {
	if !idForm.MatchString(id) {
		return "", errors.New("an id must have 1 to 64 letters, digits, '-' and '_'")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sub := p.subscriptions[id]
	if sub == nil {
		if len(p.subscriptions) >= subscriptionsMost {
			return "", fmt.Errorf("there are %d subscriptions already", subscriptionsMost)
		}
		private, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return "", err
		}
		sub = &subscription{private: private, auth: make([]byte, 16)}
		_, _ = rand.Read(sub.auth) // never fails (crypto/rand)
		p.subscriptions[id] = sub
	}
	text, err := json.Marshal(map[string]any{
		"endpoint": p.URL() + "/push/" + id, "expirationTime": nil,
		"keys": map[string]string{"p256dh": b64.EncodeToString(sub.private.PublicKey().Bytes()), "auth": b64.EncodeToString(sub.auth)},
	})
	return string(text), err
}

// Unsubscribe ends a subscription: pushes to it are 410.
func (p *WebPush) Unsubscribe(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sub := p.subscriptions[id]; sub != nil {
		sub.gone = true
	}
}

// Subscriptions returns the ids of all subscriptions, sorted.
func (p *WebPush) Subscriptions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.subscriptions))
}

// Messages returns what arrived and is kept, the oldest first.
func (p *WebPush) Messages() []WebPushMessage { return p.messages.list() }

// Pending returns what a browser that was away gets of what is kept: a message replaces an earlier one with its topic.
func (p *WebPush) Pending(id string) []WebPushMessage {
	own := slices.DeleteFunc(p.Messages(), func(m WebPushMessage) bool { return m.Subscription != id })
	return latest(own, func(m WebPushMessage) string { return m.Topic })
}

// push takes a message.
func (p *WebPush) push(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	body, err := readBody(w, r)
	if !p.wait(r, p.latency) {
		return
	}
	p.mu.Lock()
	sub := p.subscriptions[id]
	gone := sub != nil && sub.gone
	p.mu.Unlock()
	if fault, ok := p.faultOf(id); ok {
		if p.wait(r, fault.Wait) {
			fault.answer(w, fault.Message)
		}
		return
	}
	switch {
	case err != nil || len(body) > bodyLimit:
		http.Error(w, "the body is over 4096 bytes", http.StatusRequestEntityTooLarge)
		return
	case sub == nil:
		http.Error(w, "no such subscription", http.StatusNotFound)
		return
	case gone:
		http.Error(w, "the subscription has ended", http.StatusGone)
		return
	}
	if status, err := p.authorize(r); err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	m, err := readWebPush(r.Header)
	if err == nil {
		m.Payload, err = sub.decrypt(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.ID, m.At, m.Subscription, m.Size = p.URL()+"/message/"+rand.Text(), p.now(), id, len(body)
	p.messages.add(m)
	w.Header().Set("Location", m.ID)
	w.WriteHeader(http.StatusCreated)
}

// faultOf returns the fault of a subscription: injected, or by the status that its id begins with.
func (p *WebPush) faultOf(id string) (Fault, bool) {
	if f, ok := p.fault(id); ok || !byStatus.MatchString(id) {
		return f, ok
	}
	f := Fault{Message: "as the id asks"}
	f.Status, _ = strconv.Atoi(id[:3]) // three digits
	if f.Status == http.StatusTooManyRequests {
		f.RetryAfter = "30"
	}
	return f, f.Status >= 200 // net/http sends what is below on its own
}

// readWebPush checks the headers of a request.
func readWebPush(h http.Header) (m WebPushMessage, err error) {
	m.TTL, err = strconv.Atoi(h.Get("TTL"))
	m.Topic, m.Urgency = h.Get("Topic"), h.Get("Urgency")
	switch {
	case err != nil || m.TTL < 0:
		return m, errors.New("the TTL is missing or not a number of seconds")
	case !topicForm.MatchString(m.Topic):
		return m, errors.New("the Topic is not of at most 32 characters of base64url")
	case !slices.Contains(urgencies, m.Urgency):
		return m, errors.New("the Urgency is not one of RFC 8030")
	case !strings.EqualFold(h.Get("Content-Encoding"), "aes128gcm"):
		return m, errors.New("the Content-Encoding is not aes128gcm")
	}
	return m, nil
}
