// Package localcluster runs the nodes of a cluster as processes of this machine, for demos.
package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/crier-im/crier/internal/freeport"
)

const (
	// readyWithin bounds how long a node may take until it serves, with a leader known for every partition.
	readyWithin = time.Minute
	// stopWithin is how long a node may drain.
	stopWithin = 10 * time.Second
)

// Config says which cluster.
type Config struct {
	Binary string // of crier
	Dir    string // for data and logs; the nodes make folders in it
	Nodes  int
	Token  string   // the operator's
	Flags  []string // more flags of crier serve
}

// Cluster is nodes that were started together.
type Cluster struct{ Nodes []*Node }

// Node is one process, with the same data and addresses through all its lives. It is for one goroutine.
type Node struct {
	Number  int // from 1
	URL     string
	Log     string // file of what it printed, in all its lives
	command []string
	process *exec.Cmd
}

// Start starts the nodes and waits until each serves. What was started ends with Close, also after an error.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	at, err := freeport.Addresses(4 * cfg.Nodes)
	if err != nil {
		return nil, err
	}
	c := new(Cluster)
	gossip, web, raft, actors := at[:cfg.Nodes], at[cfg.Nodes:2*cfg.Nodes], at[2*cfg.Nodes:3*cfg.Nodes], at[3*cfg.Nodes:]
	join := gossip
	if cfg.Nodes == 1 {
		join = nil // one node forms its cluster by itself
	}
	for i := range cfg.Nodes {
		dir := filepath.Join(cfg.Dir, fmt.Sprintf("node-%d", i+1))
		c.Nodes = append(c.Nodes, &Node{Number: i + 1, URL: "http://" + web[i], Log: dir + ".log", command: append([]string{
			cfg.Binary, "serve", "--data-dir", dir, "--http-listen", web[i], "--operator-token", cfg.Token,
			"--cluster-gossip-listen", gossip[i], "--cluster-raft-listen", raft[i], "--cluster-actor-listen", actors[i],
			"--cluster-bootstrap-expect", fmt.Sprint(cfg.Nodes), "--cluster-join", strings.Join(join, ","),
		}, cfg.Flags...)})
	}
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return c, err
		}
	}
	for _, n := range c.Nodes {
		if err := n.WaitReady(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Start starts the process. It does not wait until it serves.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	n.process = exec.Command(n.command[0], n.command[1:]...)
	n.process.Stdout, n.process.Stderr = log, log
	if err := n.process.Start(); err != nil {
		n.process = nil
		return fmt.Errorf("start node %d: %w", n.Number, err)
	}
	return nil
}

// PID returns the id of the process, 0 while there is none.
func (n *Node) PID() int {
	if n.process == nil {
		return 0
	}
	return n.process.Process.Pid
}

// WaitReady waits until the node serves and knows a leader of every partition, for a minute at most.
func (n *Node) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	last := errors.New("it does not answer")
	for {
		err := ready(ctx, n.URL)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("node %d is not ready (%w): see %s", n.Number, last, n.Log)
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func ready(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// Kill is kill -9. It does nothing where no process runs.
func (n *Node) Kill() error {
	if n.process == nil {
		return nil
	}
	err := n.process.Process.Kill()
	_ = n.process.Wait() // says that it was killed
	n.process = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Close stops every node: gently at first, and after 10 s as Kill does.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		if n.process != nil {
			_ = n.process.Process.Signal(syscall.SIGTERM) // Kill follows
		}
	}
	for _, n := range c.Nodes {
		if n.process == nil {
			continue
		}
		late := time.AfterFunc(stopWithin, func() { _ = n.process.Process.Kill() })
		_ = n.process.Wait() // a node that has to be killed lost nothing
		late.Stop()
		errs = append(errs, n.Kill())
	}
	return errors.Join(errs...)
}
