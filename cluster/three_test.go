package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
	"github.com/crier-im/crier/cluster/transport/transporttest"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
)

// trio is nodes in one process, three at first. A node that was stopped keeps its storage.
type trio struct {
	t       testing.TB
	configs []cluster.Config
	stores  []*clustertest.Storage
	nodes   []*cluster.Node       // nil: not running
	mute    atomic.Value          // clustertest.Host.Mute of all
	faults  *transporttest.Faults // of raft's connections
}

func newTrio(t testing.TB, partitions int) *trio {
	t.Helper()
	return newNodes(t, 3, partitions)
}

// newNodes forms a cluster of n nodes.
func newNodes(t testing.TB, n, partitions int, change ...func(*cluster.Config)) *trio {
	t.Helper()
	if underRace {
		t.Skip("protoactor and gRPC have a race of their own with several nodes in one process: see underRace")
	}
	c := &trio{t: t, faults: transporttest.NewFaults(1)}
	var which []int
	for range n {
		which = append(which, c.add(n, partitions))
	}
	for i := range c.configs {
		for _, f := range change {
			f(&c.configs[i])
		}
	}
	for i := range c.configs { // with the addresses that change has chosen
		for j := range c.configs {
			if n > 1 {
				c.configs[i].Join = append(c.configs[i].Join, c.configs[j].GossipListen)
			}
		}
	}
	c.start(which...)
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

// add makes the configuration of one more node, which is not started yet.
func (c *trio) add(expect, partitions int, join ...string) int {
	c.t.Helper()
	address := freeporttest.Address(c.t)
	i := len(c.configs)
	c.configs = append(c.configs, cluster.Config{
		NodeID: fmt.Sprint("node-", i), Partitions: partitions, Expect: expect, GossipListen: address, Join: join,
		Grace: time.Hour, BalanceAfter: time.Second, Dial: c.faults.Dialer(fmt.Sprint("node-", i)), Codec: clustertest.Codec{}, Logger: c.logger(i),
	})
	c.stores, c.nodes = append(c.stores, clustertest.NewStorage()), append(c.nodes, nil)
	return i
}

// logger writes to the test's log, if the environment asks for it.
func (c *trio) logger(i int) *slog.Logger {
	if os.Getenv("CRIER_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", i)
}

func (c *trio) isMute(p crier.PartitionID, g *cluster.Group, message []byte) bool {
	mute, ok := c.mute.Load().(func(crier.PartitionID, *cluster.Group, []byte) bool)
	return ok && mute(p, g, message)
}

// start starts nodes side by side: new ones wait for one another.
func (c *trio) start(which ...int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, i := range which {
		wg.Go(func() {
			n, err := cluster.Open(ctx, c.configs[i], c.stores[i], clustertest.Host{Mute: c.isMute})
			if err != nil {
				c.t.Error(err)
				return
			}
			c.nodes[i] = n
		})
	}
	wg.Wait()
	if slices.ContainsFunc(which, func(i int) bool { return c.nodes[i] == nil }) {
		c.t.FailNow() // has been told
	}
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		if err := n.WaitForReady(ctx); err != nil {
			c.t.Fatalf("node %d: %v", i, err)
		}
	}
}

func (c *trio) stop(i int) {
	if n := c.nodes[i]; n != nil {
		c.nodes[i] = nil
		if err := n.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// count proposes to a partition through a node, and returns the count of its state.
func (c *trio) count(through int, p crier.PartitionID) (int, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	answer, err := c.nodes[through].Request(ctx, crier.KindPartition, p.String(), []byte("x"))
	n, _ := answer.(int)
	return n, err
}

func TestThreeNodesFormACluster(t *testing.T) {
	c := newTrio(t, 16)
	leaders := make(map[int]int)
	for i, n := range c.nodes {
		if got := len(n.Members()); got != 3 {
			t.Errorf("node %d sees %d members", i, got)
		}
		if got, forming := c.stores[i].Members(); forming || !slices.Equal(got, []string{"node-0", "node-1", "node-2"}) {
			t.Errorf("node %d keeps %v, %t", i, got, forming)
		}
		for p := range crier.PartitionID(16) {
			if n.Group(p).IsLeader() {
				leaders[i]++
			}
		}
	}
	t.Logf("leaders by node: %v", leaders)
	// Any node takes any request, wherever the partition is led.
	for p := range crier.PartitionID(16) {
		for through := range 3 {
			if n, err := c.count(through, p); err != nil || n != through+1 {
				t.Fatalf("partition %s through node %d: %d, %v", p, through, n, err)
			}
		}
	}
}

// A node ends, and comes back: the others take over what it led, nothing that was committed is lost, and it catches up.
func TestANodeOfThreeIsLost(t *testing.T) {
	c := newTrio(t, 8)
	for p := range crier.PartitionID(8) {
		if n, err := c.count(0, p); err != nil || n != 1 {
			t.Fatalf("partition %s: %d, %v", p, n, err)
		}
	}
	lost := time.Now()
	c.stop(2)
	for p := range crier.PartitionID(8) {
		n, err := c.count(0, p)
		if err != nil || n != 2 {
			t.Fatalf("partition %s without node 2: %d, %v", p, n, err)
		}
	}
	t.Logf("every partition has taken a command %v after the loss", time.Since(lost))
	c.stores[2].Forget()
	c.start(2)
	c.stop(0)
	for p := range crier.PartitionID(8) {
		if n, err := c.count(2, p); err != nil || n != 3 {
			t.Fatalf("partition %s after another loss: %d, %v", p, n, err)
		}
	}
}

// A node that is stopped hands over what it leads before it goes: nobody waits for an election.
func TestANodeThatStopsHandsOver(t *testing.T) {
	const partitions = 8
	c := newNodes(t, 3, partitions, func(cfg *cluster.Config) { cfg.HeartbeatTimeout = 3 * time.Second })
	c.settle(3, 0, 1, 2) // it leads its share
	led := 0
	for p := range crier.PartitionID(partitions) {
		if c.nodes[2].Group(p).IsLeader() {
			led++
		}
	}
	c.stop(2)
	for p := range crier.PartitionID(partitions) {
		if !c.nodes[0].Group(p).IsLeader() && !c.nodes[1].Group(p).IsLeader() {
			t.Errorf("nobody leads partition %s", p)
		}
	}
	t.Logf("it led %d", led)
}

// A node that was away for less than the time between two looks has come and gone all the same: leaders are not evened out at once.
func TestABriefAbsenceIsNoticed(t *testing.T) {
	const rest = 4 * time.Second
	c := newNodes(t, 3, 8, func(cfg *cluster.Config) { cfg.BalanceAfter = rest })
	c.settle(3, 0, 1, 2)
	time.Sleep(rest) // so that without the absence they would be
	s, err := c.status()
	if err != nil {
		t.Fatal(err)
	}
	gone := slices.IndexFunc(c.configs, func(cfg cluster.Config) bool { return cfg.NodeID != s.Coordinator })
	c.stop(gone)
	back := time.Now()
	c.start(gone)
	for s, err = c.status(); err != nil || s.Age >= time.Since(back).Milliseconds(); s, err = c.status() { // until the nodes have been looked at again
		time.Sleep(20 * time.Millisecond)
	}
	c.settle(3, 0, 1, 2)
	if took := time.Since(back); took < rest {
		t.Errorf("node %d led its share again %v after it had come back, before the cluster had been quiet for %v", gone, took, rest)
	}
}

// A node whose disk is full would refuse what is proposed to the groups that it leads: others lead them until there is room.
func TestAFullDiskLeadsNothing(t *testing.T) {
	c := newTrio(t, 8)
	c.settle(3, 0, 1, 2)
	leads := func() (n int) {
		for p := range crier.PartitionID(8) {
			if c.nodes[2].Group(p).IsLeader() {
				n++
			}
		}
		return n
	}
	c.stores[2].Fill(true)
	for deadline := time.Now().Add(patience); leads() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the full node leads %d partitions yet", leads())
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // if it was the coordinator, another one looks at the nodes first
		s, err := c.status()
		if err == nil && slices.ContainsFunc(s.Nodes, func(n crier.NodeStatus) bool { return n.Full && n.ID == c.configs[2].NodeID }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the status does not tell: %+v, %v", s, err)
		}
	}
	for p := range crier.PartitionID(8) {
		if n, err := c.count(0, p); err != nil || n != 1 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
	c.stores[2].Fill(false)
	c.settle(3, 0, 1, 2)
}

// leader returns the node that leads a partition.
func (c *trio) leader(p crier.PartitionID) int {
	return slices.IndexFunc(c.nodes, func(n *cluster.Node) bool { return n != nil && n.Group(p).IsLeader() })
}

// isolate cuts a node's raft off. Its actors can be reached still, as those of a node that hangs for a moment.
func (c *trio) isolate(i int) {
	c.faults.Isolate(c.configs[i].NodeID, c.configs[(i+1)%3].NodeID, c.configs[(i+2)%3].NodeID)
}

// A message whose answer a leader takes with it goes to the next one, long before the caller's time is over.
func TestARequestOutlivesItsLeader(t *testing.T) {
	const p = crier.PartitionID(0)
	for name, end := range map[string]func(c *trio, leader int){"stopped": (*trio).stop, "cut off": (*trio).isolate} {
		t.Run(name, func(t *testing.T) {
			c := newTrio(t, 1)
			leader := c.leader(p)
			taken, once := make(chan struct{}), sync.Once{}
			mute := c.nodes[leader].Group(p)
			c.mute.Store(func(_ crier.PartitionID, g *cluster.Group, message []byte) bool {
				if g == mute {
					once.Do(func() { close(taken) })
				}
				return g == mute
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			answered := make(chan error, 1)
			go func() {
				_, err := c.nodes[(leader+1)%3].Request(ctx, crier.KindPartition, p.String(), []byte("x"))
				answered <- err
			}()
			<-taken
			lost := time.Now()
			end(c, leader)
			if err := <-answered; err != nil {
				t.Fatal(err)
			}
			t.Logf("answered %v after the loss", time.Since(lost).Round(time.Millisecond))
		})
	}
}

// forgetful is a Codec that can't read the first messages of others, which are lost so.
type forgetful struct {
	clustertest.Codec
	loses *atomic.Int32
}

// Decode is cluster.Codec's.
func (f forgetful) Decode(b []byte) (any, error) {
	if f.loses.Add(-1) >= 0 {
		return nil, errors.New("forgotten")
	}
	return f.Codec.Decode(b)
}

// A message that is lost on its way to a leader that goes on leading is sent again, and so is one whose answer can't be read. What is only slow is not.
func TestALostMessageIsSentAgain(t *testing.T) {
	const p = crier.PartitionID(0)
	var loses [3]atomic.Int32
	var next atomic.Int32
	c := newNodes(t, 3, 1, func(cfg *cluster.Config) { cfg.Codec = forgetful{loses: &loses[next.Add(1)-1]} })
	leader := c.leader(p)
	other := (leader + 1) % 3
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, loser := range map[string]int{"message": leader, "answer": other} {
		loses[loser].Store(1)
		if _, err := c.nodes[other].Request(ctx, crier.KindPartition, p.String(), []byte("x")); err != nil || loses[loser].Load() >= 0 {
			t.Errorf("the %s: %v, %d are to be lost", name, err, loses[loser].Load())
		}
	}
	var taken atomic.Int32
	c.mute.Store(func(crier.PartitionID, *cluster.Group, []byte) bool {
		taken.Add(1)
		return true
	})
	slow, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := c.nodes[other].Request(slow, crier.KindPartition, p.String(), []byte("x")); !errors.Is(err, crier.CodeTimeout) || taken.Load() != 1 {
		t.Errorf("the slow one: %v, sent %d times", err, taken.Load())
	}
}

// A leader that hung believes that it leads, after another has been elected: what it knows is old, and it must not be read.
func TestALeaderThatHungIsNotVerified(t *testing.T) {
	const p = crier.PartitionID(0)
	c := newTrio(t, 1)
	if n, err := c.count(0, p); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	old := c.leader(p)
	group := c.nodes[old].Group(p)
	if err := group.Verify(t.Context()); err != nil || group.Alone() {
		t.Fatalf("before: %v, alone: %v", err, group.Alone())
	}
	term := group.Term()
	if err := group.Led(term).Verify(t.Context()); err != nil {
		t.Fatalf("in the term: %v", err)
	}
	if err := group.Led(term - 1).Verify(t.Context()); !errors.Is(err, cluster.ErrNotLeader) {
		t.Fatalf("in a term before: %v", err)
	}
	proceed := sync.OnceFunc(c.stores[old].Hang())
	t.Cleanup(proceed) // before the nodes are stopped
	c.isolate(old)
	hung := make(chan error, 1)
	go func() {
		_, err := group.Apply(t.Context(), []byte("x"))
		hung <- err
	}()
	next := (old + 1) % 3
	if n, err := c.count(next, p); err != nil || n != 2 {
		t.Fatalf("the next leader: %d, %v", n, err)
	}
	if !group.IsLeader() {
		t.Fatal("the old leader has noticed: nothing is tested")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := group.Verify(ctx); !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("the old leader: %v", err)
	}
	proceed()
	c.faults.HealAll()
	if err := <-hung; !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("its command: %v", err)
	}
	for deadline := time.Now().Add(time.Minute); group.IsLeader() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := group.Verify(t.Context()); !errors.Is(err, cluster.ErrNotLeader) {
		t.Errorf("afterwards: %v", err)
	}
}

// Nodes read apps from their own replica of the system group: what was changed comes to all of them with the change, and not with the next message of an idle group.
func TestWhatTheSystemGroupKnowsComesAtOnce(t *testing.T) {
	c := newNodes(t, 3, 1, func(cfg *cluster.Config) { cfg.CommitTimeout = 10 * time.Minute })
	if err := c.nodes[0].Command(t.Context(), c.stores[0].NodeCommand(crier.Node{ID: "later", State: crier.NodeMember})); err != nil {
		t.Fatal(err)
	}
	for i, s := range c.stores {
		for deadline := time.Now().Add(patience); !slices.Contains(s.Nodes(), crier.Node{ID: "later", State: crier.NodeMember}); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("node %d does not know it within %v", i, patience)
			}
		}
	}
}

// A group that was lost and won again while its node was busy, with the end of its actor, stays reachable: the late news of the loss is not of the present term.
func TestLateNewsOfALostLeadership(t *testing.T) {
	const p = crier.PartitionID(0)
	c := newTrio(t, 1)
	first := c.leader(p)
	second := (first + 1) % 3
	group := c.nodes[first].Group(p)
	taken, release, once := make(chan struct{}), make(chan struct{}), sync.Once{}
	c.mute.Store(func(_ crier.PartitionID, g *cluster.Group, message []byte) bool {
		if g == group && string(message) == "wait" {
			once.Do(func() { close(taken); <-release })
		}
		return false
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := c.nodes[second].Request(ctx, crier.KindPartition, p.String(), []byte("wait"))
		answered <- err
	}()
	<-taken
	for _, hop := range [][2]int{{first, second}, {second, first}, {first, second}, {second, first}} {
		for {
			err := c.nodes[hop[0]].Group(p).HandOverTo(c.configs[hop[1]].NodeID)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("hand over to node %d: %v", hop[1], err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for !c.nodes[hop[1]].Group(p).IsLeader() {
			time.Sleep(time.Millisecond)
		}
	}
	close(release)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	for i := range c.nodes {
		if _, err := c.count(i, p); err != nil {
			t.Errorf("through node %d: %v", i, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	c := newTrio(b, 1)
	group := c.nodes[c.leader(0)].Group(0)
	b.ReportAllocs()
	for b.Loop() {
		if err := group.Verify(b.Context()); err != nil {
			b.Error(err)
		}
	}
}
