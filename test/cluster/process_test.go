package cluster_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier/internal/freeport"
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
