// Package vault seals what is secret of credentials, so that it never stands in
// the state, the log, a backup or an answer as it was given.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/crier-im/crier"
)

// version is the first byte of what is sealed. Version 1: AES-256-GCM with a random nonce of 12 bytes before
// the ciphertext, over the JSON of content, with additional data as of the function of that name.
const version = 1

// ErrSealed is what Open returns for a secret that it can't open.
var ErrSealed = errors.New("the secret was sealed with another key, for another credential, or is damaged")

// Vault seals and opens with one key. Safe for concurrent use.
type Vault struct{ aead cipher.AEAD }

// New returns a vault with the key.
func New(key Key) (*Vault, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // 2^32 secrets with one key: never reached by hand
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return &Vault{aead}, nil
}

// content is what is sealed. Params are in it since the password of a .p12 file is one.
type content struct {
	Secret []byte            `json:"secret"`
	Params map[string]string `json:"params,omitempty"`
}

// Seal returns the credential with its Secret and Params sealed into Secret, and no Params. It opens again only as
// the credential of the same app, vendor, target and environment.
func (v *Vault) Seal(app crier.AppID, c crier.Credential) (crier.Credential, error) {
	text, err := json.Marshal(content{c.Secret, c.Params})
	if err != nil {
		return crier.Credential{}, fmt.Errorf("seal a credential: %w", err)
	}
	c.Params, c.Secret = nil, v.aead.Seal([]byte{version}, nil, text, additional(app, &c))
	return c, nil
}

// Open returns the credential as it was before Seal. Errors are ErrSealed, or tell of a version that this release
// does not know.
func (v *Vault) Open(app crier.AppID, c crier.Credential) (crier.Credential, error) {
	if len(c.Secret) == 0 {
		return crier.Credential{}, ErrSealed
	}
	if c.Secret[0] != version {
		return crier.Credential{}, fmt.Errorf("the secret was sealed in version %d, this release knows %d", c.Secret[0], version)
	}
	text, err := v.aead.Open(nil, nil, c.Secret[1:], additional(app, &c))
	if err != nil {
		return crier.Credential{}, ErrSealed
	}
	var open content
	if json.Unmarshal(text, &open) != nil { // the cause could show what was read
		return crier.Credential{}, ErrSealed
	}
	c.Secret, c.Params = open.Secret, open.Params
	return c, nil
}

// additional is what a sealed secret is bound to, in a form that two different credentials don't share.
func additional(app crier.AppID, c *crier.Credential) []byte {
	b := binary.BigEndian.AppendUint32([]byte("crier credential\x00"), uint32(app))
	sandbox := byte(0)
	if c.Sandbox {
		sandbox = 1
	}
	b = binary.AppendUvarint(append(b, sandbox), uint64(len(c.Vendor)))
	return append(append(b, c.Vendor...), c.Target...)
}
