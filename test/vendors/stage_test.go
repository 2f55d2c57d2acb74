package vendors_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
	"github.com/crier-im/crier/vendors/apnssim"
)

const (
	appID      crier.AppID  = 1400000001
	admin      crier.UserID = "administrator"
	bundle                  = "com.example.app"
	audience                = 2000 // devices, each of an account of its own
	registrars              = 64   // connections that register them
)

// request is a line of the simulator's log: a push and how it was answered.
type request struct {
	Token        string
	Status       int
	Reason       string
	Fault        string
	Notification *struct {
		ID         string `json:"id"`
		CollapseID string `json:"collapse_id"`
	}
}

// journal is the simulator's log over all its lives. Safe for concurrent use.
type journal struct {
	mu  sync.Mutex
	all []request
}

func (j *journal) Write(line []byte) (int, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, r)
	return len(line), nil
}

// byToken returns the requests of each device, in their order.
func (j *journal) byToken() map[string][]request {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := make(map[string][]request)
	for _, r := range j.all {
		m[r.Token] = append(m[r.Token], r)
	}
	return m
}

func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.all)
}

// stage is a node, an app, and a simulator that the node takes for APNs.
type stage struct {
	*node
	sim    *apnssim.Server
	how    apnssim.Options
	p8     []byte
	keyID  string
	log    *journal
	skew   atomic.Int64 // of the simulator's clock, in nanoseconds
	client *client.Client
	key    string // of the app
}

// setUp starts a simulator as how says, and a node with the flags; and makes the app with its credential.
func setUp(t *testing.T, how apnssim.Options, flags ...string) *stage {
	t.Helper()
	ca, err := apnssim.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{how: how, log: new(journal), keyID: "ABCDE12345"}
	key, p8, err := apnssim.NewKey(s.keyID, "TEAM123456")
	if err != nil {
		t.Fatal(err)
	}
	s.p8, s.how.CA, s.how.Log, s.how.NoPrefixes, s.how.Listen = p8, ca, s.log, true, freeporttest.Address(t)
	s.how.Keys = append([]apnssim.Key{key}, how.Keys...)
	s.how.Now = func() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }
	s.startSim(t)
	t.Cleanup(func() { _ = s.sim.Close() })
	file := filepath.Join(t.TempDir(), "ca.pem")
	text, _ := ca.PEM()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.node = startNode(t, append([]string{"--vendors-apns-endpoint", s.sim.URL(), "--vendors-ca-file", file}, flags...)...)
	var made struct{ Key string }
	s.must(http.MethodPost, "/v1/apps", map[string]any{
		"id": appID, "limits": map[string]any{"push_interval": 0, "pushes_per_day": 0, "calls_per_second": 0},
	}, &made)
	s.key = made.Key
	if s.client, err = client.New(s.url, appID, admin, client.SecretKey(made.Key)); err != nil {
		t.Fatal(err)
	}
	s.upload(s.keyID, s.p8)
	return s
}

// startSim starts the simulator, each time on the same port with the same authority and keys.
func (s *stage) startSim(t *testing.T) {
	t.Helper()
	var err error
	if s.sim, err = apnssim.Start(s.how); err != nil {
		t.Fatal(err)
	}
}

func app(path string) string { return fmt.Sprintf("/v1/apps/%d/%s", appID, path) }

// upload gives the app a key for the bundle, in the place of the one before.
func (s *stage) upload(keyID string, p8 []byte) {
	s.t.Helper()
	s.must(http.MethodPut, app("credentials"), map[string]any{
		"vendor": "apns", "target": bundle, "form": "p8", "params": map[string]string{"key_id": keyID, "team_id": "TEAM123456"}, "secret": string(p8),
	}, nil)
}

// phone is an account with one device.
type phone struct {
	user  crier.UserID
	token string
}

// phones names accounts; their tokens begin with a prefix of hexadecimal digits.
func phones(prefix string, n int) []phone {
	all := make([]phone, n)
	for i := range all {
		all[i] = phone{crier.UserID(fmt.Sprintf("user-%s-%d", prefix, i)), fmt.Sprintf("%s%0*x", prefix, 64-len(prefix), i)}
	}
	return all
}

// register makes the accounts and registers their devices.
func (s *stage) register(all []phone) {
	s.t.Helper()
	for i := 0; i < len(all); i += 100 {
		var users []crier.UserID
		for _, p := range all[i:min(i+100, len(all))] {
			users = append(users, p.user)
		}
		if err := s.client.Import(s.t.Context(), users...); err != nil {
			s.t.Fatal(err)
		}
	}
	s.registerDevices(all)
}

func (s *stage) registerDevices(all []phone) {
	s.t.Helper()
	var group errgroup.Group
	group.SetLimit(registrars)
	for _, p := range all {
		group.Go(func() error {
			return s.call(http.MethodPost, app("users/"+string(p.user)+"/devices"), map[string]any{
				"vendor": "apns", "token": p.token, "target": bundle, "platform": crier.IPhone,
			}, nil)
		})
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// devices returns how many devices an account has.
func (s *stage) devices(user crier.UserID) int {
	s.t.Helper()
	var answer struct{ Devices []json.RawMessage }
	s.must(http.MethodGet, app("users/"+string(user)+"/devices"), nil, &answer)
	return len(answer.Devices)
}

// push pushes to everybody, for an hour.
func (s *stage) push() crier.TaskID {
	s.t.Helper()
	task, err := s.client.Push(s.t.Context(), client.Push{Text: "The harbour is closed.", LifeTime: time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	return task
}

// funnel returns what became of a push so far, nil while that is not known.
func (s *stage) funnel(task crier.TaskID) *crier.Funnel {
	s.t.Helper()
	var answer struct{ Funnel *crier.Funnel }
	s.must(http.MethodGet, "/v1/tasks/"+string(task), nil, &answer)
	return answer.Funnel
}

// finished waits until vendors have nothing more to do for a push, and checks that its funnel adds up.
func (s *stage) finished(task crier.TaskID, matched int) crier.VendorFunnel {
	s.t.Helper()
	var f *crier.Funnel
	eventually(s.t, fmt.Sprintf("%s is finished", task), func() bool {
		f = s.funnel(task)
		return f != nil && f.Matched == uint64(matched) && f.Vendor.ToDo == 0
	})
	s.addsUp(f)
	return f.Vendor
}

func (s *stage) addsUp(f *crier.Funnel) {
	s.t.Helper()
	v, failed := f.Vendor, uint64(0)
	for _, n := range v.Failed {
		failed += n
	}
	if sum := v.NoDevice + v.Accepted + v.NotNeeded + failed + v.Expired + v.Deleted + v.ToDo; !v.Wanted || sum != f.Matched {
		s.t.Errorf("the funnel does not add up: %d of %d in %+v", sum, f.Matched, v)
	}
	if sum := f.Acknowledged + f.Later + f.Expired + f.Deleted + f.Waiting; !f.Kept || sum != f.Matched {
		s.t.Errorf("the funnel does not add up: %d of %d in %+v", sum, f.Matched, *f)
	}
}

// explain returns what the operator is told of one account.
func (s *stage) explain(task crier.TaskID, user crier.UserID) (e crier.Explanation) {
	s.t.Helper()
	s.must(http.MethodGet, "/v1/tasks/"+string(task)+"/users/"+string(user), nil, &e)
	return e
}

// allTaken checks that APNs has taken a notification for each phone, that every try had the same apns-id and collapse id, and
// that the phone shows one. It returns how many more were taken than were needed.
func (s *stage) allTaken(all []phone) (repeats int) {
	s.t.Helper()
	requests := s.log.byToken()
	shown := make(map[string]int)
	for _, n := range s.sim.Notifications() {
		shown[n.Token]++
	}
	for _, p := range all {
		taken, ids := 0, make(map[string]bool)
		for _, r := range requests[p.token] {
			if r.Status == http.StatusOK {
				taken++
			}
			if r.Notification != nil {
				ids[r.Notification.ID+" "+r.Notification.CollapseID] = true
			}
		}
		if repeats += taken - 1; taken == 0 || len(ids) != 1 || shown[p.token] > 1 {
			s.t.Errorf("%s: taken %d times, names %v, %d shown", p.user, taken, ids, shown[p.token])
		}
	}
	return repeats
}

// printed reports whether the node's log has a text.
func (s *stage) printed(text string) bool { return strings.Contains(s.out.String(), text) }
