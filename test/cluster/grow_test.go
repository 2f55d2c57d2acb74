package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

// balancer is what stands in front of the nodes: it passes each request, and each connection, to a node that is alive.
func (c *cluster) balancer() string {
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		some := c.alive()
		if len(some) == 0 {
			some = []int{0} // the answer is that nobody is there
		}
		r.SetURL(&url.URL{Scheme: "http", Host: c.nodes[some[rand.IntN(len(some))]].place.http})
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
	some := c.nodes[c.alive()[0]]
	return some.ask(append([]string{"cluster"}, args...)...)
}

// ask runs a command of the operator against the node.
func (n *node) ask(args ...string) (string, error) {
	out, err := exec.CommandContext(n.t.Context(), n.bin, append(args, "--url", "http://"+n.place.http, "--token", token)...).CombinedOutput()
	return string(out), err
}

// status returns what crier cluster status tells.
func (c *cluster) status() (*crier.ClusterStatus, error) {
	out, err := c.cli("status", "--json")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	s := new(crier.ClusterStatus)
	return s, json.Unmarshal([]byte(out), s)
}

// settle waits until every partition has its replicas.
func (c *cluster) settle(what string) {
	c.t.Helper()
	began := time.Now()
	if out, err := c.cli("wait", "--timeout", "2m"); err != nil {
		status, _ := c.cli("status")
		c.t.Fatalf("%s: %v\n%s%s", what, err, out, status)
	}
	c.note("%s: settled after %v", what, time.Since(began).Round(time.Millisecond))
}

// Nodes join, are drained, die and are given up under load. Nothing acknowledged is lost, and every push reaches everybody once.
func TestNodesComeAndGo(t *testing.T) {
	c := start(t)
	c.front = c.balancer()
	fourth, fifth := c.node(place{}), c.node(place{})
	join := func(n *node) {
		n.place = onLoopback(t, 1)[0] // not before: others take what is free for long
		c.configure(n, 1)
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
		if code := drained.waitExit(); code != 0 {
			t.Errorf("the drained node ends with %d", code)
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
		code := dead.waitExit()
		if log, err := os.ReadFile(dead.log); code != 1 || err != nil || !strings.Contains(string(log), "was removed from the cluster") {
			t.Errorf("the node that was given up ends with %d", code)
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
	fourth := c.node(place{})
	c.underLoad(func() {
		time.Sleep(time.Second) // of load
		fourth.place = onLoopback(t, 1)[0]
		c.configure(fourth, 1, "--cluster-moves-at-once", "1")
		fourth.launch()
		fourth.waitReady()
		var coordinator *node
		eventually(t, "replicas move", func() error {
			s, err := c.status()
			if err != nil {
				return err
			}
			if s.Moving == 0 {
				return errors.New("nothing moves")
			}
			for _, n := range c.nodes {
				if n.id() == s.Coordinator {
					coordinator = n
				}
			}
			return nil
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
