package fcm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vendorsim"
)

// simState is one key for all simulators of these tests: making one takes long.
var simState = sync.OnceValue(func() []byte {
	sim, err := vendorsim.StartFCM(vendorsim.Options{})
	if err != nil {
		panic(err)
	}
	defer sim.Close()
	return sim.State()
})

func pkcs8(key any) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := startSim(t).Credential()
	summary, err := Check(good)
	if err != nil || summary.ProjectID != vendorsim.Project || summary.ClientEmail == "" || summary.KeyID == "" {
		t.Fatalf("%+v, %v", summary, err)
	}
	elliptical, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	set := func(field string, value any) func(*crier.Credential) {
		return func(c *crier.Credential) {
			var file map[string]any
			if err := json.Unmarshal(c.Secret, &file); err != nil {
				t.Fatal(err)
			}
			file[field] = value
			c.Secret, _ = json.Marshal(file)
		}
	}
	for name, c := range map[string]struct {
		change func(*crier.Credential)
		want   string
	}{
		"vendor":      {func(c *crier.Credential) { c.Vendor = crier.APNs }, "vendor must"},
		"form":        {func(c *crier.Credential) { c.Form = "p8" }, "form must"},
		"sandbox":     {func(c *crier.Credential) { c.Sandbox = true }, "sandbox must"},
		"target":      {func(c *crier.Credential) { c.Target = "" }, "target must"},
		"other":       {func(c *crier.Credential) { c.Target = "other" }, "secret.project_id must be the target"},
		"params":      {func(c *crier.Credential) { c.Params = map[string]string{"a": "b"} }, "params must"},
		"empty":       {func(c *crier.Credential) { c.Secret = nil }, "secret must"},
		"large":       {func(c *crier.Credential) { c.Secret = make([]byte, secretMost+1) }, "secret must"},
		"no JSON":     {func(c *crier.Credential) { c.Secret = []byte("SECRET") }, "secret is not"},
		"type":        {set("type", "authorized_user"), "secret.type must"},
		"kind":        {set("type", 5), "secret is not"},
		"no project":  {set("project_id", ""), "secret.project_id is missing"},
		"no email":    {set("client_email", "SECRET"), "secret.client_email must"},
		"plain token": {set("token_uri", "http://oauth2.googleapis.com/token"), "secret.token_uri must"},
		"other token": {set("token_uri", "https://example.com/SECRET"), "secret.token_uri must"},
		"no key":      {set("private_key", ""), "secret.private_key is missing"},
		"broken key":  {set("private_key", "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----\n"), "secret.private_key is not"},
		"EC key":      {set("private_key", pkcs8(elliptical)), "secret.private_key must be an RSA"},
		"short key":   {set("private_key", pkcs8(short)), "secret.private_key must have"},
		"path": {func(c *crier.Credential) {
			set("project_id", "a/../b")(c)
			c.Target = "a/../b"
		}, "secret.project_id must have letters"},
	} {
		changed := good
		changed.Secret = bytes.Clone(good.Secret)
		c.change(&changed)
		_, err := Check(changed)
		if !errors.Is(err, crier.CodeBadParameter) || !strings.HasPrefix(crier.AsError(err).Info, c.want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := New(changed, Options{}); err == nil {
			t.Errorf("%s: a sender was made", name)
		}
	}
	for _, o := range []Options{{Endpoint: "fcm.googleapis.com"}, {TokenURL: "ftp://example.com"}, {Endpoint: "http://"}} {
		if _, err := New(good, o); !errors.Is(err, crier.CodeBadParameter) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	for token, ok := range map[string]bool{
		device: true, "x": true, strings.Repeat("x", 4096): true,
		"": false, strings.Repeat("x", 4097): false, "a b": false, "a\n": false, "é": false, "a\x00": false, "a\xff": false,
	} {
		if err := CheckToken(token); (err == nil) != ok || err != nil && !errors.Is(err, crier.CodeBadParameter) {
			t.Errorf("%.20q: %v", token, err)
		}
	}
}

func FuzzCheckToken(f *testing.F) {
	f.Add(device)
	f.Add("a\u0085")
	f.Fuzz(func(t *testing.T, token string) {
		if CheckToken(token) != nil {
			return
		}
		for _, b := range []byte(token) {
			if b <= ' ' || b > '~' {
				t.Errorf("%q was taken", token)
			}
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"type":"service_account","project_id":"p","client_email":"a@b","private_key":"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"}`))
	f.Fuzz(func(t *testing.T, secret []byte) {
		_, err := Check(crier.Credential{Vendor: crier.FCM, Target: "p", Form: Form, Secret: secret})
		if err != nil && !errors.Is(err, crier.CodeBadParameter) {
			t.Error(err)
		}
	})
}
