package apnssim

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crier-im/crier/vendors/internal/pushcert"
)

const (
	// tokenAge is how old a provider token may be, updateGap how often a connection may bring another.
	tokenAge  = time.Hour
	updateGap = 20 * time.Minute
	// tokenAhead is how far the iat of a provider token may lie in the future. Apple does not say.
	tokenAhead = 5 * time.Minute
)

// Key is a token's key that the simulator knows.
type Key struct {
	ID, Team       string
	Public         *ecdsa.PublicKey
	Topics         []string // that it may push to; empty: all of the team
	SandboxOnly    bool     // restricted to an environment
	ProductionOnly bool
}

// connAuth is who speaks on a connection.
type connAuth struct {
	server *Server
	peer   []*x509.Certificate

	mu      sync.Mutex
	token   string    // the provider token that was taken last
	changed time.Time // when it was first seen
	key     Key       // whose it is
	issued  time.Time
}

// check returns the reason why a request is not allowed, and the bundle id that
// stands in for a topic that is not given.
func (a *connAuth) check(r *request) (topic, reason string) {
	topic = r.header["apns-topic"]
	header, given := r.header["authorization"]
	if len(a.peer) > 0 && !given {
		return a.checkCertificate(topic)
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", "MissingProviderToken"
	}
	if topic == "" {
		return "", "MissingTopic"
	}
	return topic, a.checkToken(token, topic)
}

func (a *connAuth) checkCertificate(topic string) (string, string) {
	leaf := a.peer[0]
	scope := pushcert.Of(leaf)
	others := x509.NewCertPool()
	for _, c := range a.peer[1:] {
		others.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.server.ca.Pool(), Intermediates: others, CurrentTime: a.server.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	switch {
	case err != nil || len(scope.Topics) == 0:
		return "", "BadCertificate"
	case a.server.options.Sandbox && !scope.Sandbox, !a.server.options.Sandbox && !scope.Production:
		return "", "BadCertificateEnvironment"
	case topic == "" && len(scope.Topics) > 1:
		return "", "MissingTopic"
	case topic == "":
		topic = scope.Topics[0]
	}
	if !slices.Contains(scope.Topics, topic) {
		return "", "TopicDisallowed"
	}
	return topic, ""
}

func (a *connAuth) checkToken(token, topic string) string {
	now := a.server.now()
	key, issued, ok := a.verify(token)
	switch {
	case !ok || issued.After(now.Add(tokenAhead)):
		return "InvalidProviderToken"
	case now.Sub(issued) > tokenAge:
		return "ExpiredProviderToken"
	case key.SandboxOnly && !a.server.options.Sandbox, key.ProductionOnly && a.server.options.Sandbox:
		return "BadEnvironmentKeyIdInToken"
	case len(key.Topics) > 0 && !slices.ContainsFunc(key.Topics, func(t string) bool { return covers(t, topic) }):
		return "UnrelatedKeyIdInToken"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token == token {
		return ""
	}
	if a.token != "" && now.Sub(a.changed) < updateGap {
		return "TooManyProviderTokenUpdates"
	}
	a.token, a.changed, a.key, a.issued = token, now, key, issued
	return ""
}

// verify checks a provider token, and the signature of the one that was taken last once only: it would be a third of the work on a
// request.
func (a *connAuth) verify(token string) (key Key, issued time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != "" && a.token == token {
		return a.key, a.issued, true
	}
	return a.server.verify(token)
}

// covers reports whether topic is the bundle id or belongs to it, as com.example.voip.
func covers(bundle, topic string) bool {
	return topic == bundle || strings.HasPrefix(topic, bundle+".")
}

// verify checks a provider token (RFC 7519 with ES256, RFC 7518 3.4): of a known key and its team.
func (s *Server) verify(token string) (key Key, issued time.Time, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return key, issued, false
	}
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss string
		Iat float64 // a NumericDate may have a fraction
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 || !readPart(parts[0], &header) || !readPart(parts[1], &claims) || header.Alg != "ES256" {
		return key, issued, false
	}
	at := slices.IndexFunc(s.options.Keys, func(k Key) bool { return k.ID == header.Kid && k.Team == claims.Iss })
	if at < 0 || !(claims.Iat > 0 && claims.Iat < 1<<40) {
		return key, issued, false
	}
	key = s.options.Keys[at]
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, v := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return key, time.Unix(int64(claims.Iat), 0), ecdsa.Verify(key.Public, digest[:], r, v)
}

func readPart(text string, v any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(raw, v) == nil
}
