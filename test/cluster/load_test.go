package cluster_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

func name(i int) crier.UserID { return crier.UserID(fmt.Sprintf("user%03d", i)) }

// receiver is one connected account: what its SDK has shown, in order.
type receiver struct {
	mu    sync.Mutex
	shown []crier.TaskID
}

func (c *cluster) listen(ctx context.Context, wg *sync.WaitGroup, i int) *receiver {
	r := new(receiver)
	cfg := client.ListenConfig{
		URL: cmp.Or(c.front, "http://"+c.nodes[i%min(nodes, len(c.nodes))].place.http), SDKAppID: appID, UserID: name(i), UserSig: client.SecretKey(c.keys[appID]),
		OnMessage: func(_ context.Context, m *client.Message) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.shown = append(r.shown, m.Task)
			return nil
		},
	}
	wg.Go(func() {
		if err := client.Listen(ctx, cfg); err != nil && ctx.Err() == nil {
			c.t.Errorf("receiver %d: %v", i, err)
		}
	})
	return r
}

// load changes accounts and pushes until it is told to stop.
type load struct {
	mu     sync.Mutex
	counts map[crier.UserID]int // acknowledged
	tasks  []crier.TaskID       // acknowledged, in order
}

func (c *cluster) write(ctx context.Context, l *load, w int) {
	for n := 1; ctx.Err() == nil; n++ {
		u := name(w*accounts/writers + n%(accounts/writers))
		c.any("write", func(cl *client.Client) error {
			return cl.SetAttrs(c.t.Context(), map[crier.UserID]map[string]string{u: {"count": fmt.Sprint(n)}})
		})
		l.mu.Lock()
		l.counts[u] = n
		l.mu.Unlock()
	}
}

func (c *cluster) push(ctx context.Context, l *load) {
	for random := uint32(1); ctx.Err() == nil; random++ {
		var task crier.TaskID
		c.any("push", func(cl *client.Client) (err error) {
			task, err = cl.Push(c.t.Context(), client.Push{Text: fmt.Sprint("push ", random), Random: random, LifeTime: time.Hour})
			if errors.Is(err, crier.CodePushRepeated) && task != "" {
				return nil // the first attempt had come through
			}
			return err
		})
		l.mu.Lock()
		l.tasks = append(l.tasks, task)
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestEachNodeIsKilledInTurn(t *testing.T) {
	underLoad(t, func(n *node) {
		n.kill()
		time.Sleep(5 * time.Second) // of load without it
		n.launch()
		n.waitReady()
	})
}

// A node that hangs, as on a machine that swaps or is moved, is no other than one that is dead, but for what it believes when it goes on:
// that it still leads.
func TestEachNodeHangsInTurn(t *testing.T) {
	underLoad(t, func(n *node) {
		n.signal(syscall.SIGSTOP)
		time.Sleep(4 * time.Second) // of load without it
		n.signal(syscall.SIGCONT)
		n.waitReady()
	})
}

// A rolling restart, as for an upgrade: one node after the other ends and comes back, with its receivers sent elsewhere.
func TestARollingRestart(t *testing.T) {
	underLoad(t, (*node).restart)
}

// underLoad does something to each node in turn while accounts are changed and pushes sent, and checks what is there then.
func underLoad(t *testing.T, disturb func(*node)) {
	t.Helper()
	c := start(t)
	c.underLoad(func() {
		for i, n := range c.nodes {
			time.Sleep(2 * time.Second) // of load
			began := time.Now()
			disturb(n)
			t.Logf("node %d was away for %v", i, time.Since(began).Round(time.Millisecond))
		}
		time.Sleep(2 * time.Second)
	})
}

// underLoad does something while accounts are changed and pushes sent, and checks what is there then.
func (c *cluster) underLoad(disturb func()) {
	t := c.t
	t.Helper()
	c.prepare(appID, "count")
	c.importAll()
	listening, silence := context.WithCancel(t.Context())
	defer silence()
	var ears sync.WaitGroup
	var receivers []*receiver
	for i := range nodes * perNode {
		receivers = append(receivers, c.listen(listening, &ears, i))
	}
	l := &load{counts: make(map[crier.UserID]int)}
	loading, enough := context.WithCancel(t.Context())
	defer enough()
	var hands sync.WaitGroup
	for w := range writers {
		hands.Go(func() { c.write(loading, l, w) })
	}
	hands.Go(func() { c.push(loading, l) })
	disturb()
	enough()
	hands.Wait()
	c.check(l, receivers)
	silence()
	ears.Wait()
}

// importAll makes the accounts.
func (c *cluster) importAll() {
	c.t.Helper()
	for from := 0; from < accounts; from += 100 {
		var users []crier.UserID
		for i := from; i < from+100; i++ {
			users = append(users, name(i))
		}
		c.any("import", func(cl *client.Client) error { return cl.Import(c.t.Context(), users...) })
	}
}

// check holds what was acknowledged against what is there.
func (c *cluster) check(l *load, receivers []*receiver) {
	c.t.Helper()
	for i, n := range c.nodes {
		if !n.alive.Load() {
			continue
		}
		for u, want := range l.counts {
			attrs, err := c.client(i).Attrs(c.t.Context(), u)
			if err != nil {
				c.t.Fatalf("node %d: read %s: %v", i, u, err)
			}
			if got := attrs[u]["count"]; got != fmt.Sprint(want) {
				c.t.Errorf("node %d says that %s has count %q, %d was acknowledged", i, u, got, want)
			}
		}
	}
	eventually(c.t, "every push is done, for everybody", func() error {
		some := slices.IndexFunc(c.nodes, func(n *node) bool { return n.alive.Load() })
		for from := 0; from < len(l.tasks); from += crier.MaxReportTasks {
			reports, err := c.client(some).Report(c.t.Context(), l.tasks[from:min(from+crier.MaxReportTasks, len(l.tasks))]...)
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
	for i, r := range receivers {
		eventually(c.t, fmt.Sprint("receiver ", i, " has every push"), func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.shown) < len(l.tasks) {
				return fmt.Errorf("%d of %d", len(r.shown), len(l.tasks))
			}
			return nil
		})
		r.mu.Lock()
		if !slices.Equal(r.shown, l.tasks) {
			c.t.Errorf("receiver %d was shown %d messages, once and in order are %d: %v", i, len(r.shown), len(l.tasks), firstDifference(r.shown, l.tasks))
		}
		r.mu.Unlock()
	}
	changes := 0
	for _, n := range l.counts {
		changes += n
	}
	c.t.Logf("%d accounts changed, %d pushes to %d receivers", len(l.counts), len(l.tasks), len(receivers))
}

func firstDifference(a, b []crier.TaskID) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("at %d, %s in the place of %s", i, a[i], b[i])
		}
	}
	return "one is longer"
}
