package faults_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/demo/demofile"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
	"github.com/crier-im/crier/internal/process"
	"github.com/crier-im/crier/internal/process/processtest"
)

// patience bounds every wait; nothing here depends on how long one takes.
const patience = 2 * time.Minute

// binary is the path of crier, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "crier-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = processtest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// node is one data directory and its lives.
type node struct {
	t       *testing.T
	dir     string
	minFree int // MB
	address string

	process *process.Process
	out     *processtest.Output // of the last life
}

// newNode makes a node that is not started. Its process, if it has one, is killed with the test.
func newNode(t *testing.T, dir string, minFree int) *node {
	t.Helper()
	n := &node{t: t, dir: dir, minFree: minFree, address: freeporttest.Address(t)}
	t.Cleanup(func() {
		n.kill()
		if n.out != nil {
			n.out.Tell(t, "the last life of "+dir, 20_000)
		}
	})
	return n
}

// launch starts the process and does not wait for it.
func (n *node) launch() {
	n.t.Helper()
	n.out = new(processtest.Output)
	cmd := exec.Command(binary, "serve", "--demo", "--data-dir", n.dir, "--http-listen", n.address,
		"--cluster-partitions", "4", "--storage-min-free-disk", fmt.Sprint(n.minFree))
	cmd.Stdout, cmd.Stderr = n.out, n.out
	var err error
	if n.process, err = process.Start(cmd); err != nil {
		n.t.Fatal(err)
	}
}

// state waits until the process has ended by itself, and returns how.
func (n *node) state() *os.ProcessState {
	n.t.Helper()
	state, itself := n.process.Wait(patience)
	if !itself {
		n.t.Fatal("the process has not ended")
	}
	return state
}

// start starts the process, waits until it is ready, and returns whether it is: it may also have ended.
func (n *node) start() bool {
	n.t.Helper()
	n.launch()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	err := n.process.WaitReady(ctx, "http://"+n.address)
	if err != nil && !errors.Is(err, process.ErrEnded) {
		n.t.Fatal(err)
	}
	return err == nil
}

// mustStart starts the process, which must become ready.
func (n *node) mustStart() {
	n.t.Helper()
	if !n.start() {
		n.t.Fatalf("the process ended with %v", n.state())
	}
}

// mustFail starts the process, which must end with an exit code other than 0, not by a signal or
// a panic, and say each of the words.
func (n *node) mustFail(words ...string) {
	n.t.Helper()
	if n.start() {
		n.t.Fatal("it is ready")
	}
	n.refused(words...)
}

// refused checks the words of a process that has ended.
func (n *node) refused(words ...string) {
	n.t.Helper()
	text := n.out.String()
	state := n.state()
	if code := state.ExitCode(); code <= 0 || code == 2 || strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
		n.t.Errorf("it ended with %v and printed:\n%s", state, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			n.t.Errorf("it does not say %q, but:\n%s", word, text)
		}
	}
}

// kill is kill -9. Without a process it does nothing.
func (n *node) kill() {
	if err := n.process.Kill(); err != nil {
		n.t.Errorf("kill: %v", err)
	}
}

// client returns a client that tries again what a slow machine made fail.
func (n *node) client() *client.Client {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	d, err := demofile.Wait(ctx, n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := client.New("http://"+n.address, d.SDKAppID, d.Admin, client.SecretKey(d.Key))
	if err != nil {
		n.t.Fatal(err)
	}
	c.HTTP.Timeout = patience
	return c
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ledger is what was acknowledged: the count attribute of each account, and pushes; and which
// count was tried last, since a write without an answer may have been made.
type ledger struct {
	counts, tried map[crier.UserID]int
	tasks         []crier.TaskID
}

// clone returns a ledger that goes on by itself.
func (l *ledger) clone() *ledger {
	return &ledger{maps.Clone(l.counts), maps.Clone(l.tried), slices.Clone(l.tasks)}
}

const users = 20

func user(i int) crier.UserID { return crier.UserID(fmt.Sprintf("user%d", i)) }

// fill makes accounts with a tag, and writes and pushes rounds times.
func fill(t *testing.T, c *client.Client, rounds int) *ledger {
	t.Helper()
	l := &ledger{counts: make(map[crier.UserID]int), tried: make(map[crier.UserID]int)}
	var names []crier.UserID
	tags := make(map[crier.UserID][]string)
	for i := range users {
		names = append(names, user(i))
		tags[user(i)] = []string{"tagged"}
	}
	ctx := t.Context()
	for _, err := range []error{c.Import(ctx, names...), c.SetAttrNames(ctx, map[int]string{0: "count"}), c.AddTags(ctx, tags)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range rounds {
		if err := l.write(t, c); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// write changes one account and pushes once, and notes what was acknowledged.
func (l *ledger) write(t *testing.T, c *client.Client) error {
	u := user((len(l.tasks) * 7) % users)
	next := l.counts[u] + 1
	l.tried[u] = next
	if err := c.SetAttrs(t.Context(), map[crier.UserID]map[string]string{u: {"count": fmt.Sprint(next)}}); err != nil {
		return err
	}
	l.counts[u] = next
	task, err := c.Push(t.Context(), client.Push{Text: "hello", LifeTime: time.Hour, Condition: crier.ConditionSpec{TagsOr: []string{"tagged"}}})
	if err != nil {
		return err
	}
	l.tasks = append(l.tasks, task)
	return nil
}

// check reads everything back, and waits for the pushes to be done: nothing that was acknowledged is missing.
func (l *ledger) check(t *testing.T, c *client.Client) {
	t.Helper()
	l.read(t, c)
	eventually(t, "every push is done", func() bool {
		reports, err := c.Report(t.Context(), l.tasks...)
		if err != nil {
			t.Fatalf("reports: %v", err)
		}
		return !slices.ContainsFunc(reports, func(r crier.Report) bool {
			return r.Status != crier.StatusDone || r.Total != users || r.Finished != users
		})
	})
}

// read reads the accounts and the reports, of pushes that may be under way.
func (l *ledger) read(t *testing.T, c *client.Client) {
	t.Helper()
	for u, want := range l.counts {
		attrs, err := c.Attrs(t.Context(), u)
		if err != nil {
			t.Fatalf("read %s: %v", u, err)
		}
		if got := attrs[u]["count"]; got != fmt.Sprint(want) && got != fmt.Sprint(l.tried[u]) {
			t.Errorf("%s has count %q, %d was acknowledged, %d tried", u, got, want, l.tried[u])
		}
		tags, err := c.Tags(t.Context(), u)
		if err != nil || len(tags[u]) != 1 {
			t.Errorf("%s has tags %v, %v", u, tags[u], err)
		}
	}
	if len(l.tasks) == 0 {
		t.Fatal("nothing was acknowledged: the test has tested nothing")
	}
	if _, err := c.Report(t.Context(), l.tasks...); err != nil {
		t.Fatalf("reports: %v", err)
	}
}
