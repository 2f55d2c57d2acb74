package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// known is what was acknowledged at a moment.
type known struct {
	counts map[crier.UserID]int
	tasks  []crier.TaskID
}

// now returns what has been acknowledged so far.
func (l *load) now() known {
	l.mu.Lock()
	defer l.mu.Unlock()
	return known{maps.Clone(l.counts), slices.Clone(l.tasks)}
}

// loadFor changes accounts and pushes while f runs.
func (c *cluster) loadFor(f func(l *load)) {
	l := &load{counts: make(map[crier.UserID]int)}
	ctx, enough := context.WithCancel(c.t.Context())
	defer enough()
	var hands sync.WaitGroup
	for w := range writers {
		hands.Go(func() { c.write(ctx, l, w) })
	}
	hands.Go(func() { c.push(ctx, l) })
	f(l)
	enough()
	hands.Wait()
}

// has checks that a cluster has what was acknowledged, or what came later, that a receiver who was away gets every push in order, and that all goes on.
func (c *cluster) has(was known) {
	c.t.Helper()
	for i, n := range c.nodes {
		if !n.alive.Load() {
			continue
		}
		for u, want := range was.counts {
			attrs, err := c.client(i).Attrs(c.t.Context(), u)
			if err != nil {
				c.t.Fatalf("node %d: read %s: %v", i, u, err)
			}
			if got, err := strconv.Atoi(attrs[u]["count"]); err != nil || got < want {
				c.t.Errorf("node %d says that %s has count %q, %d was acknowledged", i, u, attrs[u]["count"], want)
			}
		}
	}
	var next crier.TaskID
	c.any("push", func(cl *client.Client) (err error) {
		next, err = cl.Push(c.t.Context(), client.Push{Text: "go on", Random: 1 << 30, LifeTime: time.Hour})
		return err
	})
	tasks := append(slices.Clone(was.tasks), next)
	some := slices.IndexFunc(c.nodes, func(n *node) bool { return n.alive.Load() })
	eventually(c.t, "every push is done, for everybody", func() error {
		for part := range slices.Chunk(tasks, crier.MaxReportTasks) {
			reports, err := c.client(some).Report(c.t.Context(), part...)
			if err != nil {
				return err
			}
			for _, r := range reports {
				if r.Status != crier.StatusDone || r.Total != accounts {
					return fmt.Errorf("%+v", r)
				}
			}
		}
		return nil
	})
	ctx, silence := context.WithCancel(c.t.Context())
	var ears sync.WaitGroup
	c.front = "http://" + c.nodes[some].place.http
	r := c.listen(ctx, &ears, accounts-1)
	eventually(c.t, "who was away gets every push", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		shown := slices.DeleteFunc(slices.Clone(r.shown), func(t crier.TaskID) bool { return !slices.Contains(tasks, t) })
		if !slices.Equal(shown, tasks) { // what came after the backup began may be there, too
			return fmt.Errorf("it was shown %d of %d, and %s", len(shown), len(tasks), firstDifference(shown, tasks))
		}
		return nil
	})
	silence()
	ears.Wait()
	c.t.Logf("%d accounts, %d pushes", len(was.counts), len(tasks))
}

// Two of three nodes lose their disks while the power fails. What the third has is recovered, nothing of what was acknowledged is lost since all three had it, and
// with two new nodes there are three replicas of everything again.
func TestTwoOfThreeNodesAreLost(t *testing.T) {
	c := start(t)
	fourth, fifth := c.node(place{}), c.node(place{})
	c.prepare(appID, "count")
	c.importAll()
	var was known
	c.loadFor(func(l *load) {
		time.Sleep(2 * time.Second) // of load
		was = l.now()
	})
	survivor := c.nodes[2]
	eventually(t, "all replicas have everything", func() error {
		s, err := c.status()
		if err != nil {
			return err
		}
		for _, p := range s.Partitions {
			for _, r := range p.Replicas {
				if r.Lag > 0 {
					return fmt.Errorf("partition %s lags on %s", p.Partition, r.Node)
				}
			}
		}
		return nil
	})
	for _, n := range c.nodes[:3] {
		n.kill()
	}
	for _, n := range c.nodes[:2] {
		if err := os.RemoveAll(n.dir); err != nil {
			t.Fatal(err)
		}
	}
	survivor.launch()
	eventually(t, "it says what is missing", func() error {
		return survivor.says("503", "has no leader")
	})
	eventually(t, "what is left is recovered", func() error {
		out, err := survivor.ask("cluster", "recover", "--yes")
		if err == nil {
			t.Log(out)
			return nil
		}
		return fmt.Errorf("%w: %s", err, out)
	})
	survivor.waitReady()
	c.has(was)

	for _, n := range []*node{fourth, fifth} {
		n.place = onLoopback(t, 1)[0]
		c.configure(n, 1)
		n.launch()
		n.waitReady()
	}
	c.settle("two new nodes")
	s, err := c.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Partitions {
		if len(p.Replicas) != 3 {
			t.Errorf("partition %s has %+v", p.Partition, p.Replicas)
		}
	}
	survivor.kill()
	c.loadFor(func(*load) { time.Sleep(4 * time.Second) }) // of load, and of new leaders
}

// A backup of three nodes under load goes into one, which is killed in the middle of it, and into four.
func TestABackupOfThreeNodesIsRestored(t *testing.T) {
	c := start(t)
	c.prepare(appID, "count")
	c.importAll()
	var was known
	file := filepath.Join(t.TempDir(), "backup")
	c.loadFor(func(l *load) {
		time.Sleep(2 * time.Second) // of load
		was = l.now()
		if out, err := c.nodes[1].ask("backup", file); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		time.Sleep(500 * time.Millisecond)
	})
	for _, n := range c.nodes {
		n.kill()
	}

	one := build(t, nil)
	one.keys = c.keys
	one.here(1)
	target := one.nodes[0]
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "half")
	if err := os.WriteFile(half, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := target.ask("restore", half); err == nil || !strings.Contains(out, "nothing was restored") {
		t.Errorf("half a backup: %v: %s", err, out)
	}
	target.killAt(file, "7 of 17")
	target.launch()
	eventually(t, "it says that it is half restored", func() error {
		return target.says("503", "a restore has begun and not ended")
	})
	if out, err := target.ask("restore", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	target.waitReady()
	one.has(was)
	if out, err := target.ask("restore", file); err == nil || !strings.Contains(out, "into an empty one") {
		t.Errorf("into a cluster with data: %v: %s", err, out)
	}
	target.kill()

	four := build(t, nil)
	four.keys = c.keys
	four.here(4)
	if out, err := four.nodes[3].ask("restore", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, n := range four.nodes {
		n.waitReady()
	}
	four.has(was)
}

// killAt restores a backup, and kills the node when that is so far.
func (n *node) killAt(file, at string) {
	n.t.Helper()
	restore := exec.Command(n.bin, "restore", file, "--url", "http://"+n.place.http, "--token", token)
	progress, err := restore.StderrPipe()
	if err == nil {
		err = restore.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	killed := false
	for lines := bufio.NewScanner(progress); lines.Scan(); {
		if strings.Contains(lines.Text(), at) {
			n.kill()
			killed = true
		}
	}
	if err := restore.Wait(); err == nil || !killed {
		n.t.Errorf("it was killed: %t, and restored: %v", killed, err)
	}
}
