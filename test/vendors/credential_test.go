package vendors_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apnssim"
)

// Devices that APNs calls unregistered are removed, but for those that registered after the time that it says.
func TestUnregisteredDevicesAreRemoved(t *testing.T) {
	t.Parallel()
	s := setUp(t, apnssim.Options{})
	const dead, later, again = 200, 20, 10
	living, uninstalled, returned := phones("aa", audience-dead-later), phones("de", dead), phones("df", later)
	s.register(slices.Concat(living, uninstalled))
	time.Sleep(10 * time.Millisecond) // times are in milliseconds
	since := time.Now()
	time.Sleep(10 * time.Millisecond)
	s.register(returned)
	s.registerDevices(uninstalled[:again])
	s.sim.SetFault(apnssim.Fault{Token: "d", Reason: "Unregistered", Since: since})
	task := s.push()
	v := s.finished(task, audience)
	if v.Accepted != uint64(len(living)) || v.Failed["Unregistered"] != dead+later {
		t.Errorf("funnel: %+v", v)
	}
	has := func(all []phone, n int) {
		t.Helper()
		for _, p := range all {
			if got := s.devices(p.user); got != n {
				t.Errorf("%s has %d devices, want %d", p.user, got, n)
			}
		}
	}
	has(slices.Concat(living, returned, uninstalled[:again]), 1)
	has(uninstalled[again:], 0)
	s.sim.SetFault()
	if v := s.finished(s.push(), audience); v.Accepted != audience-(dead-again) || v.NoDevice != dead-again {
		t.Errorf("the next push: %+v", v)
	}
}

// pausesAndTells checks what an operator sees of a push that the vendor refuses for the operator's fault: the reason, in the funnel, in
// explanations, in the log and the metrics. No device is removed, and nobody has lost the push.
func (s *stage) pausesAndTells(task crier.TaskID, all []phone, reason string) {
	s.t.Helper()
	eventually(s.t, "sending is paused", func() bool { return s.metric("crier_vendor_paused", `vendor="apns"`) == 1 })
	told := make(map[string]bool)
	eventually(s.t, "explanations have the refusals and the pause", func() bool {
		for _, p := range all {
			for _, a := range s.explain(task, p.user).Attempts {
				told[a.Outcome+" "+a.Reason] = true
			}
		}
		return told["configuration "+reason] && told["configuration Paused"]
	})
	if len(told) != 2 {
		s.t.Errorf("explanations have %v", slices.Sorted(maps.Keys(told)))
	}
	time.Sleep(time.Second) // those that were under way
	f := s.funnel(task)
	s.addsUp(f)
	if f.Vendor.ToDo != uint64(len(all)) {
		s.t.Errorf("funnel: %+v", f.Vendor)
	}
	if n := s.metric("crier_vendor_outcomes_total", `class="configuration"`, `reason="`+reason+`"`); n < streak || n >= 2*streak {
		s.t.Errorf("%v outcomes have the reason %s", n, reason)
	}
	if !s.printed("a vendor refuses every notification, sending is paused") || !s.printed("reason="+reason) {
		s.t.Error("the log does not say it")
	}
	for _, p := range all {
		if s.devices(p.user) != 1 {
			s.t.Fatalf("the device of %s was removed", p.user)
		}
	}
}

const (
	few    = 400 // accounts are enough where each is asked for
	streak = 20  // refusals begin a pause, and are under way at a time before a credential has worked
)

// A key that is restricted to the other environment, and then the right one.
func TestWrongEnvironment(t *testing.T) {
	t.Parallel()
	restricted, p8, err := apnssim.NewKey("SANDBOXKEY", "TEAM123456")
	if err != nil {
		t.Fatal(err)
	}
	restricted.SandboxOnly = true
	s := setUp(t, apnssim.Options{Keys: []apnssim.Key{restricted}})
	s.upload("SANDBOXKEY", p8)
	all := phones("aa", few)
	s.register(all)
	task := s.push()
	s.pausesAndTells(task, all, "BadEnvironmentKeyIdInToken")
	s.upload(s.keyID, s.p8)
	s.delivered(task, all)
}

// A token of the sandbox at the production server looks like a malformed one.
func TestEveryTokenIsBad(t *testing.T) {
	t.Parallel()
	s := setUp(t, apnssim.Options{})
	s.sim.SetFault(apnssim.Fault{Reason: "BadDeviceToken"})
	all := phones("aa", few)
	s.register(all)
	task := s.push()
	s.pausesAndTells(task, all, "BadDeviceToken")
	s.sim.SetFault()
	s.delivered(task, all)
}

// The clock of this machine is two hours behind APNs', and then it is set.
func TestClockIsWrong(t *testing.T) {
	t.Parallel()
	s := setUp(t, apnssim.Options{})
	s.skew.Store(int64(2 * time.Hour))
	all := phones("aa", few)
	s.register(all)
	task := s.push()
	s.pausesAndTells(task, all, "ExpiredProviderToken")
	s.skew.Store(0)
	s.delivered(task, all)
}

// delivered waits until everybody is notified, each once.
func (s *stage) delivered(task crier.TaskID, all []phone) {
	s.t.Helper()
	began := time.Now()
	if v := s.finished(task, len(all)); v.Accepted != uint64(len(all)) {
		s.t.Errorf("funnel: %+v", v)
	}
	if repeats := s.allTaken(all); repeats != 0 {
		s.t.Errorf("%d were notified twice", repeats)
	}
	for _, p := range all {
		if attempts := s.explain(task, p.user).Attempts; len(attempts) > 12 {
			s.t.Errorf("%s has %d attempts in its explanation", p.user, len(attempts))
		}
	}
	s.t.Logf("everybody was notified %v after it was mended", time.Since(began).Round(time.Second))
	if s.metric("crier_vendor_paused", `vendor="apns"`) != 0 {
		s.t.Error("sending is still paused")
	}
}

// What can't work is refused when it is given, in words, and leaves nothing behind.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := setUp(t, apnssim.Options{})
	s.register([]phone{{"a", strings.Repeat("ab", 32)}})
	ca := s.sim.CA()
	certificate := func(c apnssim.PushCertificate) []byte {
		t.Helper()
		issued, err := ca.IssuePush(c)
		if err != nil {
			t.Fatal(err)
		}
		file, err := pkcs12.Modern.Encode(issued.PrivateKey, issued.Leaf, nil, "geheim")
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	key := func(secret string) map[string]any {
		return map[string]any{"vendor": "apns", "target": bundle, "form": "p8", "params": map[string]string{"key_id": s.keyID, "team_id": "TEAM123456"}, "secret": secret}
	}
	p12 := func(c apnssim.PushCertificate) map[string]any {
		return map[string]any{"vendor": "apns", "target": bundle, "form": "p12", "params": map[string]string{"password": "geheim"}, "secret": certificate(c)}
	}
	for name, c := range map[string]struct {
		body map[string]any
		says string
	}{
		"a key that is none":       {key("hello"), "not a .p8 file"},
		"an expired certificate":   {p12(apnssim.PushCertificate{Topics: []string{bundle}, Production: true, NotAfter: time.Now().Add(-time.Hour)}), "expired on"},
		"a certificate of another": {p12(apnssim.PushCertificate{Topics: []string{"com.example.other"}, Production: true}), "com.example.other"},
	} {
		if err := s.call(http.MethodPut, app("credentials"), c.body, nil); err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, token := range map[string]string{"no token": "", "not hexadecimal": strings.Repeat("xy", 32), "300 bytes": strings.Repeat("ab", 150)} {
		err := s.call(http.MethodPost, app("users/a/devices"), map[string]any{"vendor": "apns", "token": token, "target": bundle, "platform": crier.IPhone}, nil)
		if err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "token") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.devices("a"); n != 1 {
		t.Errorf("%d devices", n)
	}
	if v := s.finished(s.push(), 1); v.Accepted != 1 {
		t.Errorf("with the credential of before: %+v", v)
	}
}
