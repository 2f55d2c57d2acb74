// Package processtest builds the program that tests run as processes, and keeps what they print.
package processtest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// Build builds crier into a directory, with more flags of go build, and returns its path.
func Build(dir string, flags ...string) (string, error) {
	binary := filepath.Join(dir, "crier")
	args := slices.Concat([]string{"build", "-o", binary}, flags, []string{"github.com/crier-im/crier/cmd/crier"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// Output is what processes print. Safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Tell writes the end of it, most bytes at most, to the log of a test that has failed.
func (o *Output) Tell(t testing.TB, whose string, most int) {
	t.Helper()
	if t.Failed() {
		text := o.String()
		t.Logf("%s printed at last:\n%s", whose, text[max(0, len(text)-most):])
	}
}
