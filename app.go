package crier

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// App is one tenant: its key, its admins, its switches, limits and attribute
// names. Values are shared between goroutines: treat an App as immutable.
type App struct {
	ID          AppID         `json:"id"`
	Name        string        `json:"name"`
	Key         string        `json:"key,omitempty"`            // signs UserSigs
	OldKey      string        `json:"old_key,omitempty"`        // still checks UserSigs until OldKeyUntil
	OldKeyUntil time.Time     `json:"old_key_until,omitzero"`   // end of the grace of a rotated key
	Admins      []UserID      `json:"admins"`                   // who may call the REST API
	PushEnabled bool          `json:"push_enabled"`             // else every push is 90045
	Disabled    bool          `json:"disabled,omitempty"`       // every call and login is 60016
	Sessions    SessionPolicy `json:"session_policy,omitempty"` // see SessionPolicy
	Language    Language      `json:"language,omitempty"`       // see Language
	Limits      Limits        `json:"limits"`
	AttrNames   AttrNames     `json:"attr_names"`
	Credentials []Credential  `json:"credentials,omitempty"` // for vendors, with sealed secrets; one for each vendor, target and environment
	CreatedAt   time.Time     `json:"created_at"`
}

// IsAdmin reports whether user may call the app's REST API.
func (a *App) IsAdmin(user UserID) bool { return slices.Contains(a.Admins, user) }

// Credential returns the place in Credentials of the one that reaches the devices of a vendor's target
// and environment, -1 for none.
func (a *App) Credential(vendor Vendor, target string, sandbox bool) int {
	return slices.IndexFunc(a.Credentials, func(c Credential) bool {
		return c.Vendor == vendor && c.Target == target && c.Sandbox == sandbox
	})
}

// Keys returns the secret keys that check a UserSig at the time now.
func (a *App) Keys(now time.Time) []string {
	keys := make([]string, 0, 2)
	if a.Key != "" {
		keys = append(keys, a.Key)
	}
	if a.OldKey != "" && now.Before(a.OldKeyUntil) {
		keys = append(keys, a.OldKey)
	}
	return keys
}

// NewKey makes a secret key: 64 hexadecimal digits.
func NewKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// AttrNames are an app's attribute names by slot; "" is a slot without a name.
type AttrNames [MaxAttrs]string

// Slot returns the slot of a name; ok is false where the app has not set it.
func (n *AttrNames) Slot(name string) (slot int, ok bool) {
	if name == "" {
		return 0, false
	}
	i := slices.Index(n[:], name)
	return i, i >= 0
}

// With returns the names after set, which maps slots to new names: slots not
// in set keep theirs. Errors carry CodeBadAttr.
func (n AttrNames) With(set map[int]string) (AttrNames, error) {
	for slot, name := range set {
		if slot < 0 || slot >= MaxAttrs {
			return n, Errorf(CodeBadAttr, "attribute slot %d is not in 0..%d", slot, MaxAttrs-1)
		}
		if err := CheckName(name); err != nil {
			return n, Errorf(CodeBadAttr, "name of attribute slot %d: %s", slot, err)
		}
		n[slot] = name
	}
	for slot, name := range n {
		if first, ok := n.Slot(name); ok && first != slot {
			return n, Errorf(CodeBadAttr, "attribute name %s stands at slot %d and at slot %d", Quote(name), first, slot)
		}
	}
	return n, nil
}

// NameError says which rule of attribute names, attribute values and tags
// a text breaks.
type NameError string

// The rules of names.
const (
	NameEmpty   NameError = "is empty"
	NameTooLong NameError = "is over 50 bytes"
	NameNotUTF8 NameError = "is not valid UTF-8"
	NameHasNUL  NameError = "has a NUL"
)

// Error returns the rule.
func (e NameError) Error() string { return string(e) }

// CheckName checks an attribute name, an attribute value or a tag: 1 to 50
// bytes of UTF-8 without NUL. The error is a NameError or nil; the caller gives it
// the code of its field.
func CheckName(s string) error {
	switch {
	case s == "":
		return NameEmpty
	case len(s) > MaxNameBytes:
		return NameTooLong
	case !utf8.ValidString(s):
		return NameNotUTF8
	}
	for i := range len(s) {
		if s[i] == 0 {
			return NameHasNUL
		}
	}
	return nil
}

// Validate checks an app that an operator describes. Errors name the field.
func (a *App) Validate() error {
	bad := func(field, rule string) error { return Errorf(CodeBadParameter, "%s %s", field, rule) }
	switch {
	case a.ID == 0:
		return bad("id", "must be 1..4294967295")
	case len(a.Name) > 128 || !utf8.ValidString(a.Name):
		return bad("name", "must be at most 128 bytes of UTF-8")
	case len(a.Admins) == 0:
		return bad("admins", "must name at least one account")
	case !a.Sessions.Valid():
		return bad("session_policy", "must be one-per-platform, one-per-account or many")
	case !a.Language.Valid():
		return bad("language", "must be en or zh")
	}
	for i, admin := range a.Admins {
		if _, err := ParseUserID(string(admin)); err != nil {
			return bad("admins["+strconv.Itoa(i)+"]", AsError(err).Info)
		}
	}
	return nil
}
