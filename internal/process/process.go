// Package process runs nodes of Crier as processes of this machine, for demos, benchmarks and tests.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// lookEvery is how often a node is asked whether it is ready.
	lookEvery = 20 * time.Millisecond
	// answerWithin bounds one answer: a node that hangs is asked again.
	answerWithin = 5 * time.Second
	// reasonMost bounds what is read of the reason why a node is not ready, in bytes.
	reasonMost = 512
)

// ErrEnded is why a node does not become ready: its process has ended.
var ErrEnded = errors.New("the process has ended")

var asker = &http.Client{Timeout: answerWithin}

// Process is one life of a program. Safe for concurrent use; nil is one that has ended.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a command. The caller ends it with Kill, or sees to it that it ends by itself.
func Start(cmd *exec.Cmd) (*Process, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return Follow(cmd), nil
}

// Follow is Start for a command that has been started. Nobody else may wait for it.
func Follow(cmd *exec.Cmd) *Process {
	p := &Process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its state says how it ended
		close(p.done)
	}()
	return p
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	if p == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID returns the id of the process; 0 for nil.
func (p *Process) PID() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends a signal: os.ErrProcessDone where there is no process any more.
func (p *Process) Signal(s os.Signal) error {
	if p == nil {
		return os.ErrProcessDone
	}
	return p.cmd.Process.Signal(s)
}

// Kill is kill -9, and waits until the process has ended. It does nothing where it has.
func (p *Process) Kill() error {
	err := p.Signal(os.Kill)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if p != nil && err == nil {
		<-p.done
	}
	return err
}

// Wait waits until the process has ended by itself, and kills it when that takes longer than within; false: it did. The state tells how it ended; nil for nil.
func (p *Process) Wait(within time.Duration) (*os.ProcessState, bool) {
	if p == nil {
		return nil, true
	}
	late := time.AfterFunc(within, func() { _ = p.Signal(os.Kill) }) // it may end just now
	<-p.done
	return p.cmd.ProcessState, late.Stop()
}

// WaitReady waits until the node at url serves and knows a leader of every partition. ErrEnded: it will not; else the error when ctx ends tells what it said last.
func (p *Process) WaitReady(ctx context.Context, url string) error {
	last := errors.New("it does not answer")
	for !p.Ended() {
		err := Ready(ctx, url)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not ready: %w", url, last)
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
	return ErrEnded
}

// Ready asks the node at url whether it serves and knows a leader of every partition; nil: it does.
func Ready(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := asker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, reasonMost)) // what has come says enough
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(reason)))
	}
	return nil
}
