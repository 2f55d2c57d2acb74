package vendors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier/internal/freeport/freeporttest"
	"github.com/crier-im/crier/internal/process"
	"github.com/crier-im/crier/internal/process/processtest"
)

const (
	// patience bounds every wait; nothing here depends on how long one takes.
	patience = 3 * time.Minute
	// partitions of a node: few, so that a start is short.
	partitions = 4
)

// binary is the path of crier, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "crier-vendors-")
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

// node is a server process with a data directory of its own, over all its lives.
type node struct {
	t       *testing.T
	dir     string
	url     string
	flags   []string
	token   string // the operator's
	http    *http.Client
	process *process.Process
	out     processtest.Output
}

// startNode starts a node with more flags. It is killed with the test.
func startNode(t *testing.T, flags ...string) *node {
	t.Helper()
	address := freeporttest.Address(t)
	n := &node{t: t, dir: t.TempDir(), url: "http://" + address, http: &http.Client{
		Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: registrars},
	}}
	n.flags = append([]string{
		"serve", "--data-dir", n.dir, "--http-listen", address, "--cluster-partitions", fmt.Sprint(partitions), "--storage-min-free-disk", "1",
	}, flags...)
	t.Cleanup(func() {
		n.kill()
		n.http.CloseIdleConnections()
		n.out.Tell(t, "the node", 10_000)
	})
	n.start()
	token, err := os.ReadFile(filepath.Join(n.dir, "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	n.token = strings.TrimSpace(string(token))
	return n
}

// start starts the process and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	cmd := exec.Command(binary, n.flags...)
	cmd.Stdout, cmd.Stderr = &n.out, &n.out
	var err error
	if n.process, err = process.Start(cmd); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := n.process.WaitReady(ctx, n.url); err != nil {
		n.t.Fatal(err)
	}
}

// kill is kill -9.
func (n *node) kill() {
	if err := n.process.Kill(); err != nil {
		n.t.Error(err)
	}
}

// call calls the operator's API and reads the answer into out, unless that is nil.
func (n *node) call(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	resp, err := n.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	case out == nil:
		return nil
	}
	return json.Unmarshal(text, out)
}

// must fails the test where a call of the operator's API fails.
func (n *node) must(method, path string, in, out any) {
	n.t.Helper()
	if err := n.call(method, path, in, out); err != nil {
		n.t.Fatal(err)
	}
}

// metric returns the sum of the series of a metric whose labels have all of the texts.
func (n *node) metric(name string, labels ...string) (sum float64) {
	n.t.Helper()
	resp, err := n.http.Get(n.url + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
lines:
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name+"{")
		if !ok {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		var value float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, '}')+1:], &value); err != nil {
			n.t.Fatalf("%s: %v", line, err)
		}
		sum += value
	}
	return sum
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
