package vendors_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors"
	"github.com/crier-im/crier/vendors/apnssim"
	"github.com/crier-im/crier/vendors/vendorsim"
)

func TestCheckDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	credential := func(vendor crier.Vendor, target string, sandbox bool) crier.Credential {
		return crier.Credential{Vendor: vendor, Target: target, Sandbox: sandbox}
	}
	one := &crier.App{ID: 1, Credentials: []crier.Credential{
		credential(crier.APNs, bundle, false), credential(crier.FCM, vendorsim.Project, false), credential(crier.WebPush, "", false),
	}}
	both := &crier.App{ID: 1, Credentials: []crier.Credential{credential(crier.APNs, bundle, false), credential(crier.APNs, bundle, true)}}
	two := &crier.App{ID: 1, Credentials: []crier.Credential{credential(crier.APNs, bundle, false), credential(crier.APNs, "com.example.b", false)}}
	ok := hexToken("ab", 1)
	for name, c := range map[string]struct {
		app    *crier.App
		device crier.Device
		target string
		says   string
	}{
		"apns":                 {one, iPhone(ok), bundle, ""},
		"fcm":                  {one, android("phone"), vendorsim.Project, ""},
		"webpush":              {one, browser(t, w.web, "b"), "", ""},
		"apns, no target":      {one, crier.Device{Vendor: crier.APNs, Token: ok}, bundle, ""},
		"fcm, no target":       {one, crier.Device{Vendor: crier.FCM, Token: "phone"}, vendorsim.Project, ""},
		"both environments":    {both, crier.Device{Vendor: crier.APNs, Token: ok, Sandbox: true}, bundle, ""},
		"two targets":          {two, crier.Device{Vendor: crier.APNs, Token: ok}, "", "target is missing: the app has credentials for com.example.app, com.example.b"},
		"another target":       {one, crier.Device{Vendor: crier.APNs, Token: ok, Target: "com.example.x"}, "", `target "com.example.x"`},
		"another environment":  {one, crier.Device{Vendor: crier.APNs, Token: ok, Sandbox: true}, "", "sandbox is true"},
		"no credential":        {two, android("phone"), "", "vendor fcm"},
		"a target of webpush":  {one, crier.Device{Vendor: crier.WebPush, Token: browser(t, w.web, "b").Token, Target: "x"}, "", "target"},
		"not of a vendor":      {one, crier.Device{Vendor: "huawei", Token: ok}, "", "vendor"},
		"apns, no hexadecimal": {one, iPhone("xyz-secret"), "", "token"},
		"apns, odd":            {one, iPhone("abc"), "", "token"},
		"apns, long":           {one, iPhone(strings.Repeat("ab", 101)), "", "token"},
		"apns, 300 bytes":      {one, iPhone(strings.Repeat("ab", 150)), "", "token"},
		"fcm, 300 bytes":       {one, android(strings.Repeat("ab", 150)), vendorsim.Project, ""}, // they are that long
		"apns, longest":        {one, iPhone(strings.Repeat("ab", 100)), bundle, ""},
		"fcm, a space":         {one, android("xyz-secret y"), "", "token"},
		"webpush, no JSON":     {one, crier.Device{Vendor: crier.WebPush, Token: "xyz-secret"}, "", "token"},
	} {
		given := c.device
		if given.Platform == "" {
			given.Platform = crier.Web
		}
		d, err := w.CheckDevice(c.app, given)
		if c.says == "" {
			if given.Target = c.target; err != nil || d != given {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
			continue
		}
		if !errors.Is(err, crier.CodeBadParameter) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "xyz-secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	ends := time.Now().Add(time.Hour).UTC()
	cert, err := w.apns.CA().IssuePush(apnssim.PushCertificate{Topics: []string{bundle, bundle + ".voip"}, Production: true, NotAfter: ends})
	if err != nil {
		t.Fatal(err)
	}
	file, err := pkcs12.Modern.Encode(cert.PrivateKey, cert.Leaf, nil, "the-password")
	if err != nil {
		t.Fatal(err)
	}
	p12 := crier.Credential{Vendor: crier.APNs, Target: bundle, Form: "p12", Params: map[string]string{"password": "the-password"}, Secret: file}
	web := w.web.Credential()
	for name, c := range map[string]struct {
		credential crier.Credential
		want       map[string]string
	}{
		"p8":  {w.keys[0], map[string]string{"kind": "key", "key_id": "KEY0000000", "team_id": "TEAM123456"}},
		"p12": {p12, map[string]string{"kind": "certificate", "subject": cert.Leaf.Subject.CommonName, "topics": bundle + "," + bundle + ".voip", "expires": ends.Format(time.RFC3339)}},
		"fcm": {w.fcm.Credential(), map[string]string{"kind": "service-account", "key_id": "0123456789abcdef0123456789abcdef01234567", "subject": "sender@crier-demo.iam.gserviceaccount.com"}},
		"web": {web, map[string]string{"kind": "vapid", "public_key": web.Params["public_key"], "subject": web.Params["subject"]}},
	} {
		got, err := w.CheckCredential(c.credential)
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, c := range []crier.Credential{{}, {Vendor: "huawei"}, {Vendor: crier.APNs}, {Vendor: crier.FCM}, {Vendor: crier.WebPush}} {
		if _, err := w.CheckCredential(c); !errors.Is(err, crier.CodeBadParameter) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// A certificate works by way of the vault, which keeps its password.
	w.put(t, p12)
	if text, err := json.Marshal(w.app); err != nil || strings.Contains(string(text), "the-password") {
		t.Errorf("%s, %v", text, err)
	}
	is(t, w.push(w.app, iPhone(hexToken("ab", 1))), crier.OutcomeAccepted, "")
}
