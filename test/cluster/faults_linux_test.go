package cluster_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/crier-im/crier/internal/netns"
	"github.com/crier-im/crier/internal/process"
)

const (
	// Faults last from shortest to longest, short ones more often than long ones.
	shortest, longest = 100 * time.Millisecond, 20 * time.Second
	// drainSpread is how long nodes take to close their connections when they are stopped.
	drainSpread = time.Second
)

// fault is something that happens to a cluster. begin does it to a few of the nodes and returns in words what it has done, and what mends it; it has nothing to
// mend when it has waited for its end itself, as changes of the membership do.
type fault struct {
	kind  string
	alone bool // not while something else is broken
	wire  bool // between nodes: one at a time
	can   func() bool
	begin func(victims []int) (what string, mend func())
}

// chaos is a cluster that has faults.
type chaos struct {
	*cluster
	random  *rand.Rand
	founded int // nodes that formed the cluster: there are never fewer, and at most one more
	vendor  *vendor
	most    usage          // of a node after a round
	clocks  bool           // can be stepped
	network *netns.Network // nil: all nodes are on loopback
	disks   []*disk        // of each node; none: they have the machine's
	faults  []fault
	bag     []fault        // of which none was drawn since all were
	counts  map[string]int // by kind
	mayEnd  map[int]bool   // nodes whose disk was full to the last byte
	asked   func(node int) // puts questions to a node that will go on
}

func (c *chaos) kinds() []fault {
	always := func() bool { return true }
	network := func() bool { return c.network != nil }
	spare := func() bool { return len(c.running()) > c.founded }
	return []fault{
		{kind: "killed", can: always, begin: c.kill},
		{kind: "stopped", can: always, begin: c.hang},
		{kind: "killed", can: always, begin: c.kill}, // twice as often: these show most
		{kind: "stopped", can: always, begin: c.hang},
		{kind: "restarted", alone: true, can: always, begin: c.restartOne},
		{kind: "cut off", wire: true, can: network, begin: c.cutOff},
		{kind: "halves", wire: true, can: network, begin: c.halves},
		{kind: "one way", wire: true, can: network, begin: c.oneWay},
		{kind: "slow", wire: true, can: network, begin: c.slow},
		{kind: "lossy", wire: true, can: network, begin: c.lossy},
		{kind: "clock stepped", can: func() bool { return c.clocks }, begin: c.stepClock},
		{kind: "disk full", can: func() bool { return c.disks != nil }, begin: c.fillDisk},
		{kind: "rebalanced", alone: true, can: always, begin: c.rebalance},
		{kind: "disk wiped", alone: true, can: always, begin: c.wipe},
		{kind: "node added", alone: true, can: func() bool { return !spare() }, begin: c.add},
		{kind: "node drained", alone: true, can: spare, begin: c.drain},
	}
}

// draw takes a fault out of the bag, which is filled again when none of those in it can be.
func (c *chaos) draw() fault {
	c.t.Helper()
	f, ok := c.take(func(fault) bool { return true })
	if !ok {
		c.bag = slices.Clone(c.faults)
		c.random.Shuffle(len(c.bag), func(i, j int) { c.bag[i], c.bag[j] = c.bag[j], c.bag[i] })
		if f, ok = c.take(func(fault) bool { return true }); !ok {
			c.t.Fatal("there is no fault to make")
		}
	}
	return f
}

// take takes the first fault out of the bag that can be and is good.
func (c *chaos) take(good func(fault) bool) (fault, bool) {
	i := slices.IndexFunc(c.bag, func(f fault) bool { return f.can() && good(f) })
	if i < 0 {
		return fault{}, false
	}
	f := c.bag[i]
	c.bag = slices.Delete(c.bag, i, i+1)
	c.counts[f.kind]++
	return f, true
}

// disturb makes a fault, now and then two at a time, and mends them.
func (c *chaos) disturb() {
	c.t.Helper()
	all := []fault{c.draw()}
	if first := all[0]; !first.alone && c.random.IntN(3) == 0 {
		if second, ok := c.take(func(f fault) bool { return !f.alone && !(f.wire && first.wire) }); ok {
			all = append(all, second)
		}
	}
	away := time.Duration(float64(shortest) * math.Pow(float64(longest)/float64(shortest), c.random.Float64()))
	var mends []func()
	for _, f := range all {
		victims := c.alive() // others than those of the first that were killed or stopped
		if len(victims) == 0 {
			break
		}
		c.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		what, mend := f.begin(victims)
		c.note("%s: %s", f.kind, what)
		if mend != nil {
			mends = append(mends, mend)
		}
	}
	if len(mends) > 0 {
		time.Sleep(away)
		for _, mend := range mends {
			mend()
		}
		c.note("mended after %v", away.Round(time.Millisecond))
	}
	for _, i := range c.running() {
		n := c.nodes[i]
		err := n.ready()
		if errors.Is(err, process.ErrEnded) && c.mayEnd[i] {
			c.note("node %d had ended on its full disk", i)
			n.kill()
			n.launch()
			err = n.ready()
		}
		if err != nil {
			c.t.Fatalf("node %d: %v", i, err)
		}
	}
	clear(c.mayEnd)
	time.Sleep(time.Duration(c.random.Int64N(int64(2 * time.Second))))
}

// running returns the nodes that belong to the cluster.
func (c *chaos) running() (all []int) {
	for i, n := range c.nodes {
		if n.process != nil {
			all = append(all, i)
		}
	}
	return all
}

// few takes one of the victims, or two now and then.
func (c *chaos) few(victims []int) []int {
	return victims[:min(len(victims), 1+c.random.IntN(5)/4)]
}

func (c *chaos) kill(victims []int) (string, func()) {
	few := c.few(victims)
	for _, i := range few {
		c.nodes[i].kill()
	}
	return fmt.Sprint("nodes ", few), func() {
		for _, i := range few {
			c.nodes[i].launch()
		}
	}
}

func (c *chaos) hang(victims []int) (string, func()) {
	few := c.few(victims)
	for _, i := range few {
		c.nodes[i].signal(syscall.SIGSTOP)
	}
	return fmt.Sprint("nodes ", few), func() {
		for _, i := range few {
			if c.nodes[i].process.Ended() { // its disk is full, too
				continue
			}
			c.asked(i)
			c.nodes[i].signal(syscall.SIGCONT)
		}
	}
}

func (c *chaos) restartOne(victims []int) (string, func()) {
	c.nodes[victims[0]].restart()
	return fmt.Sprint("node ", victims[0]), nil
}

// between makes the links from some nodes to others what l says, and back if both is set.
func (c *chaos) between(from, to []int, l netns.Link, both bool) func() {
	set := func(l netns.Link) {
		for _, a := range from {
			for _, b := range to {
				if a == b {
					continue
				}
				c.network.Set(host(a), host(b), l)
				if both {
					c.network.Set(host(b), host(a), l)
				}
			}
		}
	}
	set(l)
	return func() { set(netns.Link{}) }
}

// host is the number of a node in the network.
func host(node int) int { return node + 1 }

func without(all []int, some ...int) []int {
	return slices.DeleteFunc(slices.Clone(all), func(i int) bool { return slices.Contains(some, i) })
}

func (c *chaos) cutOff(victims []int) (string, func()) {
	heal := c.between(victims[:1], c.running(), netns.Link{Cut: true}, true)
	return fmt.Sprint("node ", victims[0]), func() {
		if !c.nodes[victims[0]].process.Ended() && c.nodes[victims[0]].alive.Load() {
			c.asked(victims[0])
		}
		heal()
	}
}

func (c *chaos) halves([]int) (string, func()) {
	all := c.running()
	c.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	one, other := all[:len(all)/2], all[len(all)/2:]
	return fmt.Sprint("nodes ", one, " and ", other), c.between(one, other, netns.Link{Cut: true}, true)
}

func (c *chaos) oneWay(victims []int) (string, func()) {
	from, to := victims[:1], without(c.running(), victims[0])
	if c.random.IntN(2) == 0 {
		to = to[:1]
	}
	if c.random.IntN(2) == 0 {
		from, to = to, from
	}
	return fmt.Sprint("nothing comes from nodes ", from, " to ", to), c.between(from, to, netns.Link{Cut: true}, false)
}

func (c *chaos) slow(victims []int) (string, func()) {
	delay := 10*time.Millisecond + time.Duration(c.random.Int64N(int64(400*time.Millisecond)))
	return fmt.Sprintf("%v each way between node %d and the others", delay.Round(time.Millisecond), victims[0]),
		c.between(victims[:1], c.running(), netns.Link{Delay: delay}, true)
}

func (c *chaos) lossy([]int) (string, func()) {
	loss := 0.01 + 0.3*c.random.Float64()
	all := c.running()
	return fmt.Sprintf("%.0f %% of the packets between all nodes", 100*loss), c.between(all, all, netns.Link{Loss: loss}, false)
}

// fillDisk leaves half of what a node keeps free, or nothing at all: then it may end.
func (c *chaos) fillDisk(victims []int) (string, func()) {
	i, left := victims[0], int64(0)
	if c.random.IntN(3) > 0 {
		left = reserveMB << 19
	}
	if err := c.disks[i].leave(left); err != nil {
		c.t.Error(err)
	}
	c.mayEnd[i] = left == 0
	return fmt.Sprintf("node %d has %d MB left", i, left>>20), func() {
		if err := c.disks[i].makeRoom(); err != nil {
			c.t.Error(err)
		}
	}
}

// stepClock steps the clock of a node, and back.
func (c *chaos) stepClock(victims []int) (string, func()) {
	n, by := c.nodes[victims[0]], randomStep(c.random)
	n.step(by)
	return fmt.Sprintf("node %d by %v", victims[0], by), func() { n.step(0) }
}

func (c *chaos) rebalance([]int) (string, func()) {
	c.must("rebalance")
	return "leaders", nil
}

// must asks the cluster until it does.
func (c *chaos) must(args ...string) {
	c.t.Helper()
	eventually(c.t, strings.Join(args, " "), func() error {
		if out, err := c.cli(args...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// wipe takes a node's disk away. It comes back on an empty one, as another node; the old one is given up.
func (c *chaos) wipe(victims []int) (string, func()) {
	i := victims[0]
	n := c.nodes[i]
	old := n.id()
	n.kill()
	time.Sleep(time.Duration(c.random.Int64N(int64(3 * time.Second))))
	c.join(i)
	c.must("remove", old)
	c.settle("a disk wiped")
	return fmt.Sprintf("node %d, which was %s", i, old[:8]), nil
}

// join starts a node on an empty directory.
func (c *chaos) join(i int) {
	c.t.Helper()
	n := c.nodes[i]
	if err := os.RemoveAll(n.dir); err != nil {
		c.t.Fatal(err)
	}
	c.configure(n, 1, c.flags()...)
	n.launch()
	n.waitReady()
}

func (c *chaos) add([]int) (string, func()) {
	for i, n := range c.nodes {
		if n.process == nil {
			c.join(i)
			c.settle("a node more")
			return fmt.Sprint("node ", i), nil
		}
	}
	return "no room", nil
}

func (c *chaos) drain(victims []int) (string, func()) {
	i := victims[0]
	n := c.nodes[i]
	c.must("drain", n.id())
	if code := n.waitExit(); code != 0 {
		c.t.Errorf("the drained node ends with %d", code)
	}
	c.settle("a node less")
	return fmt.Sprint("node ", i), nil
}

// counted tells how often each kind was made.
func (c *chaos) counted() string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(c.counts)) {
		all = append(all, fmt.Sprintf("%s %d", kind, c.counts[kind]))
	}
	return strings.Join(all, ", ")
}
