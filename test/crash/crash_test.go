package crash_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/demo/demofile"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
	"github.com/crier-im/crier/internal/process"
	"github.com/crier-im/crier/internal/process/processtest"
)

const (
	kills     = 4
	writers   = 8
	listeners = 4
	patience  = time.Minute
)

// server is the process under test: one data directory, one address, many lives.
type server struct {
	t         *testing.T
	bin, dir  string
	address   string
	process   *process.Process
	out       processtest.Output
	app       crier.AppID
	key       string
	admin     crier.UserID
	lastReady time.Duration
}

// start starts the process and waits until it is ready.
func (s *server) start() {
	s.t.Helper()
	started := time.Now()
	cmd := exec.Command(s.bin, "serve", "--demo", "--data-dir", s.dir, "--http-listen", s.address, "--storage-min-free-disk", "1")
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	var err error
	if s.process, err = process.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.process.WaitReady(ctx, "http://"+s.address); err != nil {
		s.t.Fatal(err)
	}
	s.lastReady = time.Since(started)
}

// kill is kill -9.
func (s *server) kill() {
	s.t.Helper()
	if err := s.process.Kill(); err != nil {
		s.t.Error(err)
	}
}

// readDemo learns the app of the demo.
func (s *server) readDemo() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	d, err := demofile.Wait(ctx, s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	s.app, s.key, s.admin = d.SDKAppID, d.Key, d.Admin
}

// client returns a client that tries each call once: an error leaves its outcome unknown.
func (s *server) client() *client.Client {
	c, err := client.New("http://"+s.address, s.app, s.admin, client.SecretKey(s.key))
	if err != nil {
		s.t.Fatal(err)
	}
	c.Attempts = 1
	return c
}

// explain asks as an operator does what became of a push for an account.
func (s *server) explain(task crier.TaskID, user crier.UserID) (e crier.Explanation) {
	s.t.Helper()
	out, err := exec.Command(s.bin, "explain", string(task), string(user), "--json", "--data-dir", s.dir, "--url", "http://"+s.address).Output()
	if err == nil {
		err = json.Unmarshal(out, &e)
	}
	if err != nil {
		s.t.Fatalf("explain %s for %s: %v, %s", task, user, err, out)
	}
	return e
}

// acknowledged returns what was sent of a push to an account that has acknowledged it, once that is recorded: a second later.
func (s *server) acknowledged(task crier.TaskID, user crier.UserID) (e crier.Explanation) {
	s.t.Helper()
	eventually(s.t, string(user)+" has acknowledged the first push", func() bool {
		e = s.explain(task, user)
		return e.Delivery == crier.DeliveryAcknowledged && len(e.Sendings) == 1 && !e.Sendings[0].Acked.IsZero()
	})
	return e
}

// receiver is a device that stays on over all lives of the server.
type receiver struct {
	user crier.UserID
	mu   sync.Mutex
	got  map[crier.TaskID]int
	seqs []uint64
}

func (s *server) listen(ctx context.Context, user crier.UserID, wg *sync.WaitGroup) *receiver {
	r := &receiver{user: user, got: make(map[crier.TaskID]int)}
	wg.Go(func() {
		err := client.Listen(ctx, client.ListenConfig{
			URL: "http://" + s.address, SDKAppID: s.app, UserID: user, UserSig: client.SecretKey(s.key),
			MinBackoff: 20 * time.Millisecond, MaxBackoff: 200 * time.Millisecond,
			OnMessage: func(_ context.Context, m *client.Message) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.got[m.Task]++
				r.seqs = append(r.seqs, m.Seq)
				return nil
			},
		})
		if ctx.Err() == nil {
			s.t.Errorf("%s stopped listening: %v", user, err)
		}
	})
	return r
}

func (r *receiver) count(task crier.TaskID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[task]
}

// writer sets an attribute of its own account to 1, 2, 3, ... and notes what was acknowledged.
type writer struct {
	user             crier.UserID
	tried, confirmed atomic.Int64
}

func (w *writer) run(ctx context.Context, c *client.Client) {
	for n := int64(1); ctx.Err() == nil; n++ {
		w.tried.Store(n)
		err := c.SetAttrs(context.WithoutCancel(ctx), map[crier.UserID]map[string]string{w.user: {"count": strconv.FormatInt(n, 10)}})
		if err == nil {
			w.confirmed.Store(n)
		} else {
			time.Sleep(10 * time.Millisecond) // the server is away
		}
	}
}

// pusher pushes kept messages to a tag and notes which were acknowledged.
type pusher struct {
	mu    sync.Mutex
	tasks []crier.TaskID
}

func (p *pusher) run(ctx context.Context, c *client.Client) {
	for ctx.Err() == nil {
		task, err := c.Push(context.WithoutCancel(ctx), client.Push{
			Text: "hello", LifeTime: time.Hour, Condition: crier.ConditionSpec{TagsOr: []string{"crash"}},
		})
		if err == nil {
			p.mu.Lock()
			p.tasks = append(p.tasks, task)
			p.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *pusher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.tasks)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestNothingAcknowledgedIsLostByKillNine(t *testing.T) {
	bin, err := processtest.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, bin: bin, dir: t.TempDir(), address: freeporttest.Address(t)}
	t.Cleanup(func() {
		s.kill()
		s.out.Tell(t, "the server", 100_000)
	})
	s.start()
	s.readDemo()
	c := s.client()
	users, tags := prepare(t, c)

	listening, hangUp := context.WithCancel(t.Context())
	var devices sync.WaitGroup
	var receivers []*receiver
	for _, u := range users[:listeners] {
		receivers = append(receivers, s.listen(listening, u, &devices))
	}
	stranger := s.listen(listening, "stranger", &devices)
	first, err := c.Push(t.Context(), client.Push{Text: "first", LifeTime: time.Hour, Condition: crier.ConditionSpec{TagsOr: []string{"crash"}}})
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[crier.UserID]crier.Explanation)
	for _, r := range receivers {
		told[r.user] = s.acknowledged(first, r.user)
	}

	loading, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	ws := make([]*writer, writers)
	for i := range ws {
		ws[i] = &writer{user: crier.UserID(fmt.Sprintf("writer%d", i))}
		load.Go(func() { ws[i].run(loading, c) })
	}
	p := new(pusher)
	load.Go(func() { p.run(loading, c) })
	for life := range kills {
		time.Sleep(time.Second + rand.N(time.Second))
		s.kill()
		s.start()
		t.Logf("life %d: ready after %v, %d pushes acknowledged so far", life+2, s.lastReady.Round(time.Millisecond), p.count())
	}
	time.Sleep(time.Second)
	stop()
	load.Wait()

	checkWrites(t, c, ws)
	checkPushes(t, c, p.tasks, len(tags))
	for user, before := range told {
		if e := s.explain(first, user); !reflect.DeepEqual(e.Sendings, before.Sendings) || !e.LeaderSince.After(before.LeaderSince) {
			t.Errorf("%s: sent before the kills as %+v, and explained after them as %+v", user, before.Sendings, e.Sendings)
		}
	}
	late := s.listen(listening, users[listeners], &devices)
	for _, r := range append(receivers, late) {
		eventually(t, fmt.Sprintf("%s has all %d pushes", r.user, len(p.tasks)), func() bool {
			return !slices.ContainsFunc(p.tasks, func(task crier.TaskID) bool { return r.count(task) == 0 })
		})
	}
	hangUp()
	devices.Wait()
	for _, r := range append(receivers, late) {
		for task, n := range r.got {
			if n != 1 {
				t.Errorf("%s was shown %s %d times", r.user, task, n)
			}
		}
		if !slices.IsSorted(r.seqs) {
			t.Errorf("%s was shown messages out of order: %v", r.user, r.seqs)
		}
	}
	if len(stranger.got) != 0 {
		t.Errorf("the stranger, who has no tag, got %v", stranger.got)
	}
}

// prepare makes the accounts: those with the tag, the first of whom listen, and the writers'.
func prepare(t *testing.T, c *client.Client) (tagged []crier.UserID, tags map[crier.UserID][]string) {
	t.Helper()
	tags = make(map[crier.UserID][]string)
	all := []crier.UserID{"stranger"}
	for i := range listeners + 2 {
		u := crier.UserID(fmt.Sprintf("tagged%d", i))
		tagged, all, tags[u] = append(tagged, u), append(all, u), []string{"crash"}
	}
	for i := range writers {
		all = append(all, crier.UserID(fmt.Sprintf("writer%d", i)))
	}
	ctx := t.Context()
	if err := c.Import(ctx, all...); err != nil {
		t.Fatal(err)
	}
	if err := c.SetAttrNames(ctx, map[int]string{0: "count"}); err != nil {
		t.Fatal(err)
	}
	if err := c.AddTags(ctx, tags); err != nil {
		t.Fatal(err)
	}
	return tagged, tags
}

// checkWrites: each account has what was acknowledged last, or what was tried after it.
func checkWrites(t *testing.T, c *client.Client, ws []*writer) {
	t.Helper()
	sum := int64(0)
	for _, w := range ws {
		attrs, err := c.Attrs(t.Context(), w.user)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := strconv.ParseInt(attrs[w.user]["count"], 10, 64)
		if got < w.confirmed.Load() || got > w.tried.Load() {
			t.Errorf("%s has %d; %d was acknowledged, %d tried", w.user, got, w.confirmed.Load(), w.tried.Load())
		}
		sum += w.confirmed.Load()
	}
	if sum == 0 {
		t.Error("no write was acknowledged: the test has tested nothing")
	}
	t.Logf("%d writes acknowledged", sum)
}

// checkPushes: each acknowledged push is known, ends, and matched everybody with the tag.
func checkPushes(t *testing.T, c *client.Client, tasks []crier.TaskID, total int) {
	t.Helper()
	if len(tasks) == 0 {
		t.Fatal("no push was acknowledged: the test has tested nothing")
	}
	t.Logf("%d pushes acknowledged", len(tasks))
	for chunk := range slices.Chunk(tasks, crier.MaxReportTasks) {
		var reports []crier.Report
		eventually(t, "every push is done", func() bool {
			var err error
			if reports, err = c.Report(t.Context(), chunk...); err != nil {
				t.Fatal(err)
			}
			return !slices.ContainsFunc(reports, func(r crier.Report) bool { return r.Status != crier.StatusDone })
		})
		for _, r := range reports {
			if r.Total != uint64(total) || r.Finished != r.Total {
				t.Errorf("%+v, want a total of %d", r, total)
			}
		}
	}
}
