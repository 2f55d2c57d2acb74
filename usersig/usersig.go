// Package usersig signs and checks UserSigs, the passwords of accounts: whoever
// holds an app's secret key can make one without asking the server.
//
// The format is TLSSigAPIv2: an HMAC-SHA256 over a few lines of text, put into a
// JSON object, compressed with zlib, and written in a base64 of its own alphabet
// (docs/api.md, section "UserSig").
package usersig

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crier-im/crier"
)

const (
	// MaxText is the longest UserSig that Parse looks at, in bytes.
	MaxText = 8 << 10
	// MaxInflated bounds the JSON inside, in bytes: a UserSig that inflates to
	// more is malformed, and no more than that is ever inflated.
	MaxInflated = 8 << 10

	version = "2.0"
)

// toWire maps standard base64 to the alphabet of a UserSig. It is not base64url.
var toWire = strings.NewReplacer("+", "*", "/", "-", "=", "_")

// fromWire is the inverse, for one byte.
func fromWire(b byte) byte {
	switch b {
	case '*':
		return '+'
	case '-':
		return '/'
	case '_':
		return '='
	}
	return b
}

// Ticket is a decoded UserSig. Nothing in it can be trusted before Check.
type Ticket struct {
	App     crier.AppID
	User    crier.UserID
	Time    time.Time     // when it was made, in seconds
	Expire  time.Duration // how long it is valid, in seconds
	UserBuf []byte        // carried and signed, not interpreted; nil where there is none
	mac     []byte
}

// Sign makes a UserSig for user that is valid for expire, in whole seconds.
// userBuf may be nil.
func Sign(key string, app crier.AppID, user crier.UserID, now time.Time, expire time.Duration, userBuf []byte) string {
	t := Ticket{App: app, User: user, Time: now, Expire: expire, UserBuf: userBuf}
	fields := map[string]any{
		"TLS.ver":        version,
		"TLS.identifier": string(user),
		"TLS.sdkappid":   app,
		"TLS.time":       now.Unix(),
		"TLS.expire":     int64(expire / time.Second),
		"TLS.sig":        base64.StdEncoding.EncodeToString(t.sum(key)),
	}
	if userBuf != nil {
		fields["TLS.userbuf"] = base64.StdEncoding.EncodeToString(userBuf)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic("usersig: " + err.Error()) // strings and integers always marshal
	}
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, _ = w.Write(text) // a bytes.Buffer takes every write
	_ = w.Close()
	return toWire.Replace(base64.StdEncoding.EncodeToString(out.Bytes()))
}

// sum returns the HMAC of the ticket's signed text.
func (t *Ticket) sum(key string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "TLS.identifier:%s\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n",
		t.User, t.App, t.Time.Unix(), int64(t.Expire/time.Second))
	if t.UserBuf != nil {
		fmt.Fprintf(mac, "TLS.userbuf:%s\n", base64.StdEncoding.EncodeToString(t.UserBuf))
	}
	return mac.Sum(nil)
}

// Parse decodes a UserSig of any zlib level. Errors carry crier.CodeSigMissing
// for an empty text, else crier.CodeSigMalformed.
func Parse(text string) (*Ticket, error) {
	switch {
	case text == "":
		return nil, crier.Errorf(crier.CodeSigMissing, "usersig is missing")
	case len(text) > MaxText:
		return nil, malformed("it is %d bytes long, the limit is %d", len(text), MaxText)
	}
	u := unpackers.Get().(*unpacker)
	defer unpackers.Put(u)
	if err := u.unpack(text); err != nil {
		return nil, err
	}
	var fields map[string]any
	d := json.NewDecoder(&u.inflated) // copies what it keeps
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return nil, malformed("its content is not a JSON object")
	}
	return fromFields(fields)
}

// unpacker takes a UserSig apart, with memory that is used again: each call and each login has one, and a zlib reader alone takes 40 KB.
type unpacker struct {
	text, packed []byte
	in           bytes.Reader
	zlib         io.ReadCloser // nil before the first
	inflated     bytes.Buffer  // what is inside
}

var unpackers = sync.Pool{New: func() any { return new(unpacker) }}

// unpack fills inflated with what is in the text.
func (u *unpacker) unpack(text string) (err error) {
	u.text = append(u.text[:0], text...)
	for i, b := range u.text {
		u.text[i] = fromWire(b)
	}
	if u.packed, err = base64.StdEncoding.AppendDecode(u.packed[:0], u.text); err != nil {
		return malformed("it is not base64: %v", err)
	}
	u.in.Reset(u.packed)
	if u.zlib == nil {
		u.zlib, err = zlib.NewReader(&u.in)
	} else {
		err = u.zlib.(zlib.Resetter).Reset(&u.in, nil)
	}
	if err != nil {
		return malformed("it is not zlib data: %v", err)
	}
	u.inflated.Reset()
	switch n, err := u.inflated.ReadFrom(io.LimitReader(u.zlib, MaxInflated+1)); {
	case err != nil:
		return malformed("it can't be inflated: %v", err)
	case n > MaxInflated:
		return malformed("it inflates to over %d bytes", MaxInflated)
	}
	return nil
}

// fromFields reads the JSON object. Numbers may be given as strings, and userBuf
// may be spelled with a capital B: signers in use do both.
func fromFields(fields map[string]any) (*Ticket, error) {
	t := new(Ticket)
	if v, _ := fields["TLS.ver"].(string); v != version {
		return nil, malformed("TLS.ver is not %q", version)
	}
	user, ok := fields["TLS.identifier"].(string)
	if !ok {
		return nil, malformed("TLS.identifier is missing or not a string")
	}
	t.User = crier.UserID(user)
	var app, at, expire int64
	for _, f := range []struct {
		name string
		most int64
		out  *int64
	}{{"TLS.sdkappid", math.MaxUint32, &app}, {"TLS.time", 1 << 40, &at}, {"TLS.expire", int64(math.MaxInt64 / time.Second), &expire}} {
		n, err := strconv.ParseInt(fmt.Sprint(fields[f.name]), 10, 64)
		if err != nil || n < 0 || n > f.most {
			return nil, malformed("%s is missing or not an integer in 0..%d", f.name, f.most)
		}
		*f.out = n
	}
	t.App, t.Time, t.Expire = crier.AppID(app), time.Unix(at, 0).UTC(), time.Duration(expire)*time.Second
	sig, _ := fields["TLS.sig"].(string)
	mac, err := base64.StdEncoding.DecodeString(sig)
	if err != nil || len(mac) != sha256.Size {
		return nil, malformed("TLS.sig is missing or not the base64 of %d bytes", sha256.Size)
	}
	t.mac = mac
	for _, name := range []string{"TLS.userbuf", "TLS.userBuf"} {
		if v, ok := fields[name]; ok {
			s, isString := v.(string)
			if t.UserBuf, err = base64.StdEncoding.DecodeString(s); err != nil || !isString {
				return nil, malformed("%s is not base64", name)
			}
		}
	}
	return t, nil
}

func malformed(format string, args ...any) error {
	return crier.Errorf(crier.CodeSigMalformed, "usersig is malformed: "+format, args...)
}

// Check reports whether the ticket lets user into app at the time now. keys are
// the app's secret keys; any of them may have signed it. Errors carry
// CodeAppWithoutKey, CodeSigSDKAppID, CodeSigIdentifier, CodeSigExpired or
// CodeSigWrong, in this order. The signature is compared in constant time.
func (t *Ticket) Check(app crier.AppID, user crier.UserID, keys []string, now time.Time) error {
	switch {
	case len(keys) == 0:
		return crier.Errorf(crier.CodeAppWithoutKey, "app %d has no key", app)
	case t.App != app:
		return crier.Errorf(crier.CodeSigSDKAppID, "usersig was made for sdkappid %d, the request is for %d", t.App, app)
	case t.User != user:
		return crier.Errorf(crier.CodeSigIdentifier, "usersig was made for identifier %s, the request is for %s",
			crier.Quote(string(t.User)), crier.Quote(string(user)))
	case now.Unix() > t.Time.Unix()+int64(t.Expire/time.Second):
		return crier.Errorf(crier.CodeSigExpired, "usersig expired at %s", t.Time.Add(t.Expire).Format(time.RFC3339))
	}
	for _, key := range keys {
		if hmac.Equal(t.sum(key), t.mac) {
			return nil
		}
	}
	return crier.Errorf(crier.CodeSigWrong, "usersig was not made with a key of app %d", app)
}
