package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
)

const patience = 90 * time.Second

// join starts one more node, that joins through node 0 or 1.
func (c *trio) join(partitions int) int {
	c.t.Helper()
	i := c.add(1, partitions, c.configs[0].GossipListen, c.configs[min(1, len(c.configs)-1)].GossipListen)
	c.start(i)
	return i
}

// status asks a running node.
func (c *trio) status() (*crier.ClusterStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	for _, n := range c.nodes {
		if n != nil {
			return n.Status(ctx)
		}
	}
	return nil, errors.New("no node runs")
}

// settle waits until the cluster has what it wants, and checks that it is so: each partition has as many voters as it should, on the nodes
// that should have some, evenly, and other nodes have nothing left.
func (c *trio) settle(replicas int, on ...int) {
	c.t.Helper()
	began := time.Now()
	defer func() { c.t.Logf("settled on %v after %v", on, time.Since(began).Round(time.Millisecond)) }()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		s, err := c.status()
		if err != nil {
			last = err
			continue
		}
		if last = c.settled(s, replicas, on); last == nil {
			return
		}
	}
	s, err := c.status()
	c.t.Fatalf("not settled within %v: %v\n%+v %v", patience, last, s, err)
}

func (c *trio) settled(s *crier.ClusterStatus, replicas int, on []int) error {
	if !s.Settled {
		return errors.New(s.Waiting)
	}
	held, leads := make(map[string]int), make(map[string]int)
	for _, p := range s.Partitions {
		if p.Partition == crier.SystemPartition.String() {
			if len(p.Replicas) != len(on) {
				return fmt.Errorf("the system group has %+v", p.Replicas)
			}
			continue
		}
		leads[p.Leader]++
		for _, r := range p.Replicas {
			if !r.Votes || !r.Alive {
				return fmt.Errorf("partition %s has %+v", p.Partition, p.Replicas)
			}
			held[r.Node]++
		}
		if len(p.Replicas) != replicas {
			return fmt.Errorf("partition %s has %d replicas", p.Partition, len(p.Replicas))
		}
	}
	partitions := len(s.Partitions) - 1
	for _, i := range on {
		id := c.configs[i].NodeID
		if n, mean := held[id], partitions*replicas/len(on); n < mean || n > mean+1 {
			return fmt.Errorf("node %d has %d replicas, the mean is %d", i, n, mean)
		}
		if n, mean := leads[id], partitions/len(on); n < mean || n > mean+1 {
			return fmt.Errorf("node %d leads %d, the mean is %d", i, n, mean)
		}
	}
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		for p := range crier.PartitionID(partitions) {
			if n.Group(p) == nil && c.stores[i].Has(p) {
				return fmt.Errorf("node %d has something left of partition %s", i, p)
			}
		}
	}
	return nil
}

// remove gives up a node that was stopped, as soon as the coordinator knows of its end.
func (c *trio) remove(i int) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := c.nodes[0].Remove(c.t.Context(), c.configs[i].NodeID)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal(err)
		}
	}
}

// writer counts in every partition until it is stopped, and then checks that nothing acknowledged is lost.
type writer struct {
	c      *trio
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	acked  map[crier.PartitionID]int
}

// write begins to count through the nodes given, which run all the time.
func (c *trio) write(partitions int, through ...int) *writer {
	w := &writer{c: c, acked: make(map[crier.PartitionID]int)}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for k, i := range through {
		n := c.nodes[i]
		w.wg.Go(func() {
			for round := k; ctx.Err() == nil; round++ {
				p := crier.PartitionID(round % partitions)
				call, done := context.WithTimeout(ctx, 5*time.Second)
				_, err := n.Request(call, crier.KindPartition, p.String(), []byte("x"))
				done()
				if err == nil {
					w.mu.Lock()
					w.acked[p]++
					w.mu.Unlock()
				}
			}
		})
	}
	return w
}

// check ends the writing, and compares what was acknowledged with what each replica has counted.
func (w *writer) check() {
	w.c.t.Helper()
	w.cancel()
	w.wg.Wait()
	total := 0
	for p, acked := range w.acked {
		total += acked
		replicas := 0
		for i, n := range w.c.nodes {
			if n == nil || n.Group(p) == nil {
				continue
			}
			replicas++
			var got int
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				if got = w.c.stores[i].Count(p); got >= acked {
					break
				}
			}
			if got < acked {
				w.c.t.Errorf("node %d has %d commands of partition %s, %d were acknowledged", i, got, p, acked)
			}
		}
		if replicas == 0 {
			w.c.t.Errorf("partition %s is nowhere", p)
		}
	}
	if total == 0 {
		w.c.t.Error("nothing was acknowledged")
	}
	w.c.t.Logf("%d commands acknowledged", total)
}

// One node grows to three and four, and shrinks to three, while commands are acknowledged.
func TestAClusterGrowsAndShrinks(t *testing.T) {
	const partitions = 8
	c := newNodes(t, 1, partitions)
	w := c.write(partitions, 0)
	c.settle(1, 0)
	for i := 1; i < 4; i++ {
		c.join(partitions)
		on := []int{0, 1, 2, 3}[:i+1]
		c.settle(min(3, i+1), on...)
		t.Logf("%d nodes", i+1)
	}
	n := c.nodes[1]
	if err := c.nodes[0].Drain(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Left():
	case <-time.After(patience):
		s, err := c.status()
		t.Fatalf("node 1 is not drained within %v: %+v, %v", patience, s, err)
	}
	if err := n.LeftErr(); err != nil {
		t.Error(err)
	}
	c.stop(1)
	c.settle(3, 0, 2, 3)
	w.check()
}

// A drain that was a mistake is cancelled in the middle: the node gets its share again, and one that has left can't be called back.
func TestADrainIsCancelled(t *testing.T) {
	const partitions = 8
	c := newTrio(t, partitions)
	c.join(partitions)
	c.settle(3, 0, 1, 2, 3)
	w := c.write(partitions, 0, 2, 3)
	if err := c.nodes[0].Drain(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s, err := c.status()
		if err == nil && s.Moving > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing moves: %+v, %v", s, err)
		}
	}
	for range 2 { // asked again, it is done
		if err := c.nodes[2].CancelDrain(t.Context(), "node-1"); err != nil {
			t.Fatal(err)
		}
	}
	c.settle(3, 0, 1, 2, 3)
	w.check()
	if err := c.nodes[0].Drain(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.nodes[1].Left():
	case <-time.After(patience):
		t.Fatal("it is not drained")
	}
	for _, id := range []string{"node-1", "node-7"} {
		if err := c.nodes[0].CancelDrain(t.Context(), id); !errors.Is(err, crier.CodeBadParameter) {
			t.Errorf("%s comes back: %v", id, err)
		}
	}
}

// A node dies and is given up: what it held is built anew on another, and it can't come back.
func TestADeadNodeIsRemoved(t *testing.T) {
	const partitions = 8
	c := newTrio(t, partitions)
	c.join(partitions)
	c.settle(3, 0, 1, 2, 3)
	w := c.write(partitions, 0, 1)
	if err := c.nodes[0].Remove(t.Context(), "node-2"); !errors.Is(err, crier.CodeBadParameter) {
		t.Errorf("a living node is removed: %v", err)
	}
	c.stop(2)
	c.remove(2)
	c.settle(3, 0, 1, 3)
	w.check()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	back, err := cluster.Open(ctx, c.configs[2], c.stores[2], clustertest.Host{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, back)
	select {
	case <-back.Left():
	case <-ctx.Done():
		t.Fatal("the node that was removed goes on")
	}
	if err := back.LeftErr(); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("it ends with %v", err)
	}
}

// A dead node is replaced by itself after the grace; one that comes back then is a member again.
func TestADeadNodeIsReplacedAfterItsGrace(t *testing.T) {
	const partitions = 8
	c := newTrio(t, partitions)
	c.join(partitions)
	c.settle(3, 0, 1, 2, 3)
	for _, i := range []int{0, 1, 3} { // with their own grace
		c.stop(i)
		c.configs[i].Grace = 3 * time.Second
		c.stores[i].Forget()
		c.start(i)
	}
	c.settle(3, 0, 1, 2, 3)
	w := c.write(partitions, 0, 1)
	c.stop(2)
	c.settle(3, 0, 1, 3)
	c.stores[2].Forget()
	c.start(2)
	c.settle(3, 0, 1, 2, 3)
	w.check()
}

// The node that moves replicas dies in the middle of it: the next one goes on.
func TestTheCoordinatorDiesInTheMiddleOfMoves(t *testing.T) {
	const partitions = 16
	c := newTrio(t, partitions)
	for i := range c.configs {
		c.configs[i].MovesAtOnce = 1
	}
	i := c.add(1, partitions, c.configs[0].GossipListen, c.configs[1].GossipListen, c.configs[2].GossipListen)
	c.start(i)
	var coordinator int
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		s, err := c.status()
		if err == nil && s.Moving > 0 {
			if _, err := fmt.Sscanf(s.Coordinator, "node-%d", &coordinator); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing moves: %+v, %v", s, err)
		}
	}
	var through []int
	for _, k := range []int{0, 1, 2, 3} {
		if k != coordinator {
			through = append(through, k)
		}
	}
	w := c.write(partitions, through...)
	c.stop(coordinator)
	time.Sleep(2 * time.Second) // of another coordinator, or none
	c.stores[coordinator].Forget()
	c.start(coordinator)
	c.settle(3, 0, 1, 2, 3)
	w.check()
}

// A node that gets a replica dies before it has it, and is given up.
func TestTheTargetOfAMoveDies(t *testing.T) {
	const partitions = 16
	c := newTrio(t, partitions)
	w := c.write(partitions, 0, 1, 2)
	i := c.add(1, partitions, c.configs[0].GossipListen)
	c.start(i)
	c.stop(i)
	c.remove(i)
	c.settle(3, 0, 1, 2)
	w.check()
}
