// Package cluster_test runs three real processes as a cluster, kills, stops or restarts each of them in turn while accounts are
// changed and pushes sent, and checks that what was acknowledged is there, that every push reaches everybody once, and that
// accounts are linearizable.
package cluster_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/freeport"
)

const (
	nodes    = 3
	accounts = 200
	perNode  = 5 // receivers that are connected to each node
	writers  = 4
	patience = time.Minute
	logTail  = 20_000 // bytes of a node's log that are shown after a failure
	token    = "the token of the operator"
	appID    = crier.AppID(1400000001)
)

// node is one process: one data directory, the same addresses, many lives.
type node struct {
	t       *testing.T
	place   place
	args    []string
	bin     string
	dir     string
	log     string // file with what it printed, of all lives
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	alive   atomic.Bool
	calm    usage // after its first round
}

// place is where a node runs.
type place struct {
	gossip, http, raft, actors string                // host:port
	start                      func(*exec.Cmd) error // nil: on this machine
}

// asker asks nodes how they are. One that hangs is asked again.
var asker = &http.Client{Timeout: 5 * time.Second}

// onLoopback returns n places on this machine.
func onLoopback(t *testing.T, n int) []place {
	t.Helper()
	at, err := freeport.Addresses(4 * n)
	if err != nil {
		t.Fatal(err)
	}
	var all []place
	for a := range slices.Chunk(at, 4) {
		all = append(all, place{gossip: a[0], http: a[1], raft: a[2], actors: a[3]})
	}
	return all
}

// launch starts the process.
func (n *node) launch() {
	n.t.Helper()
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close() // the process has its own
	process, ended := exec.Command(n.bin, n.args...), make(chan struct{})
	process.Stdout, process.Stderr = log, log
	process.Env = append(os.Environ(), clockEnv+"="+n.clock())
	start := process.Start
	if n.place.start != nil {
		start = func() error { return n.place.start(process) }
	}
	if err := start(); err != nil {
		n.t.Fatal(err)
	}
	n.process, n.ended, n.calm = process, ended, usage{}
	go func() {
		_ = process.Wait() // its state says how it ended
		close(ended)
	}()
}

// hasEnded reports whether no process runs.
func (n *node) hasEnded() bool {
	if n.process == nil {
		return true
	}
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// waitReady waits until the node serves and knows a leader of every partition.
func (n *node) waitReady() {
	n.t.Helper()
	if err := n.ready(); err != nil {
		n.t.Fatalf("%v: see %s", err, n.log)
	}
}

// errEnded is why a node does not become ready.
var errEnded = errors.New("the process has ended")

// ready is waitReady with the error that it has.
func (n *node) ready() error {
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && !n.hasEnded(); time.Sleep(20 * time.Millisecond) {
		resp, err := asker.Get("http://" + n.place.http + "/readyz")
		if err != nil {
			last = err.Error()
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // what has come says enough
		_ = resp.Body.Close()
		if last = resp.Status + " " + string(text); resp.StatusCode == http.StatusOK {
			n.alive.Store(true)
			return nil
		}
	}
	if n.hasEnded() {
		return errEnded
	}
	return fmt.Errorf("not ready within %v: %s", patience, last)
}

// kill is kill -9.
func (n *node) kill() {
	n.alive.Store(false)
	if n.process == nil {
		return
	}
	if err := n.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Error(err)
	}
	<-n.ended
	n.process = nil
}

// waitExit waits until the process has ended by itself, and returns its exit code; -1: it had to be killed.
func (n *node) waitExit() int {
	n.t.Helper()
	late := time.AfterFunc(2*patience, func() {
		n.t.Error("the process has not ended")
		_ = n.process.Process.Kill()
	})
	defer late.Stop()
	<-n.ended
	n.alive.Store(false)
	code := n.process.ProcessState.ExitCode()
	n.process = nil
	return code
}

// stop ends the process in an orderly way, as an upgrade does.
func (n *node) stop() {
	n.t.Helper()
	n.alive.Store(false) // who spreads the calls sends it no more
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	if code := n.waitExit(); code != 0 {
		n.t.Errorf("the process ends with %d", code)
	}
}

// restart ends the process in an orderly way and starts it again.
func (n *node) restart() {
	n.t.Helper()
	n.stop()
	n.launch()
	n.waitReady()
}

// signal stops or continues the process.
func (n *node) signal(sig syscall.Signal) {
	n.t.Helper()
	n.alive.Store(sig != syscall.SIGSTOP)
	if err := n.process.Process.Signal(sig); err != nil {
		n.t.Fatal(err)
	}
}

// cluster is nodes, three at first, and an app.
type cluster struct {
	t          *testing.T
	bin, certs string
	logs       string
	gossip     []string // addresses of the nodes that formed it
	nodes      []*node
	keys       map[crier.AppID]string // of apps, to make UserSigs with
	timeline   timeline
	front      string // where receivers connect; empty: each to a node of its own
}

// start makes a cluster of three nodes on this machine.
func start(t *testing.T, more ...string) *cluster {
	t.Helper()
	c := build(t, nil)
	c.here(nodes, more...)
	c.keys[appID] = c.createApp(appID)
	return c
}

// build makes the binary, with other sources than there are or nil, and what else the nodes have in common. At the end every process is killed; after a failure the logs stay.
func build(t *testing.T, more sources) *cluster {
	t.Helper()
	all := planted(t)
	maps.Copy(all, more)
	bin := filepath.Join(t.TempDir(), "crier")
	build := slices.Concat([]string{"build", "-o", bin}, all.overlay(t), []string{"github.com/crier-im/crier/cmd/crier"})
	if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	certs := t.TempDir() // what the nodes tell one another is encrypted
	for _, args := range [][]string{{"tls", "ca", "--dir", certs}, {"tls", "cert", "crier-node", "--dir", certs}} {
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	logs, err := os.MkdirTemp("", "crier-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, bin: bin, certs: certs, logs: logs, keys: make(map[crier.AppID]string)}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
		if !t.Failed() {
			_ = os.RemoveAll(logs) // in the folder for what is temporary
			return
		}
		for i, n := range c.nodes {
			text, _ := os.ReadFile(n.log)
			t.Logf("node %d printed at last:\n%s", i, text[max(0, len(text)-logTail):])
		}
		c.tell()
	})
	return c
}

// here starts n nodes on this machine that form the cluster.
func (c *cluster) here(n int, more ...string) {
	c.t.Helper()
	for _, p := range onLoopback(c.t, n) {
		c.node(p)
	}
	c.form(c.nodes, more...)
}

// form starts nodes that form the cluster together.
func (c *cluster) form(founders []*node, more ...string) {
	c.t.Helper()
	if len(founders) > 1 { // else it would wait for somebody whom it can join
		for _, n := range founders {
			c.gossip = append(c.gossip, n.place.gossip)
		}
	}
	for _, n := range founders {
		c.configure(n, len(founders), more...)
		n.launch()
	}
	for _, n := range founders {
		n.waitReady()
	}
}

// node makes room for one more node, before there is load.
func (c *cluster) node(p place) *node {
	n := &node{t: c.t, bin: c.bin, place: p, dir: c.t.TempDir(), log: filepath.Join(c.logs, fmt.Sprintf("node-%d.log", len(c.nodes)))}
	c.nodes = append(c.nodes, n)
	return n
}

// configure says how a node is started, once the nodes that form the cluster are known.
func (c *cluster) configure(n *node, expect int, more ...string) {
	n.args = append([]string{
		"serve", "--data-dir", n.dir, "--http-listen", n.place.http, "--cluster-gossip-listen", n.place.gossip,
		"--cluster-raft-listen", n.place.raft, "--cluster-actor-listen", n.place.actors, "--cluster-partitions", fmt.Sprint(partitions),
		"--cluster-bootstrap-expect", fmt.Sprint(expect), "--cluster-join", strings.Join(c.gossip, ","),
		"--cluster-tls-ca", filepath.Join(c.certs, "ca.crt"), "--cluster-tls-cert", filepath.Join(c.certs, "crier-node.crt"),
		"--cluster-tls-key", filepath.Join(c.certs, "crier-node.key"), "--cluster-gossip-key", strings.Repeat("c0ffee42", 8),
		"--operator-token", token, "--storage-min-free-disk", "1", "--log-level", "info",
	}, more...)
}

// createApp makes an app without limits, and returns its key.
func (c *cluster) createApp(id crier.AppID) string {
	c.t.Helper()
	var made struct{ Key string }
	limits := map[string]any{"push_interval": 0, "pushes_per_day": 0, "calls_per_second": 0, "kept_pushes": 0, "fallback_after": 1}
	if err := c.operate(0, http.MethodPost, "/v1/apps", map[string]any{"id": id, "limits": limits}, &made); err != nil {
		c.t.Fatal(err)
	}
	return made.Key
}

// operate calls the operator's API of a node, and reads the answer into out.
func (c *cluster) operate(i int, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.nodes[i].place.http+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s, %w", method, path, resp.Status, text, err)
	}
	return json.Unmarshal(text, out)
}

// prepare names an attribute of an app, and waits until every node knows it.
func (c *cluster) prepare(app crier.AppID, attribute string) {
	c.t.Helper()
	eventually(c.t, "the app is known everywhere", func() error { return c.everywhere(app, func(map[int]string) bool { return true }) })
	c.anyOf(app, "names", func(cl *client.Client) error { return cl.SetAttrNames(c.t.Context(), map[int]string{0: attribute}) })
	eventually(c.t, "the name is known everywhere", func() error {
		return c.everywhere(app, func(names map[int]string) bool { return names[0] == attribute })
	})
}

// everywhere returns an error unless each node knows attribute names of the app that are good.
func (c *cluster) everywhere(app crier.AppID, good func(names map[int]string) bool) error {
	for _, i := range c.alive() {
		if names, err := c.clientOf(app, i).AttrNames(c.t.Context()); err != nil || !good(names) {
			return fmt.Errorf("node %d: %v, %w", i, names, err)
		}
	}
	return nil
}

// alive returns the numbers of the nodes that are.
func (c *cluster) alive() (all []int) {
	for i, n := range c.nodes {
		if n.alive.Load() {
			all = append(all, i)
		}
	}
	return all
}

// client returns a client of one node, for the first app.
func (c *cluster) client(i int) *client.Client { return c.clientOf(appID, i) }

func (c *cluster) clientOf(app crier.AppID, i int) *client.Client {
	cl, err := client.New("http://"+c.nodes[i].place.http, app, "administrator", client.SecretKey(c.keys[app]))
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// any calls f with clients of nodes that are alive, until one call has succeeded.
func (c *cluster) any(what string, f func(*client.Client) error) {
	c.t.Helper()
	c.anyOf(appID, what, f)
}

func (c *cluster) anyOf(app crier.AppID, what string, f func(*client.Client) error) {
	c.t.Helper()
	last := errors.New("no node is alive")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if some := c.alive(); len(some) > 0 {
			if last = f(c.clientOf(app, some[rand.IntN(len(some))])); last == nil {
				return
			}
		}
	}
	c.t.Errorf("%s: not within %v: %v", what, patience, last)
}

func name(i int) crier.UserID { return crier.UserID(fmt.Sprintf("user%03d", i)) }

// receiver is one connected account: what its SDK has shown, in order.
type receiver struct {
	mu    sync.Mutex
	shown []crier.TaskID
}

func (c *cluster) listen(ctx context.Context, wg *sync.WaitGroup, i int) *receiver {
	r := new(receiver)
	cfg := client.ListenConfig{
		URL: cmp.Or(c.front, "http://"+c.nodes[i%min(nodes, len(c.nodes))].place.http), SDKAppID: appID, UserID: name(i), UserSig: client.SecretKey(c.keys[appID]),
		OnMessage: func(_ context.Context, m *client.Message) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.shown = append(r.shown, m.Task)
			return nil
		},
	}
	wg.Go(func() {
		if err := client.Listen(ctx, cfg); err != nil && ctx.Err() == nil {
			c.t.Errorf("receiver %d: %v", i, err)
		}
	})
	return r
}

// load changes accounts and pushes until it is told to stop.
type load struct {
	mu     sync.Mutex
	counts map[crier.UserID]int // acknowledged
	tasks  []crier.TaskID       // acknowledged, in order
}

func (c *cluster) write(ctx context.Context, l *load, w int) {
	for n := 1; ctx.Err() == nil; n++ {
		u := name(w*accounts/writers + n%(accounts/writers))
		c.any("write", func(cl *client.Client) error {
			return cl.SetAttrs(c.t.Context(), map[crier.UserID]map[string]string{u: {"count": fmt.Sprint(n)}})
		})
		l.mu.Lock()
		l.counts[u] = n
		l.mu.Unlock()
	}
}

func (c *cluster) push(ctx context.Context, l *load) {
	for random := uint32(1); ctx.Err() == nil; random++ {
		var task crier.TaskID
		c.any("push", func(cl *client.Client) (err error) {
			task, err = cl.Push(c.t.Context(), client.Push{Text: fmt.Sprint("push ", random), Random: random, LifeTime: time.Hour})
			if errors.Is(err, crier.CodePushRepeated) && task != "" {
				return nil // the first attempt had come through
			}
			return err
		})
		l.mu.Lock()
		l.tasks = append(l.tasks, task)
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestEachNodeIsKilledInTurn(t *testing.T) {
	underLoad(t, func(n *node) {
		n.kill()
		time.Sleep(5 * time.Second) // of load without it
		n.launch()
		n.waitReady()
	})
}

// A node that hangs, as on a machine that swaps or is moved, is no other than one that is dead, but for what it believes when it goes on:
// that it still leads.
func TestEachNodeHangsInTurn(t *testing.T) {
	underLoad(t, func(n *node) {
		n.signal(syscall.SIGSTOP)
		time.Sleep(4 * time.Second) // of load without it
		n.signal(syscall.SIGCONT)
		n.waitReady()
	})
}

// A rolling restart, as for an upgrade: one node after the other ends and comes back, with its receivers sent elsewhere.
func TestARollingRestart(t *testing.T) {
	underLoad(t, (*node).restart)
}

// underLoad does something to each node in turn while accounts are changed and pushes sent, and checks what is there then.
func underLoad(t *testing.T, disturb func(*node)) {
	t.Helper()
	c := start(t)
	c.underLoad(func() {
		for i, n := range c.nodes {
			time.Sleep(2 * time.Second) // of load
			began := time.Now()
			disturb(n)
			t.Logf("node %d was away for %v", i, time.Since(began).Round(time.Millisecond))
		}
		time.Sleep(2 * time.Second)
	})
}

// underLoad does something while accounts are changed and pushes sent, and checks what is there then.
func (c *cluster) underLoad(disturb func()) {
	t := c.t
	t.Helper()
	c.prepare(appID, "count")
	c.importAll()
	listening, silence := context.WithCancel(t.Context())
	defer silence()
	var ears sync.WaitGroup
	var receivers []*receiver
	for i := range nodes * perNode {
		receivers = append(receivers, c.listen(listening, &ears, i))
	}
	l := &load{counts: make(map[crier.UserID]int)}
	loading, enough := context.WithCancel(t.Context())
	defer enough()
	var hands sync.WaitGroup
	for w := range writers {
		hands.Go(func() { c.write(loading, l, w) })
	}
	hands.Go(func() { c.push(loading, l) })
	disturb()
	enough()
	hands.Wait()
	c.check(l, receivers)
	silence()
	ears.Wait()
}

// importAll makes the accounts.
func (c *cluster) importAll() {
	c.t.Helper()
	for from := 0; from < accounts; from += 100 {
		var users []crier.UserID
		for i := from; i < from+100; i++ {
			users = append(users, name(i))
		}
		c.any("import", func(cl *client.Client) error { return cl.Import(c.t.Context(), users...) })
	}
}

// check holds what was acknowledged against what is there.
func (c *cluster) check(l *load, receivers []*receiver) {
	c.t.Helper()
	for i, n := range c.nodes {
		if !n.alive.Load() {
			continue
		}
		for u, want := range l.counts {
			attrs, err := c.client(i).Attrs(c.t.Context(), u)
			if err != nil {
				c.t.Fatalf("node %d: read %s: %v", i, u, err)
			}
			if got := attrs[u]["count"]; got != fmt.Sprint(want) {
				c.t.Errorf("node %d says that %s has count %q, %d was acknowledged", i, u, got, want)
			}
		}
	}
	eventually(c.t, "every push is done, for everybody", func() error {
		some := slices.IndexFunc(c.nodes, func(n *node) bool { return n.alive.Load() })
		for from := 0; from < len(l.tasks); from += crier.MaxReportTasks {
			reports, err := c.client(some).Report(c.t.Context(), l.tasks[from:min(from+crier.MaxReportTasks, len(l.tasks))]...)
			if err != nil {
				return err
			}
			for _, r := range reports {
				if r.Status != crier.StatusDone || r.Total != accounts {
					return fmt.Errorf("%+v", r)
				}
			}
		}
		return nil
	})
	for i, r := range receivers {
		eventually(c.t, fmt.Sprint("receiver ", i, " has every push"), func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.shown) < len(l.tasks) {
				return fmt.Errorf("%d of %d", len(r.shown), len(l.tasks))
			}
			return nil
		})
		r.mu.Lock()
		if !slices.Equal(r.shown, l.tasks) {
			c.t.Errorf("receiver %d was shown %d messages, once and in order are %d: %v", i, len(r.shown), len(l.tasks), firstDifference(r.shown, l.tasks))
		}
		r.mu.Unlock()
	}
	changes := 0
	for _, n := range l.counts {
		changes += n
	}
	c.t.Logf("%d accounts changed, %d pushes to %d receivers", len(l.counts), len(l.tasks), len(receivers))
}

func firstDifference(a, b []crier.TaskID) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("at %d, %s in the place of %s", i, a[i], b[i])
		}
	}
	return "one is longer"
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = f(); last == nil {
			return
		}
	}
	t.Errorf("%s: not within %v: %v", what, patience, last)
}
