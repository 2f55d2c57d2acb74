package vendorsim

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	saltLen   = 16
	headerLen = saltLen + 4 + 1 // and the key id (RFC 8188, 2.1)
	pointLen  = 65
	// vapidMost is how far ahead a token may end (RFC 8292, 2).
	vapidMost = 24 * time.Hour
)

// authorize checks a request's VAPID token (RFC 8292): that it was signed with the key that the subscriptions are for, for
// this server, and not for too long. The status goes with the error.
func (p *WebPush) authorize(r *http.Request) (status int, err error) {
	params, ok := strings.CutPrefix(r.Header.Get("Authorization"), "vapid ")
	var token, key string
	for part := range strings.SplitSeq(params, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			token = value
		case "k":
			key = value
		}
	}
	if !ok || token == "" || key == "" {
		return http.StatusUnauthorized, errors.New("there is no VAPID token")
	}
	point := p.vapid.PublicKey().Bytes()
	if given, err := b64.DecodeString(key); err != nil || !bytes.Equal(given, point) {
		return http.StatusForbidden, errors.New("the subscription is for another VAPID key")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return http.StatusInternalServerError, err
	}
	var claims jwt.RegisteredClaims
	_, err = jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience("http://"+r.Host), jwt.WithExpirationRequired(), jwt.WithTimeFunc(p.now))
	switch {
	case err != nil:
		return http.StatusForbidden, fmt.Errorf("the VAPID token: %w", err)
	case claims.ExpiresAt.Sub(p.now()) > vapidMost:
		return http.StatusForbidden, errors.New("the VAPID token: exp is more than 24 hours ahead")
	case !isContact(claims.Subject):
		return http.StatusForbidden, errors.New("the VAPID token: sub is neither an address nor a URL")
	}
	return 0, nil
}

func isContact(sub string) bool {
	if address, ok := strings.CutPrefix(sub, "mailto:"); ok {
		a, err := mail.ParseAddress(address)
		return err == nil && a.Address == address
	}
	return strings.HasPrefix(sub, "https://")
}

// decrypt reads a message as the browser does (RFC 8291 over RFC 8188): one record, and JSON in it.
func (s *subscription) decrypt(body []byte) (json.RawMessage, error) {
	if len(body) < headerLen+pointLen || int(body[headerLen-1]) != pointLen {
		return nil, errors.New("the body is not of the form aes128gcm")
	}
	salt, size := body[:saltLen], binary.BigEndian.Uint32(body[saltLen:])
	point, record := body[headerLen:headerLen+pointLen], body[headerLen+pointLen:]
	if uint32(len(record)) > size {
		return nil, errors.New("the body has more than one record")
	}
	gcm, nonce, err := s.keys(salt, point)
	if err != nil {
		return nil, fmt.Errorf("can't derive the keys: %w", err)
	}
	text, err := gcm.Open(nil, nonce, record, nil)
	if err != nil {
		return nil, errors.New("the body can't be decrypted")
	}
	text = bytes.TrimRight(text, "\x00")
	if !bytes.HasSuffix(text, []byte{2}) {
		return nil, errors.New("the record has no delimiter of the last one")
	}
	text = text[:len(text)-1]
	if !json.Valid(text) {
		return nil, errors.New("the payload is not JSON")
	}
	return text, nil
}

// keys derives the cipher and the nonce of a message from its salt and its sender's public key (RFC 8291, 3.4).
func (s *subscription) keys(salt, point []byte) (cipher.AEAD, []byte, error) {
	sender, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, nil, err
	}
	shared, err := s.private.ECDH(sender)
	if err != nil {
		return nil, nil, err
	}
	info := "WebPush: info\x00" + string(s.private.PublicKey().Bytes()) + string(point)
	input, err := hkdf.Key(sha256.New, shared, s.auth, info, sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	key, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, nil, err
	}
	nonce, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	return gcm, nonce, err
}
