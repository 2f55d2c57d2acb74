package vault

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Key is what a Vault seals with.
type Key [32]byte

// ParseKey reads a key of 64 hexadecimal digits. The error shows nothing of the text.
func ParseKey(text string) (k Key, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(k) {
		return Key{}, fmt.Errorf("a key must have %d hexadecimal digits", 2*len(k))
	}
	return Key(b), nil
}

// LoadKey returns the configured key, where there is one, else the one that stands in the file, which is made
// when it is not there. Only its owner can read the file. A file that holds no key is an error, and stays as it is: what was
// sealed with the key that it held is lost without it.
func LoadKey(configured, file string) (Key, error) {
	if configured != "" {
		return ParseKey(configured)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(file)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the vault's key: %w", err)
	}
	k, err := ParseKey(strings.TrimSpace(string(text)))
	if err != nil {
		return Key{}, fmt.Errorf("read the vault's key: %s: %w", file, err)
	}
	return k, nil
}

// makeKey makes a key that is on the disk when it returns. Of two processes that do so at the same time both get the
// key of the first.
func makeKey(file string) (k Key, err error) {
	if _, err := rand.Read(k[:]); err != nil {
		return Key{}, err
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // 0600
	if err != nil {
		return Key{}, fmt.Errorf("make the vault's key: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has another name by then, or is of no use
	_, err = f.WriteString(hex.EncodeToString(k[:]) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), file) // unlike a rename it replaces nothing
	}
	if errors.Is(err, os.ErrExist) {
		return LoadKey("", file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		return Key{}, fmt.Errorf("make the vault's key: %w", err)
	}
	return k, nil
}

// syncDir makes the name of a new file as lasting as its content.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
