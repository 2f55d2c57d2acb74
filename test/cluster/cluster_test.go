package cluster_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/process/processtest"
)

const (
	nodes    = 3
	accounts = 200
	perNode  = 5 // receivers that are connected to each node
	writers  = 4
	patience = time.Minute
	logTail  = 20_000 // bytes of a node's log that are shown after a failure
	token    = "the token of the operator"
	appID    = crier.AppID(1400000001)
)

// cluster is nodes, three at first, and an app.
type cluster struct {
	t          *testing.T
	bin, certs string
	logs       string
	gossip     []string // addresses of the nodes that formed it
	nodes      []*node
	keys       map[crier.AppID]string // of apps, to make UserSigs with
	timeline   timeline
	front      string // where receivers connect; empty: each to a node of its own
}

// start makes a cluster of three nodes on this machine.
func start(t *testing.T, more ...string) *cluster {
	t.Helper()
	c := build(t, nil)
	c.here(nodes, more...)
	c.keys[appID] = c.createApp(appID)
	return c
}

// build makes the binary, with other sources than there are or nil, and what else the nodes have in common. At the end every process is killed; after a failure the logs stay.
func build(t *testing.T, more sources) *cluster {
	t.Helper()
	all := planted(t)
	maps.Copy(all, more)
	bin, err := processtest.Build(t.TempDir(), all.overlay(t)...)
	if err != nil {
		t.Fatal(err)
	}
	certs := t.TempDir() // what the nodes tell one another is encrypted
	for _, args := range [][]string{{"tls", "ca", "--dir", certs}, {"tls", "cert", "crier-node", "--dir", certs}} {
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	logs, err := os.MkdirTemp("", "crier-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, bin: bin, certs: certs, logs: logs, keys: make(map[crier.AppID]string)}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
		if !t.Failed() {
			_ = os.RemoveAll(logs) // in the folder for what is temporary
			return
		}
		for i, n := range c.nodes {
			text, _ := os.ReadFile(n.log)
			t.Logf("node %d printed at last:\n%s", i, text[max(0, len(text)-logTail):])
		}
		c.tell()
	})
	return c
}

// here starts n nodes on this machine that form the cluster.
func (c *cluster) here(n int, more ...string) {
	c.t.Helper()
	for _, p := range onLoopback(c.t, n) {
		c.node(p)
	}
	c.form(c.nodes, more...)
}

// form starts nodes that form the cluster together.
func (c *cluster) form(founders []*node, more ...string) {
	c.t.Helper()
	if len(founders) > 1 { // else it would wait for somebody whom it can join
		for _, n := range founders {
			c.gossip = append(c.gossip, n.place.gossip)
		}
	}
	for _, n := range founders {
		c.configure(n, len(founders), more...)
		n.launch()
	}
	for _, n := range founders {
		n.waitReady()
	}
}

// node makes room for one more node, before there is load.
func (c *cluster) node(p place) *node {
	n := &node{t: c.t, bin: c.bin, place: p, dir: c.t.TempDir(), log: filepath.Join(c.logs, fmt.Sprintf("node-%d.log", len(c.nodes)))}
	c.nodes = append(c.nodes, n)
	return n
}

// configure says how a node is started, once the nodes that form the cluster are known.
func (c *cluster) configure(n *node, expect int, more ...string) {
	n.args = append([]string{
		"serve", "--data-dir", n.dir, "--http-listen", n.place.http, "--cluster-gossip-listen", n.place.gossip,
		"--cluster-raft-listen", n.place.raft, "--cluster-actor-listen", n.place.actors, "--cluster-partitions", fmt.Sprint(partitions),
		"--cluster-bootstrap-expect", fmt.Sprint(expect), "--cluster-join", strings.Join(c.gossip, ","),
		"--cluster-tls-ca", filepath.Join(c.certs, "ca.crt"), "--cluster-tls-cert", filepath.Join(c.certs, "crier-node.crt"),
		"--cluster-tls-key", filepath.Join(c.certs, "crier-node.key"), "--cluster-gossip-key", strings.Repeat("c0ffee42", 8),
		"--operator-token", token, "--storage-min-free-disk", "1", "--log-level", "info",
	}, more...)
}

// createApp makes an app without limits, and returns its key.
func (c *cluster) createApp(id crier.AppID) string {
	c.t.Helper()
	var made struct{ Key string }
	limits := map[string]any{"push_interval": 0, "pushes_per_day": 0, "calls_per_second": 0, "kept_pushes": 0, "fallback_after": 1}
	if err := c.operate(0, http.MethodPost, "/v1/apps", map[string]any{"id": id, "limits": limits}, &made); err != nil {
		c.t.Fatal(err)
	}
	return made.Key
}

// operate calls the operator's API of a node, and reads the answer into out.
func (c *cluster) operate(i int, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.nodes[i].place.http+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s, %w", method, path, resp.Status, text, err)
	}
	return json.Unmarshal(text, out)
}

// prepare names an attribute of an app, and waits until every node knows it.
func (c *cluster) prepare(app crier.AppID, attribute string) {
	c.t.Helper()
	eventually(c.t, "the app is known everywhere", func() error { return c.everywhere(app, func(map[int]string) bool { return true }) })
	c.anyOf(app, "names", func(cl *client.Client) error { return cl.SetAttrNames(c.t.Context(), map[int]string{0: attribute}) })
	eventually(c.t, "the name is known everywhere", func() error {
		return c.everywhere(app, func(names map[int]string) bool { return names[0] == attribute })
	})
}

// everywhere returns an error unless each node knows attribute names of the app that are good.
func (c *cluster) everywhere(app crier.AppID, good func(names map[int]string) bool) error {
	for _, i := range c.alive() {
		if names, err := c.clientOf(app, i).AttrNames(c.t.Context()); err != nil || !good(names) {
			return fmt.Errorf("node %d: %v, %w", i, names, err)
		}
	}
	return nil
}

// alive returns the numbers of the nodes that are.
func (c *cluster) alive() (all []int) {
	for i, n := range c.nodes {
		if n.alive.Load() {
			all = append(all, i)
		}
	}
	return all
}

// client returns a client of one node, for the first app.
func (c *cluster) client(i int) *client.Client { return c.clientOf(appID, i) }

func (c *cluster) clientOf(app crier.AppID, i int) *client.Client {
	cl, err := client.New("http://"+c.nodes[i].place.http, app, "administrator", client.SecretKey(c.keys[app]))
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// any calls f with clients of nodes that are alive, until one call has succeeded.
func (c *cluster) any(what string, f func(*client.Client) error) {
	c.t.Helper()
	c.anyOf(appID, what, f)
}

func (c *cluster) anyOf(app crier.AppID, what string, f func(*client.Client) error) {
	c.t.Helper()
	last := errors.New("no node is alive")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if some := c.alive(); len(some) > 0 {
			if last = f(c.clientOf(app, some[rand.IntN(len(some))])); last == nil {
				return
			}
		}
	}
	c.t.Errorf("%s: not within %v: %v", what, patience, last)
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = f(); last == nil {
			return
		}
	}
	t.Errorf("%s: not within %v: %v", what, patience, last)
}
