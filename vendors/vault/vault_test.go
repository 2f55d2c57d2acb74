package vault_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vault"
)

func open(t testing.TB, key vault.Key) *vault.Vault {
	t.Helper()
	v, err := vault.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func credential() crier.Credential {
	return crier.Credential{
		Vendor: crier.APNs, Target: "com.example.app", Form: "p12", Params: map[string]string{"password": "the-password"},
		Secret: []byte("the-content-of-the-file"), Added: time.Unix(1, 0).UTC(),
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	v := open(t, vault.Key{1})
	want := credential()
	sealed, err := v.Seal(7, want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Seal(7, want)
	if err != nil || bytes.Equal(sealed.Secret, again.Secret) {
		t.Errorf("sealed twice to the same bytes: %v", err)
	}
	text, err := json.Marshal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{want.Secret, []byte("the-password")} {
		if bytes.Contains(sealed.Secret, secret) || bytes.Contains(text, secret) {
			t.Errorf("%s shows in what is sealed", secret)
		}
	}
	got, err := v.Open(7, sealed)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if want.Params["password"] == "" || string(want.Secret) != "the-content-of-the-file" {
		t.Errorf("what was given is changed: %+v", want)
	}
}

// A sealed secret can't be moved to another place, nor read with another key.
func TestOpensInItsPlaceOnly(t *testing.T) {
	t.Parallel()
	v := open(t, vault.Key{1})
	sealed, err := v.Seal(7, credential())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *crier.Credential){
		"vendor":  func(c *crier.Credential) { c.Vendor = crier.FCM },
		"target":  func(c *crier.Credential) { c.Target = "com.example.other" },
		"border":  func(c *crier.Credential) { c.Vendor, c.Target = "apn", "s"+c.Target },
		"sandbox": func(c *crier.Credential) { c.Sandbox = true },
		"cut":     func(c *crier.Credential) { c.Secret = c.Secret[:20] },
		"empty":   func(c *crier.Credential) { c.Secret = nil },
		"flipped": func(c *crier.Credential) { c.Secret = append(c.Secret[:30:30], c.Secret[30]^1) },
	} {
		c := sealed
		change(&c)
		if _, err := v.Open(7, c); !errors.Is(err, vault.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Open(8, sealed); !errors.Is(err, vault.ErrSealed) {
		t.Errorf("another app: %v", err)
	}
	if _, err := open(t, vault.Key{2}).Open(7, sealed); !errors.Is(err, vault.ErrSealed) {
		t.Errorf("another key: %v", err)
	}
	sealed.Secret = append([]byte{2}, sealed.Secret[1:]...)
	if _, err := v.Open(7, sealed); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("another version: %v", err)
	}
}

func TestLoadKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "vendors.key")
	made, err := vault.LoadKey("", file)
	if err != nil || made == (vault.Key{}) {
		t.Fatalf("%v", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if again, err := vault.LoadKey("", file); err != nil || again != made {
		t.Errorf("another key the second time: %v", err)
	}
	given := strings.Repeat("0f", 32)
	if k, err := vault.LoadKey(given, file); err != nil || k == made || k[0] != 0x0f {
		t.Errorf("the configured key: %v", err)
	}
	for _, text := range []string{"", "short", strings.Repeat("zz", 32), strings.Repeat("0f", 33)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.LoadKey("", file); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("a file with %q: %v", text, err)
		}
		if left, err := os.ReadFile(file); err != nil || string(left) != text {
			t.Errorf("the file with %q became %q", text, left)
		}
		if _, err := vault.LoadKey(text+"x", file); err == nil {
			t.Errorf("configured %q was taken", text)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%v is left", names)
	}
	if _, err := vault.LoadKey("", filepath.Join(dir, "no", "such")); err == nil {
		t.Error("a key was made where there is no directory")
	}
}

// Two processes that are started on a new directory at the same time must not seal with two keys.
func TestKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "vendors.key")
	keys := make([]vault.Key, 20)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = vault.LoadKey("", file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two keys")
		}
	}
}

func FuzzOpen(f *testing.F) {
	v := open(f, vault.Key{1})
	sealed, err := v.Seal(7, credential())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.Secret[1:])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, secret []byte) {
		c := credential()
		c.Secret = secret
		if _, err := v.Open(7, c); err == nil && !bytes.Equal(secret, sealed.Secret) {
			t.Error("opened")
		}
	})
}
