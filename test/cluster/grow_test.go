package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

// balancer is what stands in front of the nodes: it passes each request, and each connection, to a node that is alive.
func (c *cluster) balancer() string {
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		var alive []*node
		for _, n := range c.nodes {
			if n.alive.Load() {
				alive = append(alive, n)
			}
		}
		r.SetURL(&url.URL{Scheme: "http", Host: alive[rand.IntN(len(alive))].address})
	}}
	server := httptest.NewServer(proxy)
	c.t.Cleanup(server.Close)
	return server.URL
}

// id returns the node's id.
func (n *node) id() string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "crier.json"))
	var identity struct {
		ID string `json:"node_id"`
	}
	if err == nil {
		err = json.Unmarshal(text, &identity)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return identity.ID
}

// cli runs crier cluster against a node that is alive.
func (c *cluster) cli(args ...string) (string, error) {
	some := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.alive.Load() })]
	return some.ask(append([]string{"cluster"}, args...)...)
}

// ask runs a command of the operator against the node.
func (n *node) ask(args ...string) (string, error) {
	out, err := exec.CommandContext(n.t.Context(), n.bin, append(args, "--url", "http://"+n.address, "--token", token)...).CombinedOutput()
	return string(out), err
}

// settle waits until every partition has its replicas.
func (c *cluster) settle(what string) {
	c.t.Helper()
	began := time.Now()
	if out, err := c.cli("wait", "--timeout", "2m"); err != nil {
		status, _ := c.cli("status")
		c.t.Fatalf("%s: %v\n%s%s", what, err, out, status)
	}
	c.t.Logf("%s: settled after %v", what, time.Since(began).Round(time.Millisecond))
}

// waitExit waits until the process has ended by itself, and returns what it ended with.
func (n *node) waitExit() error {
	n.t.Helper()
	late := time.AfterFunc(2*patience, func() {
		n.t.Error("the process has not ended")
		_ = n.process.Process.Kill()
	})
	defer late.Stop()
	err := n.process.Wait()
	n.alive.Store(false)
	n.process = nil
	return err
}

// Nodes join, are drained, die and are given up under load. Nothing acknowledged is lost, and every push reaches everybody once.
func TestNodesComeAndGo(t *testing.T) {
	c := start(t)
	c.front = c.balancer()
	fourth, fifth := c.place(), c.place()
	join := func(n *node) {
		c.configure(n, 1, [4]string(freeAddresses(t, 4)))
		n.launch()
		n.waitReady()
	}
	c.underLoad(func() {
		time.Sleep(time.Second) // of load
		join(fourth)
		c.settle("a fourth node")

		drained := c.nodes[1]
		if out, err := c.cli("drain", drained.id()); err != nil {
			t.Fatalf("drain: %v\n%s", err, out)
		}
		if err := drained.waitExit(); err != nil {
			t.Errorf("the drained node ends with %v", err)
		}
		c.settle("one is drained")

		dead := c.nodes[2]
		dead.kill()
		eventually(t, "the dead node is given up", func() error {
			if out, err := c.cli("remove", dead.id()[:8]); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		c.settle("one is dead")

		dead.launch()
		var exit *exec.ExitError
		if err := dead.waitExit(); !errors.As(err, &exit) || !strings.Contains(dead.log.String(), "was removed from the cluster") {
			t.Errorf("the node that was given up ends with %v", err)
		}
		join(fifth) // on a new disk
		c.settle("a new node in its place")
		out, err := c.cli("status")
		t.Logf("%v\n%s", err, out)
	})
}

// The node that moves replicas is killed in the middle of it, and then the node that gets them: the next one goes on, and both come back.
func TestKillsInTheMiddleOfMoves(t *testing.T) {
	c := start(t, "--cluster-moves-at-once", "1")
	c.front = c.balancer()
	fourth := c.place()
	c.underLoad(func() {
		time.Sleep(time.Second) // of load
		c.configure(fourth, 1, [4]string(freeAddresses(t, 4)), "--cluster-moves-at-once", "1")
		fourth.launch()
		fourth.waitReady()
		var coordinator *node
		eventually(t, "replicas move", func() error {
			out, err := c.cli("status", "--json")
			var s crier.ClusterStatus
			if err == nil {
				err = json.Unmarshal([]byte(out), &s)
			}
			if err == nil && s.Moving == 0 {
				err = errors.New("nothing moves")
			}
			for _, n := range c.nodes {
				if err == nil && n.id() == s.Coordinator {
					coordinator = n
				}
			}
			return err
		})
		if coordinator == nil {
			t.Fatal("nobody coordinates")
		}
		coordinator.kill()
		time.Sleep(3 * time.Second) // of load, and of another coordinator
		fourth.kill()
		time.Sleep(time.Second)
		for _, n := range []*node{coordinator, fourth} {
			if n.process == nil {
				n.launch()
				n.waitReady()
			}
		}
		c.settle("four nodes")
		out, err := c.cli("status")
		t.Logf("%v\n%s", err, out)
	})
}
