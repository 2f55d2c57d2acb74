// Package localcluster runs the nodes of a cluster as processes of this machine, for demos.
package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/crier-im/crier/internal/freeport"
	"github.com/crier-im/crier/internal/process"
)

const (
	// readyWithin bounds how long a node may take until it serves, with a leader known for every partition.
	readyWithin = time.Minute
	// addressesOfANode: gossip, HTTP, raft, actors.
	addressesOfANode = 4
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
type Cluster struct {
	Nodes  []*Node
	cfg    Config
	gossip []string // addresses of the first nodes
}

// Node is one process, with the same data and addresses through all its lives. It is for one goroutine.
type Node struct {
	Number  int // from 1
	URL     string
	Log     string // file of what it printed, in all its lives
	command []string
	process *process.Process // nil: none
}

// Start starts the nodes and waits until each serves. What was started ends with Close, also after an error.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	at, err := freeport.Addresses(addressesOfANode * cfg.Nodes)
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg}
	for i := range cfg.Nodes {
		c.gossip = append(c.gossip, at[addressesOfANode*i])
	}
	for i := range cfg.Nodes {
		c.add(cfg.Nodes, at[addressesOfANode*i:])
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

// add makes a node, which is not started yet, of the next of the addresses.
func (c *Cluster) add(expect int, at []string) *Node {
	number, join := len(c.Nodes)+1, c.gossip
	if expect == 1 && number == 1 {
		join = nil // it forms its cluster by itself
	}
	dir := filepath.Join(c.cfg.Dir, fmt.Sprintf("node-%d", number))
	n := &Node{Number: number, URL: "http://" + at[1], Log: dir + ".log", command: append([]string{
		c.cfg.Binary, "serve", "--data-dir", dir, "--http-listen", at[1], "--operator-token", c.cfg.Token,
		"--cluster-gossip-listen", at[0], "--cluster-raft-listen", at[2], "--cluster-actor-listen", at[3],
		"--cluster-bootstrap-expect", fmt.Sprint(expect), "--cluster-join", strings.Join(join, ","),
	}, c.cfg.Flags...)}
	c.Nodes = append(c.Nodes, n)
	return n
}

// Grow starts one node more, which joins the others, and waits until it serves. Replicas move to it later.
func (c *Cluster) Grow(ctx context.Context) (*Node, error) {
	at, err := freeport.Addresses(addressesOfANode)
	if err != nil {
		return nil, err
	}
	n := c.add(1, at)
	if err := n.Start(); err != nil {
		return n, err
	}
	return n, n.WaitReady(ctx)
}

// Start starts the process. It does not wait until it serves.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(n.command[0], n.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	n.process, err = process.Start(cmd)
	return err
}

// PID returns the id of the process, 0 while there is none.
func (n *Node) PID() int { return n.process.PID() }

// WaitReady waits until the node serves and knows a leader of every partition, for a minute at most.
func (n *Node) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := n.process.WaitReady(ctx, n.URL); err != nil {
		return fmt.Errorf("node %d: %w: see %s", n.Number, err, n.Log)
	}
	return nil
}

// Kill is kill -9. It does nothing where no process runs.
func (n *Node) Kill() error {
	err := n.process.Kill()
	n.process = nil
	return err
}

// Close stops every node: gently at first, and after 10 s as Kill does.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		_ = n.process.Signal(syscall.SIGTERM) // Kill follows
	}
	for _, n := range c.Nodes {
		n.process.Wait(stopWithin) // a node that has to be killed lost nothing
		errs = append(errs, n.Kill())
	}
	return errors.Join(errs...)
}
