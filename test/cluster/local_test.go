package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// output is what a process prints, for readers beside it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// make cluster runs three nodes, and Ctrl-C stops each in an orderly way: it came to the nodes themselves too, which ended at once by the second signal.
func TestMakeCluster(t *testing.T) {
	bin := build(t, nil).bin
	script, err := filepath.Abs("../../tools/cluster")
	if err != nil {
		t.Fatal(err)
	}
	out := new(output)
	cmd := exec.Command(script, bin)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C goes to such a group
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it has ended, unless the test has failed
		time.Sleep(100 * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}()
	for _, url := range []string{"http://127.0.0.1:8081", "http://127.0.0.1:8082", "http://127.0.0.1:8083"} {
		eventually(t, url+" is ready", func() error {
			resp, err := http.Get(url + "/readyz")
			if err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
			return errors.Join(err, resp.Body.Close())
		})
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it has not ended within a minute")
	}
	for i := range 3 {
		for _, line := range []string{fmt.Sprintf("node %d  time=", i+1), fmt.Sprintf("node %d has ended with status 0\n", i+1)} {
			if !strings.Contains(out.String(), line) {
				t.Errorf("no line has %q", line)
			}
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
