package process_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crier-im/crier/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestKill(t *testing.T) {
	t.Parallel()
	p := start(t, "exec sleep 1000")
	if p.Ended() || p.PID() == 0 {
		t.Fatalf("process %d has ended", p.PID())
	}
	for range 2 { // the second does nothing
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}
	state, itself := p.Wait(time.Minute)
	if status := state.Sys().(syscall.WaitStatus); !p.Ended() || !itself || status.Signal() != syscall.SIGKILL {
		t.Errorf("ended: %t, by itself: %t, %v", p.Ended(), itself, state)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	if state, itself := start(t, "exit 3").Wait(time.Minute); !itself || state.ExitCode() != 3 {
		t.Errorf("by itself: %t, %v", itself, state)
	}
	if state, itself := start(t, "exec sleep 1000").Wait(10 * time.Millisecond); itself || state.ExitCode() != -1 {
		t.Errorf("by itself: %t, %v", itself, state)
	}
}

func TestNoProcess(t *testing.T) {
	t.Parallel()
	var p *process.Process
	if err := p.Kill(); err != nil || !p.Ended() || p.PID() != 0 {
		t.Errorf("%v, ended: %t, %d", err, p.Ended(), p.PID())
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	if p, err := process.Start(exec.Command("/nowhere")); err == nil || p != nil {
		t.Errorf("started %v", p)
	}
}

func TestWaitReady(t *testing.T) {
	t.Parallel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 || r.URL.Path != "/readyz" {
			http.Error(w, "partition 7 has no leader", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	p := start(t, "exec sleep 1000")
	if err := p.WaitReady(t.Context(), server.URL); err != nil || asked != 3 {
		t.Errorf("%v after %d questions", err, asked)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := p.WaitReady(ctx, server.URL+"/elsewhere"); err == nil || !strings.Contains(err.Error(), "partition 7") {
		t.Errorf("the reason is not told: %v", err)
	}
	if err := start(t, "exit 1").WaitReady(t.Context(), "http://127.0.0.1:1"); !errors.Is(err, process.ErrEnded) {
		t.Error(err)
	}
}
