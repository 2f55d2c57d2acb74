package fcm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vendorsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const device = "fMEPushToken:APA91b-_x"

func startSim(t *testing.T) *vendorsim.FCM {
	t.Helper()
	sim, err := vendorsim.StartFCM(vendorsim.Options{State: simState()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	return sim
}

func newSender(t *testing.T, sim *vendorsim.FCM, change ...func(*Options)) *Sender {
	t.Helper()
	o := Options{Endpoint: sim.URL(), TokenURL: sim.TokenURL()}
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

func text(s string) []crier.Element {
	content, _ := json.Marshal(map[string]string{"Text": s})
	return []crier.Element{{Type: crier.TextElement, Content: content}}
}

func push(token string) *crier.DevicePush {
	return &crier.DevicePush{
		App: 1, Task: "1_2_3_4", Device: &crier.Device{Vendor: crier.FCM, Token: token, Target: vendorsim.Project},
		Message: &crier.Message{Elements: text("hello"), Offline: crier.OfflinePush{Title: "title", Ext: `{"a":1}`}},
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	now := time.Now()
	s := newSender(t, sim, func(o *Options) { o.Now = func() time.Time { return now } })
	p := push(device)
	p.Expires = now.Add(time.Minute)
	p.Device.Language = "zh-Hans-CN"
	p.Message.Offline.Raw = json.RawMessage(`{"MultiLanguageContent":[{"Language":"zh-Hans","Title":"标题","Desc":"你好 <b>"}],
		"AndroidInfo":{"Sound":"ding","GoogleImage":"https://example.com/i.png","GooglePriority":"normal","GoogleChannelID":"news"}}`)
	o := s.Send(t.Context(), p)
	got := sim.Messages()
	if o.Class != crier.OutcomeAccepted || len(got) != 1 || o.ID != got[0].ID {
		t.Fatalf("%+v, %+v", o, got)
	}
	m := got[0]
	m.ID, m.At, m.Size = "", time.Time{}, 0
	key := m.Tag
	want := vendorsim.FCMMessage{
		Token: device, Title: "标题", Body: "你好 <b>", Image: "https://example.com/i.png", Data: map[string]string{"ext": `{"a":1}`, "task": "1_2_3_4"},
		Priority: "normal", TTL: "60s", CollapseKey: key, ChannelID: "news", Sound: "ding", Tag: key,
	}
	if fmt.Sprintf("%+v", m) != fmt.Sprintf("%+v", want) || len(key) != 32 {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
}

// A push without OfflinePushInfo tries once and is urgent.
func TestSendPlain(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	p := push(device)
	p.Message.Offline = crier.OfflinePush{}
	if o := newSender(t, sim).Send(t.Context(), p); o.Class != crier.OutcomeAccepted {
		t.Fatalf("%+v", o)
	}
	if m := sim.Messages()[0]; m.TTL != "0s" || m.Priority != "high" || m.Title != "" || m.Body != "hello" || len(m.Data) != 1 {
		t.Errorf("%+v", m)
	}
}

func TestRepeatReplaces(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	other := push(device)
	other.Task = "1_2_3_5"
	for _, p := range []*crier.DevicePush{push(device), other, push(device)} {
		if o := s.Send(t.Context(), p); o.Class != crier.OutcomeAccepted {
			t.Fatalf("%+v", o)
		}
	}
	shown := sim.Shown(device)
	if len(sim.Messages()) != 3 || len(shown) != 2 || shown[0].ID != sim.Messages()[2].ID {
		t.Errorf("%+v", shown)
	}
	if sim.Given() != 1 {
		t.Errorf("%d access tokens for three pushes", sim.Given())
	}
}

func TestLongTextIsCut(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	p := push(device)
	p.Message.Elements = text(strings.Repeat("长", 3000))
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeAccepted {
		t.Fatalf("%+v", o)
	}
	m := sim.Messages()[0]
	if m.Size > messageMost || m.Size < messageMost-3 || !strings.HasSuffix(m.Body, "长...") || m.Title != "title" {
		t.Errorf("%d bytes, %q", m.Size, m.Body[len(m.Body)-9:])
	}
	p.Message.Offline.Ext = strings.Repeat("x", 5000)
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeRejected || o.Reason != reasonTooLarge {
		t.Errorf("%+v", o)
	}
	p.Message = &crier.Message{Elements: []crier.Element{{Type: crier.CustomElement, Content: json.RawMessage(`{"Data":"x"}`)}}}
	if o := s.Send(t.Context(), p); o.Class != crier.OutcomeRejected || o.Reason != reasonNoText {
		t.Errorf("%+v", o)
	}
	if len(sim.Messages()) != 1 {
		t.Error("what can't be shown was sent")
	}
}

// Every documented code, and every status without one.
func TestFailures(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	for status, fault := range map[string]vendorsim.Fault{
		"field":     {Status: 400, Code: "INVALID_ARGUMENT", Field: "message.token", Message: "Invalid registration token"},
		"other":     {Status: 400, Code: "INVALID_ARGUMENT", Field: "message.token.x", Message: badToken},
		"400":       {Status: 400, Body: "no JSON"},
		"401":       {Status: 401, Body: "{}"},
		"403":       {Status: 403},
		"404":       {Status: 404, Message: "Requested entity was not found."},
		"408":       {Status: 408},
		"413":       {Status: 413, Body: "<html>"},
		"418":       {Status: 418, Message: "no coffee for 418:tok"},
		"429":       {Status: 429},
		"429-date":  {Status: 429, RetryAfter: time.Now().Add(time.Minute / 2).UTC().Format(http.TimeFormat)},
		"500":       {Status: 500},
		"502":       {Status: 502, Body: "<html>", RetryAfter: "5"},
		"302":       {Status: 302},
		"new":       {Status: 500, Code: "A_NEW_CODE"},
		"200":       {Status: 200, Body: "welcome to our hotel"},
		"204":       {Status: 204},
		"cut":       {},
		"404-again": {Status: 404, Code: "UNREGISTERED", RetryAfter: "9"},
	} {
		sim.Fail(status+":", &fault)
	}
	for token, want := range map[string]crier.Outcome{
		"UNSPECIFIED_ERROR:":      {Class: crier.OutcomeUnknown},
		"INVALID_ARGUMENT:":       {Class: crier.OutcomeRejected},
		"UNREGISTERED:":           {Class: crier.OutcomeGone},
		"SENDER_ID_MISMATCH:":     {Class: crier.OutcomeConfiguration},
		"QUOTA_EXCEEDED:":         {Class: crier.OutcomeThrottled, RetryAfter: 30 * time.Second},
		"UNAVAILABLE:":            {Class: crier.OutcomeUnavailable, RetryAfter: 10 * time.Second},
		"INTERNAL:":               {Class: crier.OutcomeUnavailable},
		"THIRD_PARTY_AUTH_ERROR:": {Class: crier.OutcomeConfiguration},
		"UNAUTHENTICATED:":        {Class: crier.OutcomeConfiguration},
		"PERMISSION_DENIED:":      {Class: crier.OutcomeConfiguration},
		"NOT_FOUND:":              {Class: crier.OutcomeConfiguration},
		"INVALID_TOKEN:":          {Class: crier.OutcomeGone},
		"field:":                  {Class: crier.OutcomeGone, Reason: reasonInvalidToken},
		"other:":                  {Class: crier.OutcomeRejected, Reason: "INVALID_ARGUMENT"},
		"400:":                    {Class: crier.OutcomeRejected, Reason: "INVALID_ARGUMENT"},
		"401:":                    {Class: crier.OutcomeConfiguration, Reason: "UNAUTHENTICATED"},
		"403:":                    {Class: crier.OutcomeConfiguration, Reason: "PERMISSION_DENIED"},
		"404:":                    {Class: crier.OutcomeConfiguration, Reason: "NOT_FOUND"}, // not the device's end
		"408:":                    {Class: crier.OutcomeUnavailable, Reason: "UNAVAILABLE"},
		"413:":                    {Class: crier.OutcomeRejected, Reason: reasonTooLarge},
		"418:tok":                 {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"429:":                    {Class: crier.OutcomeThrottled, Reason: "QUOTA_EXCEEDED", RetryAfter: time.Minute},
		"500:":                    {Class: crier.OutcomeUnavailable, Reason: "INTERNAL"},
		"502:":                    {Class: crier.OutcomeUnavailable, Reason: "UNAVAILABLE", RetryAfter: 5 * time.Second},
		"302:":                    {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"new:":                    {Class: crier.OutcomeUnavailable, Reason: "INTERNAL"},
		"200:":                    {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"204:":                    {Class: crier.OutcomeUnknown, Reason: reasonUnexpected},
		"cut:":                    {Class: crier.OutcomeUnavailable, Reason: reasonNetwork},
		"404-again:":              {Class: crier.OutcomeGone, Reason: "UNREGISTERED"},
		"":                        {Class: crier.OutcomeGone, Reason: reasonInvalidToken},
		"a b":                     {Class: crier.OutcomeGone, Reason: reasonInvalidToken},
	} {
		if want.Reason == "" {
			want.Reason = strings.TrimSuffix(token, ":")
		}
		got := s.Send(t.Context(), push(token))
		info := got.Info
		got.Info = ""
		if got != want || info == "" || strings.Contains(info, "418:tok") {
			t.Errorf("%s: %+v, %q", token, got, info)
		}
	}
	if o := s.Send(t.Context(), push("429-date:")); o.RetryAfter < 20*time.Second || o.RetryAfter > 31*time.Second {
		t.Errorf("%+v", o)
	}
	if len(sim.Messages()) != 0 {
		t.Error("a failed push arrived")
	}
}

func TestOAuthFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault vendorsim.Fault
		want  crier.Outcome
	}{
		"deleted key": {vendorsim.Fault{Status: 400, Code: "invalid_grant", Message: "Invalid JWT Signature."}, crier.Outcome{Class: crier.OutcomeConfiguration, Reason: reasonOAuthGrant}},
		"no client":   {vendorsim.Fault{Status: 401, Code: "invalid_client"}, crier.Outcome{Class: crier.OutcomeConfiguration, Reason: reasonOAuthRefused}},
		"no JSON":     {vendorsim.Fault{Status: 403, Body: "<html>"}, crier.Outcome{Class: crier.OutcomeConfiguration, Reason: reasonOAuthRefused}},
		"throttled":   {vendorsim.Fault{Status: 429, RetryAfter: "20"}, crier.Outcome{Class: crier.OutcomeThrottled, Reason: reasonOAuthThrottled, RetryAfter: 20 * time.Second}},
		"down":        {vendorsim.Fault{Status: 503, RetryAfter: "3"}, crier.Outcome{Class: crier.OutcomeUnavailable, Reason: reasonOAuthUnavailable, RetryAfter: 3 * time.Second}},
		"timeout":     {vendorsim.Fault{Status: 408}, crier.Outcome{Class: crier.OutcomeUnavailable, Reason: reasonOAuthUnavailable}},
		"redirect":    {vendorsim.Fault{Status: 302}, crier.Outcome{Class: crier.OutcomeUnavailable, Reason: reasonOAuthUnavailable}},
		"empty":       {vendorsim.Fault{Status: 200, Body: "{}"}, crier.Outcome{Class: crier.OutcomeUnavailable, Reason: reasonOAuthUnavailable}},
		"hotel":       {vendorsim.Fault{Status: 200, Body: "welcome"}, crier.Outcome{Class: crier.OutcomeUnavailable, Reason: reasonOAuthUnavailable}},
		"cut":         {vendorsim.Fault{}, crier.Outcome{Class: crier.OutcomeUnavailable, Reason: reasonOAuthUnavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := startSim(t)
			sim.FailToken(&c.fault)
			var log bytes.Buffer
			s := newSender(t, sim, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			for range 3 {
				got := s.Send(t.Context(), push(device))
				info := got.Info
				got.Info = ""
				if got != c.want || info == "" || strings.Contains(info, "assertion") {
					t.Errorf("%+v, %q", got, info)
				}
			}
			_ = s.Close() // the log is written by then
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Errorf("%d lines:\n%s", lines, log.String())
			}
		})
	}
}

// While Google gives no access token, it is asked once a second at most, and then pushes go on.
func TestOAuthRecovers(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	now := time.Now()
	s := newSender(t, sim, func(o *Options) { o.Now = func() time.Time { return now } })
	sim.FailToken(&vendorsim.Fault{Status: 503})
	if o := s.Send(t.Context(), push(device)); o.Reason != reasonOAuthUnavailable {
		t.Fatalf("%+v", o)
	}
	sim.FailToken(nil)
	if o := s.Send(t.Context(), push(device)); o.Reason != reasonOAuthUnavailable || sim.Given() != 0 {
		t.Fatalf("%+v", o)
	}
	now = now.Add(2 * refusedPause)
	if o := s.Send(t.Context(), push(device)); o.Class != crier.OutcomeAccepted || sim.Given() != 1 {
		t.Fatalf("%+v", o)
	}
}

// A wrong key is refused by the simulator, as by Google.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	other, err := vendorsim.StartFCM(vendorsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s, err := New(other.Credential(), Options{Endpoint: sim.URL(), TokenURL: sim.TokenURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if o := s.Send(t.Context(), push(device)); o.Reason != reasonOAuthGrant {
		t.Errorf("%+v", o)
	}
}

// An access token that FCM refuses before its time is renewed, and the push goes through.
func TestRevokedAccess(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	for range 2 {
		if o := s.Send(t.Context(), push(device)); o.Class != crier.OutcomeAccepted {
			t.Fatalf("%+v", o)
		}
		sim.Revoke()
	}
	if sim.Given() != 2 {
		t.Errorf("%d access tokens", sim.Given())
	}
}

// An access token is renewed before it ends, by one request, while pushes go on with the old one.
func TestAccessIsRenewed(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	now := time.Now()
	s := newSender(t, sim, func(o *Options) { o.Now = func() time.Time { return now } })
	for _, step := range []struct {
		pass  time.Duration
		given int
	}{{0, 1}, {54 * time.Minute, 1}, {2 * time.Minute, 2}, {2 * time.Minute, 2}, {2 * time.Hour, 3}} {
		now = now.Add(step.pass)
		if o := s.Send(t.Context(), push(device)); o.Class != crier.OutcomeAccepted {
			t.Fatalf("%v: %+v", step, o)
		}
		s.access.running.Wait()
		if sim.Given() != step.given {
			t.Errorf("%v: %d", step, sim.Given())
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	const many = 64
	outcomes := make(chan crier.Outcome, many)
	for i := range many {
		go func() { outcomes <- s.Send(t.Context(), push(fmt.Sprint(device, i))) }()
	}
	for range many {
		if o := <-outcomes; o.Class != crier.OutcomeAccepted {
			t.Errorf("%+v", o)
		}
	}
	if sim.Given() != 1 || len(sim.Messages()) != many {
		t.Errorf("%d access tokens, %d messages", sim.Given(), len(sim.Messages()))
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	sim.Fail("slow", &vendorsim.Fault{Status: 500, Wait: time.Minute})
	s := newSender(t, sim)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if o := s.Send(ctx, push("slow:1")); o.Class != crier.OutcomeUnavailable || o.Reason != reasonTimeout {
		t.Errorf("%+v", o)
	}
	quick := newSender(t, sim, func(o *Options) { o.Timeout = 200 * time.Millisecond })
	if o := quick.Send(t.Context(), push("slow:2")); o.Reason != reasonTimeout {
		t.Errorf("%+v", o)
	}
	sim.FailToken(&vendorsim.Fault{Status: 500, Wait: time.Minute})
	late := newSender(t, sim)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if o := late.Send(ctx, push(device)); o.Reason != reasonTimeout {
		t.Errorf("%+v", o)
	}
}

// Close ends what is under way, a request for an access token too; later sends fail.
func TestClose(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	sim.FailToken(&vendorsim.Fault{Status: 500, Wait: time.Minute})
	outcome := make(chan crier.Outcome)
	go func() { outcome <- s.Send(t.Context(), push(device)) }()
	for {
		s.access.mu.Lock()
		asking := s.access.asking != nil
		s.access.mu.Unlock()
		if asking {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if o := <-outcome; o.Reason != reasonClosed {
		t.Errorf("%+v", o)
	}
	if o := s.Send(t.Context(), push(device)); o.Class != crier.OutcomeUnavailable || o.Reason != reasonClosed {
		t.Errorf("%+v", o)
	}
}

func TestNetworkFailure(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	s := newSender(t, sim)
	if o := s.Send(t.Context(), push(device)); o.Class != crier.OutcomeAccepted {
		t.Fatalf("%+v", o)
	}
	_ = sim.Close()
	if o := s.Send(t.Context(), push(device)); o.Class != crier.OutcomeUnavailable || o.Reason != reasonNetwork {
		t.Errorf("%+v", o)
	}
}
