package webpush

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vendorsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startSim(t testing.TB) *vendorsim.WebPush {
	t.Helper()
	sim, err := vendorsim.StartWebPush(vendorsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	return sim
}

func newSender(t testing.TB, sim *vendorsim.WebPush, change ...func(*Options)) *Sender {
	t.Helper()
	o := Options{AllowHTTP: true, AllowPrivate: true}
	for _, c := range change {
		c(&o)
	}
	s, err := New(sim.Credential(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func subscribe(t testing.TB, sim *vendorsim.WebPush, id string) string {
	t.Helper()
	token, err := sim.Subscribe(id)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func text(s string) []crier.Element {
	content, _ := json.Marshal(map[string]string{"Text": s})
	return []crier.Element{{Type: crier.TextElement, Content: content}}
}

func push(token string) *crier.DevicePush {
	return &crier.DevicePush{
		App: 1, Task: "1_2_3_4", Device: &crier.Device{Vendor: crier.WebPush, Token: token},
		Message: &crier.Message{Elements: text("hello <b>"), Offline: crier.OfflinePush{Title: "title", Ext: `{"a":1}`}},
	}
}

func read1(t *testing.T, m vendorsim.WebPushMessage) (p payload) {
	t.Helper()
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSend(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	now := time.Now()
	s := newSender(t, sim, func(o *Options) { o.Now = func() time.Time { return now } })
	p := push(subscribe(t, sim, "phone"))
	badge := 3
	p.Badge, p.Expires, p.Device.Language = &badge, now.Add(time.Minute), "de"
	p.Message.Offline.Raw = json.RawMessage(`{"AndroidInfo":{"GooglePriority":"normal"},"MultiLanguageContent":[{"Language":"de","Title":"Titel","Desc":"Größe"}]}`)
	o := s.Send(t.Context(), p)
	got := sim.Messages()
	if o.Class != crier.OutcomeAccepted || len(got) != 1 || o.ID != got[0].ID {
		t.Fatalf("%+v, %+v", o, got)
	}
	m := got[0]
	want := fmt.Sprintf(`{"title":"Titel","body":"Größe","ext":"{\"a\":1}","task":"1_2_3_4","tag":%q,"badge":3}`, m.Topic)
	if string(m.Payload) != want || len(m.Topic) != 32 || m.TTL != 60 || m.Urgency != "normal" || m.Size != paddingStep {
		t.Errorf("%+v\n%s", m, m.Payload)
	}
	p = push(p.Device.Token)
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeAccepted {
		t.Fatalf("%+v", o)
	}
	if m := sim.Messages()[1]; m.TTL != 0 || m.Urgency != "high" || read1(t, m).Body != "hello <b>" {
		t.Errorf("%+v", m)
	}
}

func TestRepeatReplaces(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	token := subscribe(t, sim, "phone")
	other := push(token)
	other.Task = "1_2_3_5"
	for _, p := range []*crier.DevicePush{push(token), other, push(token), push(subscribe(t, sim, "tablet"))} {
		if o := s.Send(t.Context(), p); o.Class != crier.OutcomeAccepted {
			t.Fatalf("%+v", o)
		}
	}
	pending := sim.Pending("phone")
	if len(sim.Messages()) != 4 || len(pending) != 2 || pending[0].ID != sim.Messages()[2].ID {
		t.Errorf("%+v", pending)
	}
}

func TestLongTextIsCut(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	p := push(subscribe(t, sim, "phone"))
	p.Message.Elements = text(strings.Repeat("长", 3000))
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeAccepted {
		t.Fatalf("%+v", o)
	}
	m := sim.Messages()[0]
	got := read1(t, m)
	if m.Size != 4096 || len(m.Payload) > payloadMost || len(m.Payload) < payloadMost-3 || !strings.HasSuffix(got.Body, "长...") || got.Title != "title" {
		t.Errorf("%d bytes, payload %d", m.Size, len(m.Payload))
	}
	p.Message.Offline.Ext = strings.Repeat("x", 5000)
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeRejected || o.Reason != reasonTooLarge {
		t.Errorf("%+v", o)
	}
	p.Message = &crier.Message{}
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeRejected || o.Reason != reasonNoText {
		t.Errorf("%+v", o)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	sim.Fail("apple", &vendorsim.Fault{Status: 403, Message: `{"reason":"BadJwtToken"}`})
	sim.Fail("evil", &vendorsim.Fault{Status: 403, Message: `{"reason":"call 0900 now"}`, RetryAfter: "9"})
	sim.Fail("cut", &vendorsim.Fault{})
	sim.Fail("503-wait", &vendorsim.Fault{Status: 503, RetryAfter: "99999"})
	sim.Fail("large", &vendorsim.Fault{Status: 418, Message: strings.Repeat("x", 1<<20)})
	subscribe(t, sim, "ended")
	sim.Unsubscribe("ended")
	for id, want := range map[string]crier.Outcome{
		"200-": {Class: crier.OutcomeAccepted}, "201-": {Class: crier.OutcomeAccepted}, "202-": {Class: crier.OutcomeAccepted},
		"301-":     {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"400-":     {Class: crier.OutcomeConfiguration, Reason: reasonBadRequest},
		"401-":     {Class: crier.OutcomeConfiguration, Reason: reasonUnauthorized},
		"403-":     {Class: crier.OutcomeConfiguration, Reason: reasonForbidden},
		"404-":     {Class: crier.OutcomeGone, Reason: reasonNotFound},
		"408-":     {Class: crier.OutcomeUnavailable, Reason: reasonServerError},
		"410-":     {Class: crier.OutcomeGone, Reason: reasonGone},
		"413-":     {Class: crier.OutcomeRejected, Reason: reasonTooLarge},
		"418-":     {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"429-":     {Class: crier.OutcomeThrottled, Reason: reasonTooMany, RetryAfter: 30 * time.Second},
		"500-":     {Class: crier.OutcomeUnavailable, Reason: reasonServerError},
		"599-":     {Class: crier.OutcomeUnavailable, Reason: reasonServerError},
		"503-wait": {Class: crier.OutcomeUnavailable, Reason: reasonServerError, RetryAfter: time.Hour},
		"apple":    {Class: crier.OutcomeConfiguration, Reason: reasonForbidden},
		"evil":     {Class: crier.OutcomeConfiguration, Reason: reasonForbidden},
		"cut":      {Class: crier.OutcomeUnavailable, Reason: reasonNetwork},
		"large":    {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"ended":    {Class: crier.OutcomeGone, Reason: reasonGone},
	} {
		got := s.Send(t.Context(), push(subscribe(t, sim, id)))
		info := got.Info
		got.Info = ""
		if got != want || (info == "") != (want.Class == crier.OutcomeAccepted) || strings.Contains(info, "0900") || strings.Contains(info, "/push/") {
			t.Errorf("%s: %+v, %q", id, got, info)
		}
		if id == "apple" && !strings.Contains(info, "(BadJwtToken)") {
			t.Errorf("%q", info)
		}
	}
	unknown := strings.Replace(subscribe(t, sim, "someone"), "/push/someone", "/push/no-one", 1)
	if o := s.Send(t.Context(), push(unknown)); o.Class != crier.OutcomeGone || o.Reason != reasonNotFound {
		t.Errorf("%+v", o)
	}
	if o := s.Send(t.Context(), push("{}")); o.Class != crier.OutcomeGone || o.Reason != reasonBadSubscription {
		t.Errorf("%+v", o)
	}
	if len(sim.Messages()) != 0 {
		t.Error("a failed push arrived")
	}
}

// A subscription is bound to the key that it was made with.
func TestOtherKey(t *testing.T) {
	t.Parallel()
	sim, other := startSim(t), startSim(t)
	s := newSender(t, other)
	if o := s.Send(t.Context(), push(subscribe(t, sim, "phone"))); o.Class != crier.OutcomeConfiguration || o.Reason != reasonForbidden {
		t.Errorf("%+v", o)
	}
}

// A subject that is a URL, and one that is an address, arrive as they are.
func TestSubjects(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	for _, subject := range []string{"mailto:a@example.com", "https://example.com/contact"} {
		c := sim.Credential()
		c.Params["subject"] = subject
		s, err := New(c, Options{AllowHTTP: true, AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if o := s.Send(t.Context(), push(subscribe(t, sim, "phone"))); o.Class != crier.OutcomeAccepted {
			t.Errorf("%s: %+v", subject, o)
		}
	}
}

// The token's aud is the origin, in lower case.
func TestOrigin(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(sim.URL(), "http://"))
	token := strings.Replace(subscribe(t, sim, "phone"), sim.URL(), "http://LocalHost:"+port, 1)
	if o := newSender(t, sim).Send(t.Context(), push(token)); o.Class != crier.OutcomeAccepted {
		t.Errorf("%+v", o)
	}
}

// Nothing is sent inside: neither to an address, nor to a name that leads to one.
func TestInternalAddresses(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim, func(o *Options) { o.AllowPrivate = false })
	token := subscribe(t, sim, "phone")
	if o := s.Send(t.Context(), push(token)); o.Reason != reasonBadSubscription {
		t.Errorf("%+v", o)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(sim.URL(), "http://"))
	conn, err := s.client.Transport.(*http.Transport).DialContext(t.Context(), "tcp", "localhost:"+port)
	if err == nil {
		conn.Close()
		t.Fatal("a connection was made")
	}
	if o := s.interrupted(err); o.Class != crier.OutcomeUnavailable || o.Reason != reasonInternal {
		t.Errorf("%v: %+v", err, o)
	}
}

// HTTPS is checked against the roots, and redirects are not followed.
func TestTLS(t *testing.T) {
	t.Parallel()
	asked := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		_, _ = io.Copy(io.Discard, r.Body)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake fails on purpose
	server.StartTLS()
	defer server.Close()
	sim := startSim(t)
	token := strings.Replace(subscribe(t, sim, "phone"), sim.URL(), server.URL, 1)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	trusting := newSender(t, sim, func(o *Options) { o.RootCAs, o.AllowHTTP = roots, false })
	if o := trusting.Send(t.Context(), push(token)); o.Reason != reasonUnexpected || asked != 1 {
		t.Errorf("%+v, asked %d times", o, asked)
	}
	if o := newSender(t, sim).Send(t.Context(), push(token)); o.Reason != reasonNetwork || asked != 1 {
		t.Errorf("%+v, asked %d times", o, asked)
	}
}

func TestDeadlinesAndClose(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	sim.Fail("slow", &vendorsim.Fault{Status: 500, Wait: time.Minute})
	s := newSender(t, sim)
	p := push(subscribe(t, sim, "slow"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if o := s.Send(ctx, p); o.Class != crier.OutcomeUnavailable || o.Reason != reasonTimeout {
		t.Errorf("%+v", o)
	}
	quick := newSender(t, sim, func(o *Options) { o.Timeout = 200 * time.Millisecond })
	if o := quick.Send(t.Context(), p); o.Reason != reasonTimeout {
		t.Errorf("%+v", o)
	}
	outcome := make(chan crier.Outcome)
	go func() { outcome <- s.Send(t.Context(), p) }()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if o := <-outcome; o.Reason != reasonClosed {
		t.Errorf("%+v", o)
	}
	_ = sim.Close()
	if o := quick.Send(t.Context(), p); o.Class != crier.OutcomeUnavailable || o.Reason != reasonNetwork {
		t.Errorf("%+v", o)
	}
}

// A state that was kept makes the credential and the subscriptions of an earlier run work.
func TestStateOfSimulator(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	token := subscribe(t, sim, "phone")
	again, err := vendorsim.StartWebPush(vendorsim.Options{State: sim.State()})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	token = strings.Replace(token, sim.URL(), again.URL(), 1)
	if o := newSender(t, sim).Send(t.Context(), push(token)); o.Class != crier.OutcomeAccepted {
		t.Errorf("%+v", o)
	}
}

func BenchmarkSend(b *testing.B) {
	sim := startSim(b)
	s := newSender(b, sim)
	p := push(subscribe(b, sim, "phone"))
	b.ReportAllocs()
	for b.Loop() {
		if o := s.Send(b.Context(), p); o.Class != crier.OutcomeAccepted {
			b.Fatalf("%+v", o)
		}
	}
}
