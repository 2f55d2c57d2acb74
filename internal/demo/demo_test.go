package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
)

const (
	appID crier.AppID = 1400000001
	token             = "an-operators-token"
)

// serve runs a node with simulators on a directory until use returns.
func serve(t *testing.T, dir string, use func(Config)) {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.HTTP.Listen, cfg.Cluster.Partitions, cfg.Storage.MinFreeDisk, cfg.Operator.Token = dir, "127.0.0.1:0", 4, 1, token
	sims, err := StartSimulators(&cfg.Vendors)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Config, 1), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, cfg, app.Options{
			Logger: slog.New(slog.DiscardHandler), VendorCA: sims.CA(),
			OnReady: func(ctx context.Context, i app.Info) error {
				fresh := &crier.App{ID: appID, Key: crier.NewKey(), Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.Limits{FallbackAfter: 2 * time.Second}}
				a, err := sims.Prepare(ctx, i, fresh)
				if err != nil {
					return err
				}
				c, err := client.New(i.URL, appID, "admin", client.SecretKey(a.Key))
				ready <- Config{Client: c, Operator: operator(i.URL), Page: sims.Page(), FCM: sims.FCM(), Listen: func(user crier.UserID) client.ListenConfig {
					return client.ListenConfig{URL: i.URL, SDKAppID: appID, UserID: user, UserSig: client.SecretKey(a.Key)}
				}}
				return err
			},
		})
	}()
	select {
	case c := <-ready:
		use(c)
	case err := <-ended:
		ended <- err
	}
	cancel()
	if err := errors.Join(<-ended, sims.Close(), sims.Close()); err != nil {
		t.Fatal(err)
	}
}

// operator calls the operator's API of a server.
func operator(url string) Operator {
	return func(ctx context.Context, method, path string, in, out any) error {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s %s: %s, %w", path, resp.Status, text, err)
		}
		return json.Unmarshal(text, out)
	}
}

// The story is right with phones, again after a restart with other keys of the vendors, and without phones.
func TestStory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve(t, dir, func(c Config) {
		play(t, c, "banner on the iPhone, found in the mailbox   ivy   follows stockA; was away, is back")
	})
	serve(t, dir, func(c Config) {
		play(t, c, "live, banner on the Android hua acknowledged nothing for 2s", "found in the mailbox jun was away, and the phone is gone: UNREGISTERED",
			"gus (1", "4, 3 of them unread before; ivy (1", "The server tells the same")
		c.Page = ""
		play(t, c, "Without phones", "found in the mailbox ivy jun kim was away", "The server tells the same")
		c.Operator = nil
		out := play(t, c, "Without phones")
		if strings.Contains(out, "The server tells the same") {
			t.Error("nobody was asked")
		}
	})
}

// play plays the story, which must end well and say the words, however many spaces are between them.
func play(t *testing.T, c Config, words ...string) string {
	t.Helper()
	var out bytes.Buffer
	c.Out = &out
	if err := Run(t.Context(), c); err != nil {
		t.Errorf("%v\n%s", err, out.String())
		return out.String()
	}
	spaces := regexp.MustCompile(` +`)
	text := spaces.ReplaceAllString(out.String(), " ")
	for _, w := range words {
		if w = spaces.ReplaceAllString(w, " "); !strings.Contains(text, w) {
			t.Errorf("%q is not in\n%s", w, out.String())
		}
	}
	return out.String()
}

// A configuration that names a server for a vendor keeps it.
func TestSimulatorsLeaveTheConfigurationAlone(t *testing.T) {
	t.Parallel()
	given := config.Vendors{APNsEndpoint: "https://127.0.0.1:1", FCMTokenURL: "http://127.0.0.1:2"}
	v := given
	sims, err := StartSimulators(&v)
	if err != nil || v != given || sims.CA() != nil || sims.Page() != "" || sims.FCM() != "" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := sims.Close(); err != nil {
		t.Error(err)
	}
}

// The judge finds what is wrong: a message that did not come, one that came to
// the wrong person, one that came twice, and a banner that no phone should show.
func TestJudge(t *testing.T) {
	t.Parallel()
	const task crier.TaskID = "task"
	for name, c := range map[string]struct {
		got     [2]int
		banners int
		wrong   string // "": nothing
	}{
		"missing":           {[2]int{0, 0}, 0, "x, ann: nothing instead of live"},
		"for somebody else": {[2]int{1, 1}, 0, "x, bob: live instead of nothing"},
		"twice":             {[2]int{2, 0}, 0, "x, ann: live 2 times instead of live"},
		"a banner":          {[2]int{1, 0}, 1, "x, ann: live, banner on the iPhone instead of live"},
		"right":             {[2]int{1, 0}, 0, ""},
	} {
		s := &story{cfg: Config{Out: io.Discard}, phones: new(phones)}
		s.cast()
		s.people = s.people[:2]
		ann := s.people[0]
		v := &verdict{screens: map[string]*screen{ann.phone.token: {banners: map[string]int{"hello": c.banners}}}}
		sc := &scene{title: "x", text: "hello", task: task, kept: true, why: func(a *actor) reason { return reason{a == ann, "because", nil} }}
		for i, a := range s.people {
			a.got[task] = c.got[i]
			s.compare(v, a, sc)
		}
		if got := strings.Join(v.wrong, "\n"); got != c.wrong {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What the server says of a person is compared too, and so are the phone's registration and its badge.
func TestJudgeOfTheServer(t *testing.T) {
	t.Parallel()
	right := func() *crier.Explanation {
		return &crier.Explanation{Known: true, Matched: true, Online: true, Because: []string{everyone}, Delivery: crier.DeliveryAcknowledged, Vendor: crier.NotifyNone}
	}
	for what, change := range map[string]func(*crier.Explanation){
		"":                         func(*crier.Explanation) {},
		"known false instead":      func(e *crier.Explanation) { e.Known = false },
		"matched false instead":    func(e *crier.Explanation) { e.Matched = false },
		"online false instead":     func(e *crier.Explanation) { e.Online = false },
		"because [] instead":       func(e *crier.Explanation) { e.Because = nil },
		"delivery waiting instead": func(e *crier.Explanation) { e.Delivery = crier.DeliveryWaiting },
		"vendor done instead":      func(e *crier.Explanation) { e.Vendor = crier.NotifyDone },
		"attempt apns abc accepted instead of nothing tried": func(e *crier.Explanation) {
			e.Attempts = []crier.Attempt{{Vendor: crier.APNs, Device: "abc", Outcome: "accepted"}}
		},
	} {
		e := right()
		change(e)
		s := &story{phones: new(phones), cfg: Config{Operator: func(_ context.Context, _, _ string, _, out any) error {
			*out.(*crier.Explanation) = *e
			return nil
		}}}
		s.cast()
		v := new(verdict)
		sc := &scene{title: "x", kept: true, why: func(*actor) reason { return reason{true, everyone, []string{everyone}} }}
		if err := s.checkExplanation(t.Context(), v, s.people[0], sc); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(v.wrong, "\n"); !strings.Contains(got, what) || (got == "") != (what == "") {
			t.Errorf("%q: %q", what, got)
		}
	}
	c, err := client.New("http://127.0.0.1:1", appID, "admin", client.UserSig(""))
	if err != nil {
		t.Fatal(err)
	}
	s := &story{phones: new(phones), cfg: Config{Client: c, Operator: func(context.Context, string, string, any, any) error { return nil }}}
	s.cast()
	nine, v, ivy := 9, new(verdict), s.find("ivy")
	v.screens = map[string]*screen{ivy.phone.token: {badge: &nine}}
	if err := s.checkPhone(t.Context(), v, ivy); err != nil || len(v.wrong) != 2 {
		t.Errorf("%v, %v", v.wrong, err)
	}
}
