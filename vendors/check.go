package vendors

import (
	"strings"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/fcm"
	"github.com/crier-im/crier/vendors/webpush"
)

// CheckDevice checks a registration: its fields, the form of its token, and that the app has a credential by which
// the device can be reached. It returns the device with its Target, which may be left out where all the app's credentials of the vendor
// have the same. Errors carry CodeBadParameter and show nothing of the token.
func (p *Pool) CheckDevice(app *crier.App, d crier.Device) (crier.Device, error) {
	if err := d.Validate(); err != nil {
		return d, err
	}
	var err error
	switch d.Vendor {
	case crier.APNs:
		err = apns.CheckToken(d.Token)
	case crier.FCM:
		err = fcm.CheckToken(d.Token)
	case crier.WebPush:
		err = p.options.webPush().CheckToken(d.Token)
	}
	if err != nil {
		return d, err
	}
	targets := targets(app, d.Vendor)
	if d.Target == "" && len(targets) == 1 {
		d.Target = targets[0]
	}
	switch at := app.Credential(d.Vendor, d.Target, d.Sandbox); {
	case at >= 0:
		return d, nil
	case len(targets) == 0:
		return d, crier.Errorf(crier.CodeBadParameter, "vendor %s: the app has no credential for it", d.Vendor)
	case d.Target == "" && d.Vendor != crier.WebPush:
		return d, crier.Errorf(crier.CodeBadParameter, "target is missing: the app has credentials for %s", strings.Join(targets, ", "))
	case app.Credential(d.Vendor, d.Target, !d.Sandbox) >= 0:
		return d, crier.Errorf(crier.CodeBadParameter, "sandbox is %t: the app has a credential for the other environment only", d.Sandbox)
	}
	return d, crier.Errorf(crier.CodeBadParameter, "target %s: the app has no credential for it", crier.Quote(d.Target))
}

// targets returns the targets of an app's credentials for a vendor, each once.
func targets(app *crier.App, vendor crier.Vendor) (all []string) {
	seen := make(map[string]bool)
	for _, c := range app.Credentials {
		if c.Vendor == vendor && !seen[c.Target] {
			seen[c.Target] = true
			all = append(all, c.Target)
		}
	}
	return all
}

// CheckCredential checks a credential as it is uploaded, without asking the vendor, and returns what may be shown of
// it: its kind, the id of its key or its subject, and when it expires. Errors carry CodeBadParameter, name the field and the
// rule, and hold nothing of the secret.
func (p *Pool) CheckCredential(c crier.Credential) (map[string]string, error) {
	shown := map[string]string{"kind": c.Form}
	switch c.Vendor {
	case crier.APNs:
		s, err := apns.Check(c)
		if err != nil {
			return nil, err
		}
		shown["kind"], shown["key_id"], shown["team_id"], shown["subject"] = s.Kind, s.KeyID, s.TeamID, s.Subject
		shown["topics"] = strings.Join(s.Topics, ",")
		if !s.Expires.IsZero() {
			shown["expires"] = s.Expires.UTC().Format(time.RFC3339)
		}
	case crier.FCM:
		s, err := fcm.Check(c)
		if err != nil {
			return nil, err
		}
		shown["key_id"], shown["subject"] = s.KeyID, s.ClientEmail
	case crier.WebPush:
		s, err := webpush.Check(c)
		if err != nil {
			return nil, err
		}
		shown["public_key"], shown["subject"] = s.PublicKey, s.Subject
	default:
		return nil, unknownVendor(c.Vendor)
	}
	for name, text := range shown {
		if text == "" {
			delete(shown, name)
		}
	}
	return shown, nil
}

// Seal returns a credential with its secret sealed for its place in the app, and with what its Params said in the secret.
func (p *Pool) Seal(app crier.AppID, c crier.Credential) (crier.Credential, error) {
	return p.options.Vault.Seal(app, c)
}
