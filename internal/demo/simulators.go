package demo

import (
	"context"
	"errors"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/apnssim"
	"github.com/crier-im/crier/vendors/vendorsim"
)

const (
	// BundleID is the iPhone app of the demo.
	BundleID = "com.example.demo"
	keyID    = "DEMOKEY001"
	teamID   = "DEMOTEAM01"
)

// Simulators stand for Apple and Google in the process of a demo server. Their keys are new at each start.
type Simulators struct {
	apns *apnssim.Server // nil: the configuration names another server
	p8   []byte
	fcm  *vendorsim.FCM // nil: the configuration names another server
}

// StartSimulators starts a simulator of each vendor for whom v names no server, on free ports of loopback, and points v at it.
func StartSimulators(v *config.Vendors) (s *Simulators, err error) {
	s = new(Simulators)
	defer func() {
		if err != nil {
			_ = s.Close() // the first error is the one to tell
		}
	}()
	if v.APNsEndpoint == "" {
		key, p8, err := apnssim.NewKey(keyID, teamID)
		if err != nil {
			return s, err
		}
		s.p8 = p8
		if s.apns, err = apnssim.Start(apnssim.Options{Admin: "127.0.0.1:0", Keys: []apnssim.Key{key}}); err != nil {
			return s, err
		}
		v.APNsEndpoint = s.apns.URL()
	}
	if v.FCMEndpoint == "" && v.FCMTokenURL == "" {
		if s.fcm, err = vendorsim.StartFCM(vendorsim.Options{}); err != nil {
			return s, err
		}
		v.FCMEndpoint, v.FCMTokenURL = s.fcm.URL(), s.fcm.TokenURL()
	}
	return s, nil
}

// Close ends the simulators. A second Close does nothing.
func (s *Simulators) Close() error {
	var errs []error
	if s.apns != nil {
		errs = append(errs, s.apns.Close())
	}
	if s.fcm != nil {
		errs = append(errs, s.fcm.Close())
	}
	return errors.Join(errs...)
}

// CA returns the authority, in PEM, of who stands for Apple; nil: nobody does.
func (s *Simulators) CA() []byte {
	if s.apns == nil {
		return nil
	}
	cert, _ := s.apns.CA().PEM()
	return cert
}

// Page returns the address of the page that shows the iPhones, "" for none.
func (s *Simulators) Page() string {
	if s.apns == nil {
		return ""
	}
	return s.apns.AdminURL() + "/"
}

// FCM returns the address of who stands for Google, "" for nobody.
func (s *Simulators) FCM() string {
	if s.fcm == nil {
		return ""
	}
	return s.fcm.URL()
}

// Prepare makes the demo's app where it is not there, and gives it credentials for the simulators. It returns the app: with
// an error too, where it is there and only the credentials could not be stored.
func (s *Simulators) Prepare(ctx context.Context, info app.Info, fresh *crier.App) (*crier.App, error) {
	old := info.Service.App(fresh.ID)
	if old != nil && s.apns == nil && s.fcm == nil {
		return old, nil
	}
	a := *fresh
	if old != nil {
		a = *old
	}
	err := s.addCredentials(info.Vault, &a)
	switch {
	case old == nil && err == nil:
		if err := info.Service.CreateApp(ctx, &a); err != nil {
			return nil, err
		}
		return &a, nil
	case old != nil && err == nil:
		err = info.Service.UpdateApp(ctx, &a)
	}
	if err != nil {
		return old, err
	}
	return &a, nil
}

// addCredentials puts credentials that the simulators take into an app, in the place of those of an earlier start: their keys
// are no more. They are checked and sealed as those of the operator's API.
func (s *Simulators) addCredentials(pool app.Vault, a *crier.App) error {
	var all []crier.Credential
	if s.apns != nil {
		all = append(all, crier.Credential{
			Vendor: crier.APNs, Target: BundleID, Form: apns.FormKey, Secret: s.p8,
			Params: map[string]string{"key_id": keyID, "team_id": teamID},
		})
	}
	if s.fcm != nil {
		all = append(all, s.fcm.Credential())
	}
	a.Credentials = append([]crier.Credential(nil), a.Credentials...)
	for _, c := range all {
		shown, err := pool.CheckCredential(c)
		if err != nil {
			return err
		}
		sealed, err := pool.Seal(a.ID, c)
		if err != nil {
			return err
		}
		sealed.Params, sealed.Added = shown, time.Now().UTC().Truncate(time.Millisecond)
		at := a.Credential(c.Vendor, c.Target, c.Sandbox)
		if at < 0 {
			a.Credentials = append(a.Credentials, sealed)
			continue
		}
		if least := a.Credentials[at].Added.Add(time.Millisecond); sealed.Added.Before(least) { // a sender is made anew for a later one only
			sealed.Added = least
		}
		a.Credentials[at] = sealed
	}
	return nil
}
