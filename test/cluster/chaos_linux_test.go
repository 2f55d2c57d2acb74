package cluster_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier/internal/netns"
)

var (
	chaosDuration = flag.Duration("chaos-duration", 20*time.Second, "how long TestChaos begins rounds")
	chaosSeed     = flag.Uint64("chaos-seed", 1, "which faults it makes; 0: any")
	chaosFaults   = flag.String("chaos-faults", "", "kinds of faults that it makes, with commas; empty: all")
	chaosNodes    = flag.Int("chaos-nodes", nodes, "how many nodes form its cluster")
)

const (
	// roundLength is how long faults begin in a round.
	roundLength = 5 * time.Second
	// Every so many rounds all nodes are killed at once, and their replicas compared.
	compareEvery = 4
	// heapSlack is how much more than twice a node's heap may grow: the memtables of its two databases come and go.
	heapSlack = 256 << 20
)

// newChaos starts a cluster whose nodes have networks and disks of their own, as far as this process may make them.
func newChaos(t *testing.T, seed uint64, founders int) *chaos {
	t.Helper()
	removeOldDisks(t)
	clocks := stepping(t)
	c := &chaos{cluster: build(t, clocks), clocks: clocks != nil, random: rand.New(rand.NewPCG(seed, 0)), founded: founders, counts: make(map[string]int), mayEnd: make(map[int]bool)}
	slots := founders + 1
	places := c.places(slots)
	for _, p := range places {
		n := c.node(p)
		d, err := newDisk(t)
		switch {
		case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES):
			t.Logf("NOT TESTED: full disks: a small tmpfs needs root: %v", err)
		case err != nil:
			t.Fatal(err)
		default:
			c.disks = append(c.disks, d)
			n.dir = filepath.Join(d.dir, "data")
		}
	}
	c.faults = c.kinds()
	if *chaosFaults != "" {
		kinds := strings.Split(*chaosFaults, ",")
		c.faults = slices.DeleteFunc(c.faults, func(f fault) bool { return !slices.Contains(kinds, f.kind) })
	}
	outside := "127.0.0.1:0"
	if c.network != nil {
		outside = fmt.Sprintf("%s:0", c.network.Address(0))
	}
	c.vendor = newVendor(t, outside)
	c.form(c.nodes[:founders], c.flags()...)
	c.keys[appID] = c.createApp(appID)
	c.prepare(appID, "count")
	return c
}

// flags are what all nodes are started with, besides what every cluster's are.
func (c *chaos) flags() []string {
	flags := append([]string{"--gateway-drain-spread", drainSpread.String(), "--http-allow-plain-http"}, c.vendor.flags...)
	if c.disks != nil {
		flags = append(flags, "--storage-min-free-disk", strconv.Itoa(reserveMB))
	}
	return flags
}

// places returns a host of a network for each node, or else addresses of this machine.
func (c *chaos) places(n int) []place {
	network, err := netns.New(n)
	if errors.Is(err, netns.ErrUnsupported) {
		c.t.Logf("NOT TESTED: faults of the network: %v", err)
		return onLoopback(c.t, n)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
		if err := network.Close(); err != nil {
			c.t.Error(err)
		}
	})
	c.network = network
	var all []place
	for i := range n {
		at := func(port int) string { return fmt.Sprintf("%s:%d", network.Address(host(i)), port) }
		all = append(all, place{
			gossip: at(7946), http: at(8080), raft: at(7947), actors: at(7948),
			start: func(c *exec.Cmd) error { return network.Start(host(i), c) },
		})
	}
	return all
}

// Whatever happens to nodes, their disks and what is between them, accounts are linearizable, and pushes reach whom they matched, once and in order.
// A round is some faults under load, one after the other or two at a time; then all is mended, and the promises of docs are checked.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-chaos-seed %d -chaos-duration %v -chaos-nodes %d -chaos-faults %q", seed, *chaosDuration, *chaosNodes, *chaosFaults)
	c := newChaos(t, seed, *chaosNodes)
	c.front = c.balancer()
	listening, silence := context.WithCancel(t.Context())
	var ears sync.WaitGroup
	defer ears.Wait()
	defer silence()
	w := newCrowd(listening, c.cluster, &ears)
	w.givePhones(c.vendor)
	began, number := time.Now(), 0
	for time.Since(began) < *chaosDuration && !t.Failed() {
		number++
		c.note("round %d", number)
		c.round(number, w)
		if !t.Failed() && (number%compareEvery == 0 || time.Since(began) >= *chaosDuration) {
			c.checkReplicas()
		}
	}
	t.Logf("%d rounds in %v: %s; a node had %v at most", number, time.Since(began).Round(time.Second), c.counted(), c.most)
}

// round makes faults under load, mends them and checks what everybody was told.
func (c *chaos) round(number int, w *crowd) {
	t := c.t
	t.Helper()
	h := newHistory(number)
	working, enough := context.WithCancel(t.Context())
	var hands sync.WaitGroup
	defer hands.Wait()
	defer enough()
	c.asked = func(node int) { c.ask(h, &hands, node) }
	c.changeAccounts(working, h, &hands, c.random)
	w.load(working, &hands, c.random)
	for time.Since(h.began) < min(roundLength, *chaosDuration) && !t.Failed() {
		c.disturb()
	}
	for _, i := range c.running() {
		if c.nodes[i].process.Ended() {
			t.Errorf("node %d has ended by itself: see %s", i, c.nodes[i].log)
		}
	}
	enough()
	hands.Wait()
	if t.Failed() {
		return
	}
	c.readAll(h)
	c.judge(h)
	w.check()
	c.checkGrowth()
}

// checkGrowth checks that no node has many more goroutines, nor much more memory, than it had after the first round of its process.
func (c *chaos) checkGrowth() {
	for _, i := range c.alive() {
		n := c.nodes[i]
		eventually(c.t, "what a node uses is bounded", func() error {
			now, err := n.usage()
			if err != nil {
				return err
			}
			if n.calm == (usage{}) {
				n.calm = now
			}
			c.most.goroutines, c.most.heap = max(c.most.goroutines, now.goroutines), max(c.most.heap, now.heap)
			if now.goroutines > n.calm.goroutines*3/2+100 || now.heap > n.calm.heap*2+heapSlack {
				return fmt.Errorf("node %d has %v, it had %v", i, now, n.calm)
			}
			return nil
		})
	}
}
