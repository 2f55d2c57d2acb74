package apns_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/apnssim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bundle = "com.example.app"

// world is a simulator and a credential that it takes.
type world struct {
	*apnssim.Server
	credential crier.Credential
}

func newWorld(t testing.TB, o apnssim.Options) *world {
	t.Helper()
	key, p8, err := apnssim.NewKey("KEY1234567", "TEAM123456")
	if err != nil {
		t.Fatal(err)
	}
	o.Keys = append(o.Keys, key)
	s, err := apnssim.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the simulator: %v", err)
		}
	})
	return &world{s, crier.Credential{
		Vendor: crier.APNs, Target: bundle, Sandbox: o.Sandbox, Form: apns.FormKey,
		Params: map[string]string{"key_id": "KEY1234567", "team_id": "TEAM123456"}, Secret: p8,
	}}
}

func (w *world) sender(t testing.TB, o apns.Options) *apns.Sender {
	t.Helper()
	if o.Endpoint == "" {
		o.Endpoint = w.URL()
	}
	if o.RootCAs == nil {
		o.RootCAs = w.CA().Pool()
	}
	s, err := apns.New(w.credential, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the sender: %v", err)
		}
	})
	return s
}

// certificate gives the world a certificate in place of its key.
func (w *world) certificate(t *testing.T, p apnssim.PushCertificate) {
	t.Helper()
	cert, err := w.CA().IssuePush(p)
	if err != nil {
		t.Fatal(err)
	}
	file, err := pkcs12.Modern.Encode(cert.PrivateKey, cert.Leaf, nil, "geheim")
	if err != nil {
		t.Fatal(err)
	}
	w.credential.Form, w.credential.Params, w.credential.Secret = apns.FormCertificate, map[string]string{"password": "geheim"}, file
}

// token returns a device token that begins so.
func token(prefix string) string { return prefix + strings.Repeat("1", 64-len(prefix)) }

func message(text, offline string) *crier.Message {
	content, _ := json.Marshal(map[string]string{"Text": text})
	m := &crier.Message{Elements: []crier.Element{{Type: crier.TextElement, Content: content}}}
	if offline != "" {
		m.Offline.Raw = json.RawMessage(offline)
		var o struct{ Title, Desc, Ext string }
		_ = json.Unmarshal(m.Offline.Raw, &o)
		m.Offline.Title, m.Offline.Desc, m.Offline.Ext = o.Title, o.Desc, o.Ext
	}
	return m
}

func push(to string) *crier.DevicePush {
	return &crier.DevicePush{
		App: 1, Task: "1_1700000000000_5_1", Message: message("hello", ""),
		Device: &crier.Device{Vendor: crier.APNs, Token: to, Target: bundle, Platform: crier.IPhone},
	}
}

func sent(t *testing.T, o crier.Outcome) {
	t.Helper()
	if o.Class != crier.OutcomeAccepted || o.Reason != "" || o.ID == "" {
		t.Fatalf("%+v", o)
	}
}

func TestEveryFieldArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{Sandbox: true})
	s := w.sender(t, apns.Options{})
	badge := 7
	p := push(strings.ToUpper(token("ab")))
	p.Device.Sandbox, p.Device.Language = true, "zh-Hans-CN"
	p.Badge, p.Expires = &badge, time.Unix(2_000_000_000, 0)
	p.Message = message("hello", `{"Title":"top","Ext":"{\"id\":1}","MultiLanguageContent":[{"Language":"zh-Hans","Desc":"你好 <世界>"}],
		"ApnsInfo":{"Title":"own","SubTitle":"sub","Image":"https://example.com/i.png","Sound":"ding.caf","InterruptionLevel":"time-sensitive"}}`)
	o := s.Send(t.Context(), p)
	sent(t, o)
	n := w.Notifications()[0]
	const want = `{"aps":{"alert":{"title":"own","subtitle":"sub","body":"你好 \u003c世界\u003e"},"sound":"ding.caf","mutable-content":1,` +
		`"interruption-level":"time-sensitive","badge":7},"ext":"{\"id\":1}","image":"https://example.com/i.png"}`
	if string(n.Payload) != want {
		t.Errorf("got\n%s\nwant\n%s", n.Payload, want)
	}
	if n.Token != token("ab") || n.Topic != bundle || n.PushType != "alert" || n.Priority != 10 || *n.Expiration != 2_000_000_000 ||
		n.ID != o.ID || n.CollapseID != o.ID || n.UniqueID == "" {
		t.Errorf("%+v", n)
	}
}

// Without OfflinePushInfo the alert is a text, and the sound that of the custom element; no expiry is 0, which is not the same as none.
func TestPlainMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	p := push(token("ab"))
	p.Message.Elements = append(p.Message.Elements, crier.Element{Type: crier.LocationElement, Content: json.RawMessage(`{}`)},
		crier.Element{Type: crier.CustomElement, Content: json.RawMessage(`{"Desc":"!","Ext":"e","Sound":"s.caf","Data":"secret"}`)})
	p.Language = crier.Chinese
	sent(t, s.Send(t.Context(), p))
	n := w.Notifications()[0]
	if string(n.Payload) != `{"aps":{"alert":"hello[位置]!","sound":"s.caf"},"ext":"e"}` || n.Expiration == nil || *n.Expiration != 0 {
		t.Errorf("%s, expiration %v", n.Payload, n.Expiration)
	}
}

func TestBackgroundPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	p := push(token("ab"))
	badge := 3
	p.Badge, p.Message = &badge, message("", `{"Ext":"e","ApnsInfo":{"ContentAvailable":1}}`)
	sent(t, w.sender(t, apns.Options{}).Send(t.Context(), p))
	n := w.Notifications()[0]
	if string(n.Payload) != `{"aps":{"content-available":1},"ext":"e"}` || n.PushType != "background" || n.Priority != 5 {
		t.Errorf("%s %s %d", n.Payload, n.PushType, n.Priority)
	}
}

// A repeat, as after a crash, has the same id and takes the place of the first on the device.
func TestRepeatReplaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	first := w.sender(t, apns.Options{}).Send(t.Context(), push(token("ab")))
	again := w.sender(t, apns.Options{}).Send(t.Context(), push(token("AB")))
	sent(t, first)
	sent(t, again)
	if all := w.Notifications(); len(all) != 1 || all[0].Replaced != 1 || first.ID != again.ID {
		t.Errorf("%+v, %q and %q", all, first.ID, again.ID)
	}
	other := push(token("ab"))
	other.Task = "1_1700000000000_5_2"
	sent(t, w.sender(t, apns.Options{}).Send(t.Context(), other))
	if all := w.Notifications(); len(all) != 2 {
		t.Errorf("%d shown", len(all))
	}
}

// Every documented reason has the class of the table when it comes over the wire.
func TestEveryReasonOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	known := make(map[string]apns.Reason)
	for _, r := range apns.Reasons() {
		known[r.Name] = r
	}
	for _, p := range apnssim.Prefixes() {
		o := s.Send(t.Context(), push(token(p.Token)))
		if r := known[p.Reason]; o.Reason != p.Reason || o.Class != r.Class || o.Info != r.Info {
			t.Errorf("%s: %+v", p.Reason, o)
		}
	}
}

func TestGoneSinceInMilliseconds(t *testing.T) {
	t.Parallel()
	since := time.UnixMilli(1_700_000_000_987)
	w := newWorld(t, apnssim.Options{})
	w.SetFault(apnssim.Fault{Reason: "Unregistered", Since: since})
	o := w.sender(t, apns.Options{}).Send(t.Context(), push(token("ab")))
	if o.Class != crier.OutcomeGone || !o.GoneSince.Equal(since) {
		t.Errorf("%+v", o)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w := newWorld(t, apnssim.Options{PerDevice: 1, Now: func() time.Time { return now }})
	s := w.sender(t, apns.Options{})
	sent(t, s.Send(t.Context(), push(token("ab"))))
	if o := s.Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeThrottled || o.Reason != "TooManyRequests" {
		t.Errorf("%+v", o)
	}
	w.SetFault(apnssim.Fault{Reason: "ServiceUnavailable", RetryAfter: 90 * time.Second})
	if o := s.Send(t.Context(), push(token("cd"))); o.Class != crier.OutcomeUnavailable || o.RetryAfter != 90*time.Second {
		t.Errorf("%+v", o)
	}
}

// What can be refused without a call makes none.
func TestRefusedWithoutACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	for name, c := range map[string]struct {
		change func(*crier.DevicePush)
		class  crier.OutcomeClass
		reason string
	}{
		"no token":        {func(p *crier.DevicePush) { p.Device.Token = "" }, crier.OutcomeGone, "BadDeviceToken"},
		"a path":          {func(p *crier.DevicePush) { p.Device.Token = "../../x?" }, crier.OutcomeGone, "BadDeviceToken"},
		"half a byte":     {func(p *crier.DevicePush) { p.Device.Token = "abc" }, crier.OutcomeGone, "BadDeviceToken"},
		"300 bytes":       {func(p *crier.DevicePush) { p.Device.Token = strings.Repeat("ab", 300) }, crier.OutcomeGone, "BadDeviceToken"},
		"the environment": {func(p *crier.DevicePush) { p.Device.Sandbox = true }, crier.OutcomeConfiguration, apns.ReasonEnvironment},
		"nothing to show": {func(p *crier.DevicePush) { p.Message = message("", "") }, crier.OutcomeRejected, "PayloadEmpty"},
		"a long title": {func(p *crier.DevicePush) {
			p.Message = message("text", `{"Title":"`+strings.Repeat("x", 4090)+`"}`)
		}, crier.OutcomeRejected, "PayloadTooLarge"},
	} {
		p := push(token("ab"))
		c.change(p)
		if o := s.Send(t.Context(), p); o.Class != c.class || o.Reason != c.reason || o.Info == "" {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if w.Requests() != 0 || w.Connections() != 0 {
		t.Errorf("%d requests on %d connections", w.Requests(), w.Connections())
	}
	// A token of good digits that is too short is for APNs to judge.
	if o := s.Send(t.Context(), push("abcd")); o.Reason != "BadDeviceToken" || w.Requests() != 1 {
		t.Errorf("%+v", o)
	}
}

// The payload is cut to the limit, and what is sent is as long as what was measured.
func TestLongTextIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	badge := 1 << 40
	for i, text := range []string{strings.Repeat("世", 5000), strings.Repeat("<&>", 3000), strings.Repeat("\x00\u2028", 3000), strings.Repeat("\xff", 9000)} {
		p := push(token(fmt.Sprintf("ab%02d", i)))
		p.Message, p.Badge = message(text, `{}`), &badge
		sent(t, s.Send(t.Context(), p))
		n := w.Notifications()[i]
		if len(n.Payload) > 4096 || len(n.Payload) < 4050 || !strings.Contains(string(n.Payload), `..."}`) {
			t.Errorf("%d bytes: %.80s", len(n.Payload), n.Payload)
		}
	}
}

func TestExpiredProviderTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	w.SetFault(apnssim.Fault{Reason: "ExpiredProviderToken", Times: 1})
	sent(t, s.Send(t.Context(), push(token("ab"))))
	if w.Requests() != 2 {
		t.Errorf("%d requests", w.Requests())
	}
	// A renewal has just been: now it is the clock, and no third token is made.
	w.SetFault(apnssim.Fault{Reason: "ExpiredProviderToken", Times: 2})
	if o := s.Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeConfiguration || w.Requests() != 3 {
		t.Errorf("%+v after %d requests", o, w.Requests())
	}
}

// A clock that is wrong by hours is told as such, whatever is sent, with two requests at first and one for each push then.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	w := newWorld(t, apnssim.Options{Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }})
	s := w.sender(t, apns.Options{})
	offset.Store(int64(3 * time.Hour))
	for range 3 {
		if o := s.Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeConfiguration || !strings.Contains(o.Info, "clock") {
			t.Errorf("%+v", o)
		}
	}
	if w.Requests() != 4 {
		t.Errorf("%d requests", w.Requests())
	}
	offset.Store(int64(-3 * time.Hour))
	if o := s.Send(t.Context(), push(token("ab"))); o.Reason != "InvalidProviderToken" {
		t.Errorf("%+v", o)
	}
	offset.Store(0)
	sent(t, s.Send(t.Context(), push(token("ab"))))
}

// The token is renewed before APNs would refuse it, and not more often.
func TestProviderTokenAges(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newWorld(t, apnssim.Options{Log: &log})
	now := time.Now()
	s := w.sender(t, apns.Options{Now: func() time.Time { return now }})
	for range 3 {
		sent(t, s.Send(t.Context(), push(token("ab"))))
	}
	now = now.Add(51 * time.Minute)
	if o := s.Send(t.Context(), push(token("ab"))); o.Reason != "TooManyProviderTokenUpdates" { // for the simulator no time has passed
		t.Errorf("%+v", o)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 4 {
		t.Errorf("%d lines", lines)
	}
}

func TestSlowVendor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	w.SetFault(apnssim.Fault{Silent: true, Times: 1}, apnssim.Fault{Latency: time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if o := s.Send(ctx, push(token("ab"))); o.Class != crier.OutcomeUnavailable || o.Reason != apns.ReasonTimeout {
		t.Errorf("%+v", o)
	}
	sent(t, s.Send(t.Context(), push(token("ab")))) // on the same connection
	if w.Connections() != 1 {
		t.Errorf("%d connections", w.Connections())
	}
}

func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	for name, f := range map[string]apnssim.Fault{"cut": {Cut: true}, "reset": {Reset: true}, "goaway": {GoAway: true}} {
		f.Times = 1
		w.SetFault(f)
		if o := s.Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeUnavailable || o.Reason != apns.ReasonConnection {
			t.Errorf("%s: %+v", name, o)
		}
		sent(t, s.Send(t.Context(), push(token("ab"))))
	}
}

// A GOAWAY in the middle: what arrived before it is answered, the rest is Unavailable, and the next goes to a new connection.
func TestGoAwayMidStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{Connections: 1})
	sent(t, s.Send(t.Context(), push(token("ab"))))
	w.SetFault(apnssim.Fault{Token: "aa", Latency: 300 * time.Millisecond}, apnssim.Fault{Token: "cc", GoAway: true, Latency: 100 * time.Millisecond})
	var before, after crier.Outcome
	var sends sync.WaitGroup
	sends.Go(func() { before = s.Send(t.Context(), push(token("aa"))) })
	time.Sleep(50 * time.Millisecond) // so that it has the lower stream; both orders end well
	sends.Go(func() { after = s.Send(t.Context(), push(token("cc"))) })
	sends.Wait()
	sent(t, before)
	if after.Class != crier.OutcomeUnavailable {
		t.Errorf("%+v", after)
	}
	w.SetFault()
	sent(t, s.Send(t.Context(), push(token("cc"))))
	if w.Connections() != 2 {
		t.Errorf("%d connections", w.Connections())
	}
}

// A wrong environment that APNs tells only in a GOAWAY frame is the operator's to mend.
func TestReasonOfAGoAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	w.SetFault(apnssim.Fault{GoAway: true, Reason: "BadCertificateEnvironment"})
	if o := s.Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeConfiguration || !strings.HasPrefix(o.Info, "Wrong environment") {
		t.Errorf("%+v", o)
	}
	w.SetFault(apnssim.Fault{GoAway: true, Reason: "IdleTimeout"})
	if o := s.Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeUnavailable {
		t.Errorf("%+v", o)
	}
}

func TestWrongKeys(t *testing.T) {
	t.Parallel()
	other, _, err := apnssim.NewKey("KEY1234567", "TEAM123456")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key     apnssim.Key
		sandbox bool
		reason  string
	}{
		"another key":     {apnssim.Key{}, false, "InvalidProviderToken"},
		"for the sandbox": {apnssim.Key{SandboxOnly: true}, false, "BadEnvironmentKeyIdInToken"},
		"for production":  {apnssim.Key{ProductionOnly: true}, true, "BadEnvironmentKeyIdInToken"},
		"another app's":   {apnssim.Key{Topics: []string{"com.example.other"}}, false, "UnrelatedKeyIdInToken"},
	} {
		c.key.ID, c.key.Team, c.key.Public = "KEY7654321", "TEAM123456", other.Public
		w := newWorld(t, apnssim.Options{Keys: []apnssim.Key{c.key}, Sandbox: c.sandbox})
		_, p8, err := apnssim.NewKey("KEY7654321", "TEAM123456")
		if err != nil {
			t.Fatal(err)
		}
		if name != "another key" { // that one has a known id and an unknown signature
			key, err := apnssim.ReadKey(p8, "KEY7654321", "TEAM123456")
			if err != nil {
				t.Fatal(err)
			}
			*other.Public = *key.Public
		}
		w.credential.Params["key_id"], w.credential.Secret = "KEY7654321", p8
		p := push(token("ab"))
		p.Device.Sandbox = c.sandbox
		if o := w.sender(t, apns.Options{}).Send(t.Context(), p); o.Class != crier.OutcomeConfiguration || o.Reason != c.reason {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{Topics: []string{bundle, "com.example.other"}})
	sent(t, w.sender(t, apns.Options{}).Send(t.Context(), push(token("ab"))))
	w.credential.Target = "com.example.other"
	if o := w.sender(t, apns.Options{}).Send(t.Context(), push(token("ab"))); o.Reason != "DeviceTokenNotForTopic" {
		t.Errorf("%+v", o)
	}
	w.credential.Target = "com.example.third"
	if o := w.sender(t, apns.Options{}).Send(t.Context(), push(token("cd"))); o.Reason != "TopicDisallowed" {
		t.Errorf("%+v", o)
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	w.certificate(t, apnssim.PushCertificate{Topics: []string{bundle, bundle + ".voip"}, Production: true, Sandbox: true})
	s := w.sender(t, apns.Options{})
	sent(t, s.Send(t.Context(), push(token("ab"))))

	// The same to the sandbox's server of another authority.
	strange := newWorld(t, apnssim.Options{})
	strange.credential = w.credential
	if o := strange.sender(t, apns.Options{}).Send(t.Context(), push(token("ab"))); o.Reason != "BadCertificate" {
		t.Errorf("%+v", o)
	}
	sandbox := newWorld(t, apnssim.Options{CA: w.CA(), Sandbox: true})
	sandbox.credential = w.credential
	sandbox.certificate(t, apnssim.PushCertificate{Topics: []string{bundle}, Production: true})
	if o := sandbox.sender(t, apns.Options{}).Send(t.Context(), push(token("ab"))); o.Reason != "BadCertificateEnvironment" {
		t.Errorf("%+v", o)
	}
}

// A certificate that expires while the server runs fails in the handshake, without an answer.
func TestCertificateExpiresLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{Now: func() time.Time { return time.Now().AddDate(2, 0, 0) }})
	w.certificate(t, apnssim.PushCertificate{Topics: []string{bundle}, Production: true})
	if o := w.sender(t, apns.Options{}).Send(t.Context(), push(token("ab"))); o.Class != crier.OutcomeConfiguration || o.Reason != apns.ReasonRefusedByTLS {
		t.Errorf("%+v", o)
	}
}

func TestNotAPNs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	if o := w.sender(t, apns.Options{RootCAs: newWorld(t, apnssim.Options{}).CA().Pool()}).Send(t.Context(), push(token("ab"))); o.Reason != apns.ReasonServerCertificate {
		t.Errorf("another authority: %+v", o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if o := w.sender(t, apns.Options{Endpoint: "https://" + l.Addr().String()}).Send(t.Context(), push(token("ab"))); o.Reason != apns.ReasonConnection {
		t.Errorf("nobody there: %+v", o)
	}
	for _, endpoint := range []string{"http://127.0.0.1:1", "https://", "127.0.0.1:1", "https://x/y"} {
		if _, err := apns.New(w.credential, apns.Options{Endpoint: endpoint}); err == nil {
			t.Errorf("%s was taken", endpoint)
		}
	}
}

// Many at once: no more connections than allowed although the server takes few streams.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{MaxStreams: 8, Latency: 2 * time.Millisecond})
	s := w.sender(t, apns.Options{Connections: 3, Concurrency: 64})
	var ok atomic.Int64
	var sends sync.WaitGroup
	for i := range 400 {
		sends.Go(func() {
			p := push(token(fmt.Sprintf("ab%04x", i)))
			if o := s.Send(t.Context(), p); o.Class == crier.OutcomeAccepted {
				ok.Add(1)
			} else {
				t.Errorf("%+v", o)
			}
		})
	}
	sends.Wait()
	if ok.Load() != 400 || len(w.Notifications()) != 400 || w.Connections() > 3 {
		t.Errorf("%d accepted, %d shown, %d connections", ok.Load(), len(w.Notifications()), w.Connections())
	}
}

// With a single stream, as APNs allows before it has seen a provider token, each send gets its turn at once.
func TestOneStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{MaxStreams: 1})
	s := w.sender(t, apns.Options{Connections: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // below the sender's own
	defer cancel()
	var sends sync.WaitGroup
	for range 200 {
		sends.Go(func() {
			if o := s.Send(ctx, push(token("ab"))); o.Class != crier.OutcomeAccepted {
				t.Errorf("%+v", o)
			}
		})
	}
	sends.Wait()
	if w.Connections() != 1 {
		t.Errorf("%d connections", w.Connections())
	}
}

func TestCloseEndsSends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{})
	s := w.sender(t, apns.Options{})
	w.SetFault(apnssim.Fault{Silent: true})
	outcomes := make(chan crier.Outcome)
	go func() { outcomes <- s.Send(t.Context(), push(token("ab"))) }()
	for deadline := time.Now().Add(10 * time.Second); w.Connections() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if o := <-outcomes; o.Class != crier.OutcomeUnavailable || o.Reason != apns.ReasonClosed {
		t.Errorf("%+v", o)
	}
	if o := s.Send(t.Context(), push(token("ab"))); o.Reason != apns.ReasonClosed {
		t.Errorf("%+v", o)
	}
}

// The log tells of a failure once a minute, and neither tokens nor texts.
func TestLogIsSparing(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newWorld(t, apnssim.Options{})
	w.SetFault(apnssim.Fault{Reason: "TopicDisallowed"})
	s := w.sender(t, apns.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 5 {
		s.Send(t.Context(), push(token("ab")))
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "reason=TopicDisallowed") || strings.Contains(text, token("ab")) || strings.Contains(text, "hello") {
		t.Errorf("%s", text)
	}
}
