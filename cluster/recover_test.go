package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// fill counts to n in every partition, and waits until all replicas have it.
func (c *trio) fill(partitions, n int) {
	c.t.Helper()
	for p := range crier.PartitionID(partitions) {
		for range n {
			if _, err := c.count(0, p); err != nil {
				c.t.Fatal(err)
			}
		}
		for i, node := range c.nodes {
			if node == nil || node.Group(p) == nil {
				continue
			}
			for deadline := time.Now().Add(patience); c.stores[i].Count(p) != n; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					c.t.Fatalf("node %d has %d commands of partition %s", i, c.stores[i].Count(p), p)
				}
			}
		}
	}
}

// plan asks what there is to recover until the partitions that are left without a majority are all in it.
func (c *trio) plan(through int, want []string) *crier.Recovery {
	c.t.Helper()
	var got []string
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var plan *crier.Recovery
		if plan, err = c.nodes[through].PlanRecovery(c.t.Context(), false); err != nil {
			continue
		}
		got = nil
		for _, one := range plan.Partitions {
			got = append(got, one.Partition)
		}
		if slices.Equal(got, want) && len(plan.Electing) == 0 {
			return plan
		}
	}
	c.t.Fatalf("there is %v to recover, not %v: %v", got, want, err)
	return nil
}

// Two of five nodes are lost. The partitions that have lost most of their replicas refuse what is asked of them, and the others go on; recovering makes what is left of
// these the truth, and all get three replicas again.
func TestPartitionsThatHaveLostMostReplicas(t *testing.T) {
	const partitions = 8
	c := newNodes(t, 5, partitions)
	c.settle(3, 0, 1, 2, 3, 4)
	c.fill(partitions, 3)
	if plan := c.plan(0, nil); len(plan.Lost) > 0 {
		t.Errorf("with all nodes there: %+v", plan)
	}
	var s *crier.ClusterStatus
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // one without a leader, for a moment, tells of no replicas
		var err error
		if s, err = c.status(); err == nil && !slices.ContainsFunc(s.Partitions, func(p crier.PartitionStatus) bool { return len(p.Replicas) < 3 }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	keeps := func(p crier.PartitionStatus, node int) bool {
		return slices.ContainsFunc(p.Replicas, func(r crier.ReplicaStatus) bool { return r.Node == fmt.Sprint("node-", node) })
	}
	var lost []string
	one, other := 3, 4
	for _, pair := range [][2]int{{3, 4}, {1, 4}, {2, 4}, {1, 3}, {2, 3}, {1, 2}} { // that share some partition
		one, other = pair[0], pair[1]
		lost = nil
		for _, p := range s.Partitions {
			if p.Partition != crier.SystemPartition.String() && keeps(p, one) && keeps(p, other) {
				lost = append(lost, p.Partition)
			}
		}
		if len(lost) > 0 && len(lost) < partitions {
			break
		}
	}
	t.Logf("nodes %d and %d are lost, and with them most of partitions %v", one, other, lost)
	c.stop(one)
	c.stop(other)
	plan := c.plan(0, lost)
	if want := []string{fmt.Sprint("node-", one), fmt.Sprint("node-", other)}; !slices.Equal(plan.Lost, want) {
		t.Errorf("the lost are %v", plan.Lost)
	}
	for p := range crier.PartitionID(partitions) {
		n, err := 0, error(nil)
		if slices.Contains(lost, p.String()) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = c.nodes[0].Request(ctx, crier.KindPartition, p.String(), []byte("x"))
			cancel()
			if !errors.Is(err, crier.CodeTimeout) || !strings.Contains(crier.AsError(err).Info, "partition "+p.String()+" has no leader") {
				t.Errorf("partition %s, most of which is lost: %v", p, err)
			}
		} else if n, err = c.count(0, p); err != nil || n != 4 {
			t.Errorf("partition %s, most of which is there: %d, %v", p, n, err)
		}
	}

	stale := *plan
	stale.Lost = nil
	if err := c.nodes[0].Recover(t.Context(), &stale, false); !errors.Is(err, crier.CodeBadParameter) {
		t.Errorf("by a plan that is not the present one: %v", err)
	}
	began := time.Now()
	if err := c.nodes[0].Recover(t.Context(), plan, false); err != nil {
		t.Fatal(err)
	}
	t.Logf("recovered within %v", time.Since(began).Round(time.Millisecond))
	for p := range crier.PartitionID(partitions) {
		if n, err := c.count(0, p); err != nil || n < 4 || n > 5 { // 5: what was refused has come through
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
	var on []int
	for i := range 5 {
		if i != one && i != other {
			on = append(on, i)
		}
	}
	c.settle(3, on...)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	back, err := cluster.Open(ctx, c.configs[one], c.stores[one], clustertest.Host{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, back)
	select {
	case <-back.Left():
	case <-ctx.Done():
		t.Fatal("a node that was given up goes on")
	}
}

// Two of three nodes are lost, and with them the system group. The third is alone, and then others join it.
func TestTheLastOfThreeNodes(t *testing.T) {
	const partitions = 8
	c := newTrio(t, partitions)
	c.settle(3, 0, 1, 2)
	c.fill(partitions, 3)
	c.stop(1)
	c.stop(2)
	all := []string{crier.SystemPartition.String()}
	for p := range crier.PartitionID(partitions) {
		all = append(all, p.String())
	}
	plan := c.plan(0, all)
	if err := c.nodes[0].Recover(t.Context(), plan, false); err != nil {
		t.Fatal(err)
	}
	for p := range crier.PartitionID(partitions) {
		if n, err := c.count(0, p); err != nil || n != 4 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
	c.settle(1, 0)
	c.join(partitions)
	c.join(partitions)
	c.settle(3, 0, 3, 4)
	for p := range crier.PartitionID(partitions) {
		if n, err := c.count(4, p); err != nil || n != 5 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
}

// Three nodes see one another, and their raft does not: a majority answers, and no leader is elected. Forced, one replica of each group becomes the truth, the
// others are deleted, so that no two can outvote it once they reach one another again, and are built anew.
func TestAForcedRecovery(t *testing.T) {
	const partitions = 4
	c := newTrio(t, partitions)
	c.settle(3, 0, 1, 2)
	c.fill(partitions, 3)
	for i := range c.nodes {
		c.isolate(i)
	}
	var plan *crier.Recovery
	for deadline := time.Now().Add(patience); plan == nil || len(plan.Electing) <= partitions; time.Sleep(50 * time.Millisecond) {
		var err error
		if plan, err = c.nodes[0].PlanRecovery(t.Context(), false); err == nil && len(plan.Partitions) > 0 {
			t.Fatalf("a majority answers, and is recovered: %+v", plan)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", plan, err)
		}
	}
	plan, err := c.nodes[0].PlanRecovery(t.Context(), true)
	if err != nil || len(plan.Partitions) != partitions+1 || len(plan.Lost) > 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if err := c.nodes[0].Recover(t.Context(), plan, true); err != nil {
		t.Fatal(err)
	}
	for p := range crier.PartitionID(partitions) {
		replicas := 0
		for i := range c.nodes {
			if c.nodes[i].Group(p) != nil && c.stores[i].Count(p) == 3 {
				replicas++
			}
		}
		if replicas != 1 {
			t.Errorf("partition %s has %d replicas", p, replicas)
		}
	}
	c.faults.HealAll()
	c.settle(3, 0, 1, 2)
	for p := range crier.PartitionID(partitions) {
		if n, err := c.count(1, p); err != nil || n != 4 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
}

// slowStart is storage whose logs can't be opened until the gate is.
type slowStart struct {
	*clustertest.Storage
	gate chan struct{}
}

// LogStore is cluster.Storage's.
func (s slowStart) LogStore(p crier.PartitionID) raft.LogStore {
	<-s.gate
	return s.Storage.LogStore(p)
}

// Two of three nodes are away, and one of them is starting: it answers, and has not opened its groups yet. What it has does not count as lost.
func TestANodeThatIsStartingHasLostNothing(t *testing.T) {
	const partitions = 4
	c := newTrio(t, partitions)
	c.settle(3, 0, 1, 2)
	c.fill(partitions, 1)
	c.stop(1)
	c.stop(2)
	all := []string{crier.SystemPartition.String()}
	for p := range crier.PartitionID(partitions) {
		all = append(all, p.String())
	}
	c.plan(0, all)
	slow := slowStart{c.stores[1], make(chan struct{})}
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		n, err := cluster.Open(context.Background(), c.configs[1], slow, clustertest.Host{Mute: c.isMute})
		if err != nil {
			t.Error(err)
			return
		}
		c.nodes[1] = n
	}()
	for deadline := time.Now().Add(patience); len(c.nodes[0].Members()) < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the node that starts is not seen")
		}
	}
	if plan, err := c.nodes[0].PlanRecovery(t.Context(), false); !errors.Is(err, crier.CodeTimeout) || !strings.Contains(err.Error(), "starting") {
		t.Errorf("while it starts: %+v, %v", plan, err)
	}
	close(slow.gate)
	<-opened
	c.plan(0, nil)
}

// A group that is being opened or closed, or is parked, does not count as lost.
func TestAGroupThatIsHeldIsNotLost(t *testing.T) {
	n := open(t, config(2), clustertest.NewStorage())
	defer closeNode(t, n)
	ask := func() error {
		for {
			_, err := n.PlanRecovery(t.Context(), false)
			if err == nil || !strings.Contains(err.Error(), "has started") { // else it is too early
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	if err := ask(); err != nil {
		t.Error(err)
	}
	release, held := n.Hold(0)
	if !held {
		t.Fatal("somebody holds the group")
	}
	if err := ask(); !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("while a group is held: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, release)
	if err := ask(); err != nil {
		t.Errorf("while a group is held for a moment: %v", err)
	}
}

// step returns a step of a recovery of a partition, for a node as it is now.
func (c *trio) step(kind clusterv1.StepKind, node int, p crier.PartitionID, truth int, force bool) *clusterv1.Step {
	last, term := c.nodes[node].Group(p).Last()
	return &clusterv1.Step{
		Kind: kind, Partition: uint32(p), Node: c.configs[truth].NodeID, Leader: c.configs[truth].NodeID, Term: term + 1,
		Last: proto.Uint64(last), LastTerm: term, Force: force,
	}
}

// A group that has a leader when the steps of its recovery come, or another log than they were decided on, is left alone.
func TestARecoveryThatComesTooLate(t *testing.T) {
	const park, recovery = clusterv1.StepKind_STEP_KIND_PARK, clusterv1.StepKind_STEP_KIND_RECOVER
	c := newNodes(t, 3, 1, func(cfg *cluster.Config) { cfg.HeartbeatTimeout = 400 * time.Millisecond }) // by which a dead leader is forgotten
	c.settle(3, 0, 1, 2)
	c.fill(1, 3)
	leader := c.leaderOf(0)
	follower := (leader + 1) % 3
	changed := func(s *clusterv1.Step, by uint64) *clusterv1.Step {
		s.Last = proto.Uint64(s.GetLast() - by)
		return s
	}
	otherTerm := c.step(park, follower, 0, leader, true)
	otherTerm.LastTerm++
	for what, at := range map[string]struct {
		node int
		step *clusterv1.Step
	}{
		"recover a follower":                    {follower, c.step(recovery, follower, 0, follower, false)},
		"recover the leader":                    {leader, c.step(recovery, leader, 0, leader, false)},
		"recover the leader by force":           {leader, c.step(recovery, leader, 0, leader, true)},
		"park the leader":                       {leader, c.step(park, leader, 0, follower, false)},
		"park the leader by force":              {leader, c.step(park, leader, 0, follower, true)},
		"park a follower":                       {follower, c.step(park, follower, 0, leader, false)},
		"park one that has more, by force":      {follower, changed(c.step(park, follower, 0, leader, true), 1)},
		"recover one that has more, by force":   {follower, changed(c.step(recovery, follower, 0, follower, true), 1)},
		"park one with another entry, by force": {follower, otherTerm},
	} {
		if err := c.nodes[0].StepAt(t.Context(), c.configs[at.node].NodeID, at.step); err == nil {
			t.Errorf("%s: it is done", what)
		}
	}
	for i, n := range c.nodes {
		if g := n.Group(0); g == nil || g.IsLeader() != (i == leader) {
			t.Errorf("node %d: its replica is closed, or leads", i)
		}
	}
	if n, err := c.count(0, 0); err != nil || n != 4 {
		t.Errorf("then: %d, %v", n, err)
	}
}

// unsureDisk is storage that tells of a recovery that it has done that it has failed.
type unsureDisk struct {
	*clustertest.Storage
	drops *sync.Map // crier.PartitionID → true: those that were deleted here
}

// Drop is cluster.Storage's.
func (s unsureDisk) Drop(p crier.PartitionID) error {
	s.drops.Store(p, true)
	return s.Storage.Drop(p)
}

// Recover is cluster.Storage's.
func (s unsureDisk) Recover(p crier.PartitionID, c raft.Configuration, term uint64) error {
	return errors.Join(s.Storage.Recover(p, c, term), errors.New("told to fail"))
}

// Nobody knows whether a replica has become the truth: the others stay closed, and at the end of their time they find out that it has. Opened at once, the two
// would be a majority of what was before.
func TestARecoveryOfUnknownOutcome(t *testing.T) {
	const p, partitions = crier.PartitionID(0), 1
	c := newTrio(t, partitions)
	c.settle(3, 0, 1, 2)
	c.fill(partitions, 3)
	for i := range c.nodes { // again, with disks that fail
		c.stop(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	drops := make([]sync.Map, len(c.nodes)) // by node
	for i := range c.nodes {
		wg.Go(func() {
			c.stores[i].Forget()
			n, err := cluster.Open(ctx, c.configs[i], unsureDisk{c.stores[i], &drops[i]}, clustertest.Host{})
			if err != nil {
				t.Error(err)
				return
			}
			c.nodes[i] = n
		})
	}
	wg.Wait()
	c.settle(3, 0, 1, 2)
	for i := range c.nodes {
		c.isolate(i)
	}
	var plan *crier.Recovery
	for deadline := time.Now().Add(patience); plan == nil || len(plan.Partitions) <= partitions; time.Sleep(50 * time.Millisecond) {
		var err error
		if plan, err = c.nodes[0].PlanRecovery(ctx, true); time.Now().After(deadline) {
			t.Fatalf("%+v, %v", plan, err)
		}
	}
	err := c.nodes[0].Recover(ctx, plan, true)
	if !errors.Is(err, crier.CodeTimeout) {
		t.Errorf("a recovery that fails: %v", err)
	}
	i := slices.IndexFunc(plan.Partitions, func(one crier.PartitionRecovery) bool { return one.Partition == p.String() })
	truth := plan.Partitions[i].Node
	for i, n := range c.nodes {
		if has := n.Group(p) != nil; has != (c.configs[i].NodeID == truth) {
			t.Errorf("node %d, while %s may be the truth: its replica is open: %t", i, truth, has)
		}
	}
	for i, n := range c.nodes {
		if c.configs[i].NodeID == truth {
			for deadline := time.Now().Add(patience); !n.Group(p).IsLeader(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the truth does not lead")
				}
			}
		}
	}
	for _, p := range []crier.PartitionID{p, crier.SystemPartition} {
		i := slices.IndexFunc(plan.Partitions, func(one crier.PartitionRecovery) bool { return one.Partition == p.String() })
		for _, n := range c.nodes {
			n.EndPark(p, plan.Partitions[i].Node)
		}
	}
	for i, n := range c.nodes {
		_, dropped := drops[i].Load(p)
		switch isTruth := c.configs[i].NodeID == truth; {
		case isTruth && (dropped || !c.stores[i].Has(p) || n.Group(p) == nil):
			t.Errorf("node %d, which is the truth, has no replica", i)
		case !isTruth && !dropped: // it may have another by now, that the truth has had made
			t.Errorf("node %d, when %s is the truth: its replica was not deleted", i, truth)
		}
	}
	c.faults.HealAll()
	c.settle(3, 0, 1, 2)
	if n, err := c.count(1, p); err != nil || n != 4 {
		t.Errorf("then: %d, %v", n, err)
	}
}
