package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier/internal/freeport"
	"github.com/crier-im/crier/internal/process"
)

// node is one process: one data directory, the same addresses, many lives.
type node struct {
	t       *testing.T
	place   place
	args    []string
	bin     string
	dir     string
	log     string           // file with what it printed, of all lives
	process *process.Process // nil: it does not belong to the cluster, or was killed
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
	cmd := exec.Command(n.bin, n.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), clockEnv+"="+n.clock())
	start := (*exec.Cmd).Start
	if n.place.start != nil {
		start = n.place.start
	}
	if err := start(cmd); err != nil {
		n.t.Fatal(err)
	}
	n.process, n.calm = process.Follow(cmd), usage{}
}

// waitReady waits until the node serves and knows a leader of every partition.
func (n *node) waitReady() {
	n.t.Helper()
	if err := n.ready(); err != nil {
		n.t.Fatalf("%v: see %s", err, n.log)
	}
}

// ready is waitReady with the error that it has.
func (n *node) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := n.process.WaitReady(ctx, n.url())
	if err == nil {
		n.alive.Store(true)
	}
	return err
}

// says returns an error unless the node says that it is not ready, in these words.
func (n *node) says(words ...string) error {
	err := process.Ready(n.t.Context(), n.url())
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			return fmt.Errorf("it does not say %q, but: %w", w, err)
		}
	}
	return nil
}

func (n *node) url() string { return "http://" + n.place.http }

// kill is kill -9.
func (n *node) kill() {
	n.alive.Store(false)
	if err := n.process.Kill(); err != nil {
		n.t.Error(err)
	}
	n.process = nil
}

// waitExit waits until the process has ended by itself, and returns its exit code; -1: it had to be killed.
func (n *node) waitExit() int {
	n.t.Helper()
	state, itself := n.process.Wait(2 * patience)
	if !itself {
		n.t.Error("the process has not ended")
	}
	n.alive.Store(false)
	n.process = nil
	return state.ExitCode()
}

// stop ends the process in an orderly way, as an upgrade does.
func (n *node) stop() {
	n.t.Helper()
	n.alive.Store(false) // who spreads the calls sends it no more
	if err := n.process.Signal(syscall.SIGTERM); err != nil {
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
	if err := n.process.Signal(sig); err != nil {
		n.t.Fatal(err)
	}
}
