package apns_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/apnssim"
)

// p8 writes a private key as Apple does.
func p8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	_, good, err := apnssim.NewKey("KEY1234567", "TEAM123456")
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*crier.Credential)
		want   string
	}{
		"another vendor":   {func(c *crier.Credential) { c.Vendor = crier.FCM }, "vendor"},
		"no target":        {func(c *crier.Credential) { c.Target = "" }, "target is missing"},
		"a strange target": {func(c *crier.Credential) { c.Target = "com.example\r\nx" }, "target"},
		"no form":          {func(c *crier.Credential) { c.Form = "" }, "form"},
		"no secret":        {func(c *crier.Credential) { c.Secret = nil }, "secret is missing"},
		"a large secret":   {func(c *crier.Credential) { c.Secret = make([]byte, 1<<20) }, "secret has 1048576 bytes"},
		"no key_id":        {func(c *crier.Credential) { delete(c.Params, "key_id") }, "params.key_id"},
		"a key as key_id":  {func(c *crier.Credential) { c.Params["key_id"] = string(good) }, "params.key_id"},
		"a short team_id":  {func(c *crier.Credential) { c.Params["team_id"] = "TEAM" }, "params.team_id"},
		"no key":           {func(c *crier.Credential) { c.Secret = []byte("hello") }, "not a .p8 file"},
		"a torn key":       {func(c *crier.Credential) { c.Secret = good[:100] }, "not a .p8 file"},
		"a damaged key": {func(c *crier.Credential) {
			c.Secret = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
		}, "damaged"},
		"a certificate": {func(c *crier.Credential) {
			c.Secret = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
		}, "is a certificate"},
		"another curve":     {func(c *crier.Credential) { c.Secret = p8(t, p384) }, "ES256"},
		"another algorithm": {func(c *crier.Credential) { c.Secret = p8(t, ed) }, "ES256"},
		"a key as p12":      {func(c *crier.Credential) { c.Form = apns.FormCertificate }, ".p12"},
	} {
		cred := crier.Credential{
			Vendor: crier.APNs, Target: bundle, Form: apns.FormKey, Secret: good, Params: map[string]string{"key_id": "KEY1234567", "team_id": "TEAM123456"},
		}
		if got, err := apns.Check(cred); err != nil || got.Kind != "key" || got.KeyID != "KEY1234567" || got.TeamID != "TEAM123456" {
			t.Fatalf("%+v, %v", got, err)
		}
		c.change(&cred)
		refused(t, name, cred, c.want)
	}
}

// refused checks that a credential is refused with words about want and nothing of its secret.
func refused(t *testing.T, name string, c crier.Credential, want string) {
	t.Helper()
	_, err := apns.Check(c)
	if !errors.Is(err, crier.CodeBadParameter) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v", name, err)
	}
	if e, ok := errors.AsType[*crier.Error](err); !ok || e.Err != nil || strings.Contains(err.Error(), "MIG") {
		t.Errorf("%s shows too much: %v", name, err)
	}
	if _, err := apns.New(c, apns.Options{}); err == nil {
		t.Errorf("%s: New took it", name)
	}
}

func TestCheckCertificate(t *testing.T) {
	t.Parallel()
	ca, err := apnssim.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	both := apnssim.PushCertificate{Topics: []string{bundle, bundle + ".voip"}, Sandbox: true, Production: true}
	change := func(f func(*apnssim.PushCertificate)) apnssim.PushCertificate {
		c := both
		f(&c)
		return c
	}
	for name, c := range map[string]struct {
		cert     apnssim.PushCertificate
		password string
		sandbox  bool
		target   string
		want     string // "": taken
	}{
		"good":            {both, "geheim", false, bundle, ""},
		"for the sandbox": {both, "geheim", true, bundle, ""},
		"another topic":   {both, "geheim", false, bundle + ".voip", ""},
		"password":        {both, "wrong", false, bundle, "params.password"},
		"expired":         {change(func(c *apnssim.PushCertificate) { c.NotAfter = time.Now().Add(-time.Hour) }), "geheim", false, bundle, "expired on"},
		"not yet valid":   {change(func(c *apnssim.PushCertificate) { c.NotAfter = time.Now().AddDate(2, 0, 0) }), "geheim", false, bundle, "valid from"},
		"another app":     {both, "geheim", false, "com.example.other", `is for "com.example.app, com.example.app.voip"`},
		"no topics":       {change(func(c *apnssim.PushCertificate) { c.Topics = nil }), "geheim", false, bundle, "not one for push"},
		"no environments": {change(func(c *apnssim.PushCertificate) { c.Sandbox, c.Production = false, false }), "geheim", false, bundle, "not one for push"},
		"sandbox only":    {change(func(c *apnssim.PushCertificate) { c.Production = false }), "geheim", false, bundle, "sandbox is false"},
		"production only": {change(func(c *apnssim.PushCertificate) { c.Sandbox = false }), "geheim", true, bundle, "sandbox is true"},
	} {
		issued, err := ca.IssuePush(c.cert)
		if err != nil {
			t.Fatal(err)
		}
		for encoding, e := range map[string]*pkcs12.Encoder{"AES": pkcs12.Modern, "3DES": pkcs12.LegacyDES} {
			file, err := e.Encode(issued.PrivateKey, issued.Leaf, nil, "geheim")
			if err != nil {
				t.Fatal(err)
			}
			cred := crier.Credential{
				Vendor: crier.APNs, Target: c.target, Sandbox: c.sandbox, Form: apns.FormCertificate, Secret: file, Params: map[string]string{"password": c.password},
			}
			if c.want != "" {
				refused(t, name+" "+encoding, cred, c.want)
			} else if got, err := apns.Check(cred); err != nil || got.Kind != "certificate" || got.Subject == "" || !got.Expires.Equal(issued.Leaf.NotAfter) || len(got.Topics) != 2 {
				t.Errorf("%s %s: %+v, %v", name, encoding, got, err)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	_, good, err := apnssim.NewKey("KEY1234567", "TEAM123456")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add([]byte{0x30, 0x80}, true)
	f.Fuzz(func(t *testing.T, secret []byte, certificate bool) {
		c := crier.Credential{Vendor: crier.APNs, Target: bundle, Form: apns.FormKey, Secret: secret, Params: map[string]string{"key_id": "KEY1234567", "team_id": "TEAM123456"}}
		if certificate {
			c.Form = apns.FormCertificate
		}
		if _, err := apns.Check(c); err != nil && !errors.Is(err, crier.CodeBadParameter) {
			t.Errorf("%v", err)
		}
	})
}
