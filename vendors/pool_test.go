package vendors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors"
	"github.com/crier-im/crier/vendors/apnssim"
	"github.com/crier-im/crier/vendors/vault"
	"github.com/crier-im/crier/vendors/vendorsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bundle = "com.example.app"

// world is a pool over simulators of all vendors, with a clock that stands still.
type world struct {
	*vendors.Pool
	apns     *apnssim.Server
	fcm      *vendorsim.FCM
	web      *vendorsim.WebPush
	keys     []crier.Credential // two that the APNs simulator takes
	registry *prometheus.Registry
	log      log
	app      *crier.App
	added    int

	mu  sync.Mutex
	now time.Time
}

// log is what was logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T, sim apnssim.Options, o vendors.Options) *world {
	t.Helper()
	w := &world{now: time.Now(), app: &crier.App{ID: 1}, registry: prometheus.NewRegistry()}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for i := range 2 {
		id := fmt.Sprintf("KEY000000%d", i)
		key, p8, err := apnssim.NewKey(id, "TEAM123456")
		must(err)
		sim.Keys = append(sim.Keys, key)
		w.keys = append(w.keys, crier.Credential{
			Vendor: crier.APNs, Target: bundle, Sandbox: sim.Sandbox, Form: "p8",
			Params: map[string]string{"key_id": id, "team_id": "TEAM123456"}, Secret: p8,
		})
	}
	sim.Now = w.clock
	var err error
	w.apns, err = apnssim.Start(sim)
	must(err)
	t.Cleanup(func() { _ = w.apns.Close() })
	w.fcm, err = vendorsim.StartFCM(vendorsim.Options{Now: w.clock})
	must(err)
	t.Cleanup(func() { _ = w.fcm.Close() })
	w.web, err = vendorsim.StartWebPush(vendorsim.Options{Now: w.clock})
	must(err)
	t.Cleanup(func() { _ = w.web.Close() })
	o.Vault, err = vault.New(vault.Key{1})
	must(err)
	o.Logger, o.Registerer, o.Now = slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), w.registry, w.clock
	o.APNsEndpoint, o.FCMEndpoint, o.FCMTokenURL, o.RootCAs, o.WebPushInsecure = w.apns.URL(), w.fcm.URL(), w.fcm.TokenURL(), w.apns.CA().Pool(), true
	w.Pool = vendors.Open(o)
	t.Cleanup(w.Close)
	return w
}

// put gives the app a credential in the place of the one that it has, as the operator's API does.
func (w *world) put(t *testing.T, c crier.Credential) {
	t.Helper()
	shown, err := w.CheckCredential(c)
	if err != nil {
		t.Fatal(err)
	}
	w.added++
	c.Added = time.Unix(int64(w.added), 0)
	if c, err = w.Seal(w.app.ID, c); err != nil {
		t.Fatal(err)
	}
	c.Params = shown
	app := *w.app
	app.Credentials = append([]crier.Credential(nil), app.Credentials...)
	if at := app.Credential(c.Vendor, c.Target, c.Sandbox); at >= 0 {
		app.Credentials[at] = c
	} else {
		app.Credentials = append(app.Credentials, c)
	}
	w.app = &app
}

func (w *world) push(app *crier.App, d crier.Device) crier.Outcome {
	return w.pushIn(context.Background(), app, d)
}

func (w *world) pushIn(ctx context.Context, app *crier.App, d crier.Device) crier.Outcome {
	return w.Send(ctx, app, &crier.DevicePush{
		App: app.ID, Task: "1_2_3_4", Device: &d, Message: &crier.Message{Offline: crier.OfflinePush{Desc: "hello"}},
	})
}

func hexToken(prefix string, n int) string { return fmt.Sprintf("%s%0*x", prefix, 64-len(prefix), n) }

func iPhone(token string) crier.Device {
	return crier.Device{Vendor: crier.APNs, Token: token, Target: bundle, Platform: crier.IPhone}
}

func android(token string) crier.Device {
	return crier.Device{Vendor: crier.FCM, Token: token, Target: vendorsim.Project, Platform: crier.Android}
}

func browser(t *testing.T, sim *vendorsim.WebPush, id string) crier.Device {
	t.Helper()
	token, err := sim.Subscribe(id)
	if err != nil {
		t.Fatal(err)
	}
	return crier.Device{Vendor: crier.WebPush, Token: token, Platform: crier.Web}
}

// is fails unless an outcome has the class and the reason.
func is(t *testing.T, o crier.Outcome, class crier.OutcomeClass, reason string) {
	t.Helper()
	if o.Class != class || o.Reason != reason || o.Info == "" && class != crier.OutcomeAccepted {
		t.Errorf("%+v, want %s %s", o, class, reason)
	}
}

// metrics returns what a scrape shows.
func (w *world) metrics() string {
	r := httptest.NewRecorder()
	promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{}).ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return r.Body.String()
}

func TestEachVendor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	devices := []crier.Device{iPhone(hexToken("ab", 1)), android("phone"), browser(t, w.web, "browser")}
	for _, d := range devices {
		is(t, w.push(w.app, d), crier.OutcomeConfiguration, "NoCredential")
	}
	credentials := []crier.Credential{w.keys[0], w.fcm.Credential(), w.web.Credential()}
	for _, c := range credentials {
		w.put(t, c)
	}
	for _, d := range devices {
		is(t, w.push(w.app, d), crier.OutcomeAccepted, "")
	}
	if len(w.apns.Notifications()) != 1 || len(w.fcm.Messages()) != 1 || len(w.web.Messages()) != 1 {
		t.Errorf("%v, %v, %v", w.apns.Notifications(), w.fcm.Messages(), w.web.Messages())
	}
	counted := w.metrics()
	for _, want := range []string{
		`{class="accepted",reason="",vendor="apns"} 1`, `{class="accepted",reason="",vendor="fcm"} 1`,
		`{class="accepted",reason="",vendor="webpush"} 1`, `{class="configuration",reason="NoCredential",vendor="apns"} 1`,
		`crier_vendor_send_seconds_count{vendor="fcm"} 1`,
	} {
		if !strings.Contains(counted, want) {
			t.Errorf("%s is missing in\n%s", want, counted)
		}
	}
	// What is kept of the app, and what is logged, has nothing of the secrets.
	text, err := json.Marshal(w.app)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range credentials {
		encoded, _ := json.Marshal(c.Secret)
		for _, secret := range []string{string(c.Secret), strings.Trim(string(encoded), `"`), strings.Split(string(c.Secret)+"\n", "\n")[1]} {
			if secret != "" && (strings.Contains(string(text), secret) || strings.Contains(w.log.String(), secret)) {
				t.Errorf("the secret of %s shows", c.Vendor)
			}
		}
	}
}

func TestReplacedWhileSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{Latency: 300 * time.Millisecond}, vendors.Options{})
	w.put(t, w.keys[0])
	before := w.app
	var wg sync.WaitGroup
	wg.Go(func() { is(t, w.push(before, iPhone(hexToken("ab", 1))), crier.OutcomeAccepted, "") })
	for deadline := time.Now().Add(10 * time.Second); w.apns.Connections() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	w.put(t, w.keys[1])
	for i, app := range []*crier.App{w.app, before, w.app} { // the old app's push goes with the new credential
		wg.Go(func() { is(t, w.push(app, iPhone(hexToken("cd", i))), crier.OutcomeAccepted, "") })
	}
	wg.Wait()
	if n := w.apns.Connections(); n != 2 {
		t.Errorf("%d connections, want one for each credential", n)
	}
}

// The credential's own fault pauses it, not the app's other credentials, and one device alone never does.
func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.fcm.Credential())
	w.put(t, w.keys[0])
	paused := func(want string) {
		t.Helper()
		if got := w.metrics(); !strings.Contains(got, `crier_vendor_paused{vendor="fcm"} `+want) || !strings.Contains(got, `crier_vendor_paused{vendor="apns"} 0`) {
			t.Error(got)
		}
	}
	refused := func(i int) crier.Device { return android(fmt.Sprintf("SENDER_ID_MISMATCH:%d", i)) }
	for range 40 {
		is(t, w.push(w.app, refused(0)), crier.OutcomeConfiguration, "SENDER_ID_MISMATCH")
	}
	for i := range 19 {
		is(t, w.push(w.app, refused(i)), crier.OutcomeConfiguration, "SENDER_ID_MISMATCH")
	}
	is(t, w.push(w.app, android("good")), crier.OutcomeAccepted, "") // begins anew
	for i := range 20 {
		is(t, w.push(w.app, refused(i)), crier.OutcomeConfiguration, "SENDER_ID_MISMATCH")
	}
	for i, seconds := range []time.Duration{30, 60, 120, 240, 300, 300} {
		paused("1")
		w.advance(seconds*time.Second - time.Millisecond)
		o := w.push(w.app, android("good"))
		is(t, o, crier.OutcomeConfiguration, "Paused")
		if o.RetryAfter != time.Millisecond || !strings.Contains(o.Info, "SENDER_ID_MISMATCH: ") {
			t.Errorf("%+v", o)
		}
		w.advance(time.Millisecond)
		is(t, w.push(w.app, refused(3)), crier.OutcomeConfiguration, "SENDER_ID_MISMATCH")     // known, says nothing new
		is(t, w.push(w.app, android("UNAVAILABLE:")), crier.OutcomeUnavailable, "UNAVAILABLE") // nor does this
		is(t, w.push(w.app, refused(20+i)), crier.OutcomeConfiguration, "SENDER_ID_MISMATCH")  // this does
	}
	is(t, w.push(w.app, iPhone(hexToken("ab", 1))), crier.OutcomeAccepted, "")
	w.advance(5 * time.Minute)
	is(t, w.push(w.app, android("good")), crier.OutcomeAccepted, "")
	paused("0")
	text := w.log.String()
	if n := strings.Count(text, "level=ERROR"); n != 1 || strings.Count(text, "takes notifications again") != 1 {
		t.Errorf("%d errors in\n%s", n, text)
	}
}

// A broadcast with a credential that has never worked asks the vendor few times: those are under way when the pause begins.
func TestNewCredentialIsTriedWithFew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{Latency: 20 * time.Millisecond}, vendors.Options{})
	w.put(t, w.keys[0])
	broadcast := func(prefix string) map[string]int {
		reasons := make(map[string]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				o := w.push(w.app, iPhone(hexToken(prefix, i)))
				mu.Lock()
				defer mu.Unlock()
				reasons[o.Reason]++
			})
		}
		wg.Wait()
		return reasons
	}
	w.apns.SetFault(apnssim.Fault{Reason: "InvalidProviderToken"})
	if n := broadcast("ab"); n["InvalidProviderToken"] < 20 || n["InvalidProviderToken"] > 39 || n["InvalidProviderToken"]+n["Paused"] != 500 {
		t.Errorf("%v", n)
	}
	w.apns.SetFault()
	w.put(t, w.keys[1])
	if n := broadcast("cd"); n[""] != 500 {
		t.Errorf("%v", n)
	}
}

// After a pause one push tries; the others wait for it.
func TestOneTriesAfterAPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.fcm.Credential())
	for i := range 20 {
		w.push(w.app, android(fmt.Sprintf("SENDER_ID_MISMATCH:%d", i)))
	}
	w.advance(time.Minute)
	w.fcm.Fail("slow", &vendorsim.Fault{Status: 403, Code: "SENDER_ID_MISMATCH", Wait: 500 * time.Millisecond})
	var wg sync.WaitGroup
	reasons := make(map[string]int)
	var mu sync.Mutex
	for i := range 50 {
		wg.Go(func() {
			o := w.push(w.app, android(fmt.Sprintf("slow%d", i)))
			mu.Lock()
			defer mu.Unlock()
			reasons[o.Reason]++
		})
	}
	wg.Wait()
	if reasons["SENDER_ID_MISMATCH"] != 1 || reasons["Paused"] != 49 {
		t.Errorf("%v", reasons)
	}
}

// A credential of the wrong environment does not remove the devices of the app.
func TestWrongEnvironmentKeepsDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.keys[0])
	w.apns.SetFault(apnssim.Fault{Reason: "BadDeviceToken"})
	for i := range 20 {
		o := w.push(w.app, iPhone(hexToken("ab", i)))
		is(t, o, crier.OutcomeConfiguration, "BadDeviceToken")
		if !strings.Contains(o.Info, "environment") {
			t.Error(o.Info)
		}
	}
	is(t, w.push(w.app, iPhone(hexToken("ab", 20))), crier.OutcomeConfiguration, "Paused")
	w.apns.SetFault()
	w.advance(time.Minute)
	is(t, w.push(w.app, iPhone(hexToken("ab", 0))), crier.OutcomeAccepted, "")
	is(t, w.push(w.app, iPhone(hexToken("badd", 0))), crier.OutcomeGone, "BadDeviceToken") // the credential has worked
	is(t, w.push(w.app, iPhone(hexToken("dead", 0))), crier.OutcomeGone, "Unregistered")
	gone := 0
	for i := range 20 {
		if o := w.push(w.app, iPhone(hexToken("badd", i))); o.Class == crier.OutcomeGone {
			gone++
		}
	}
	if gone != 5 {
		t.Errorf("%d devices in a row are gone", gone)
	}
}

// A token of another app is the device's fault where the credential works for others, and the credential's where it works for none or
// few: only then does it help to wait.
func TestTokenOfAnotherApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.keys[0])
	w.apns.SetFault(apnssim.Fault{Token: "ee", Reason: "DeviceTokenNotForTopic"}, apnssim.Fault{Token: "ff", Reason: "Forbidden"})
	push := func(prefix string, i int, reason string, deviceOnly bool) {
		t.Helper()
		o := w.push(w.app, iPhone(hexToken(prefix, i)))
		is(t, o, crier.OutcomeConfiguration, reason)
		if o.DeviceOnly != deviceOnly {
			t.Errorf("device %d of %s: %+v", i, prefix, o)
		}
	}
	push("ee", 0, "DeviceTokenNotForTopic", false) // who knows
	is(t, w.push(w.app, iPhone(hexToken("ab", 0))), crier.OutcomeAccepted, "")
	for i := range 19 {
		push("ee", i, "DeviceTokenNotForTopic", i < 5)
	}
	is(t, w.push(w.app, iPhone(hexToken("ab", 0))), crier.OutcomeAccepted, "")
	push("ff", 0, "Forbidden", false) // says nothing of a device
}

// Anyone can run a push service: one that refuses all does not keep pushes from the others.
func TestPushServicesStandForThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.web.Credential())
	other, err := vendorsim.StartWebPush(vendorsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for i := range 20 {
		is(t, w.push(w.app, browser(t, other, fmt.Sprintf("b%d", i))), crier.OutcomeConfiguration, "Forbidden")
	}
	is(t, w.push(w.app, browser(t, other, "b0")), crier.OutcomeConfiguration, "Paused")
	is(t, w.push(w.app, browser(t, w.web, "b0")), crier.OutcomeAccepted, "")
	is(t, w.push(w.app, browser(t, other, "b0")), crier.OutcomeConfiguration, "Paused")
}

func TestCredentialThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.fcm.Credential())
	moved := *w.app
	moved.ID = 2
	o := w.push(&moved, android("phone"))
	is(t, o, crier.OutcomeConfiguration, "BadCredential")
	if !strings.Contains(o.Info, "another key") {
		t.Error(o.Info)
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{Concurrency: 1})
	w.put(t, w.fcm.Credential())
	w.fcm.Fail("slow", &vendorsim.Fault{Status: 503, Wait: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if o := w.pushIn(ctx, w.app, android("slow")); o.Class != crier.OutcomeUnavailable {
				t.Errorf("%+v", o)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); w.fcm.Given() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	is(t, w.pushIn(short, w.app, android("phone")), crier.OutcomeUnavailable, "Busy")
	cancel()
	wg.Wait()
	is(t, w.push(w.app, android("phone")), crier.OutcomeAccepted, "")
}

func TestCloseEndsSends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{})
	w.put(t, w.fcm.Credential())
	w.fcm.Fail("slow", &vendorsim.Fault{Status: 503, Wait: time.Minute})
	ended := make(chan crier.Outcome, 1)
	go func() { ended <- w.push(w.app, android("slow")) }()
	for deadline := time.Now().Add(10 * time.Second); w.fcm.Given() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	w.Close()
	if o := <-ended; o.Class != crier.OutcomeUnavailable {
		t.Errorf("%+v", o)
	}
	is(t, w.push(w.app, android("phone")), crier.OutcomeUnavailable, "Closed")
	w.Close()
}

// A sender that nobody uses gives its connections up, and is made again.
func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apnssim.Options{}, vendors.Options{Idle: 40 * time.Millisecond})
	w.put(t, w.keys[0])
	is(t, w.push(w.app, iPhone(hexToken("ab", 1))), crier.OutcomeAccepted, "")
	for deadline := time.Now().Add(10 * time.Second); w.apns.Connections() == 1 && time.Now().Before(deadline); {
		w.advance(time.Second)
		time.Sleep(20 * time.Millisecond)
		is(t, w.push(w.app, iPhone(hexToken("ab", 1))), crier.OutcomeAccepted, "")
	}
	if n := w.apns.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// The table of docs/vendors.md is that of the code. To write it anew, copy what the test prints.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/vendors.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := vendors.Outcomes(); !strings.Contains(string(text), table) {
		t.Errorf("docs/vendors.md does not have:\n%s", table)
	}
}
