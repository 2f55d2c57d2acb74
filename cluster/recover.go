package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

const (
	// parkMost is how long a node keeps a group closed of which nobody says what is to become.
	parkMost = time.Minute
	// recoverTimeout bounds how long a node may take to lead a group of which it has become the only member.
	recoverTimeout = 10 * time.Second
	// recoveredAtOnce is how many groups are recovered at a time.
	recoveredAtOnce = 8
	// findTimeout is how long a node that has started looks for the others before it believes that they are lost.
	findTimeout = 10 * time.Second
	// confirmTimeout bounds how long a leader may take to confirm itself before it counts as none.
	confirmTimeout = time.Second
	// forgetLeader is how many times its HeartbeatTimeout raft takes at most until it knows of a dead leader no longer: it looks once in two, and may have just missed it.
	forgetLeader = 4
	// wholeTimeout bounds how long a node that is asked what it has waits until all that it has is open.
	wholeTimeout = 500 * time.Millisecond
)

// describe tells what this node has of its groups: all of them, since what is missing would count as lost.
func (n *Node) describe(ctx context.Context) (*clusterv1.Described, error) {
	groups, err := n.whole(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	d := new(clusterv1.Described)
	for _, g := range groups {
		wg.Go(func() {
			h := g.describe(ctx)
			mu.Lock()
			defer mu.Unlock()
			d.Holdings = append(d.Holdings, h)
		})
	}
	wg.Wait()
	return d, nil
}

// whole returns the groups of which this node has something, once all of them are open: the node has started, and none is being opened or closed, or is kept closed.
// It waits for that a moment.
func (n *Node) whole(ctx context.Context) ([]*Group, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTimeout)
	defer cancel()
	select {
	case <-n.belongs:
	case <-ctx.Done():
		return nil, errStarting
	}
	for {
		n.mu.RLock()
		busy, groups := len(n.held), slices.Collect(maps.Values(n.groups))
		n.mu.RUnlock()
		if busy == 0 {
			return groups, nil
		}
		select {
		case <-time.After(installPoll):
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of its groups are being opened or closed", busy)
		}
	}
}

func (g *Group) describe(ctx context.Context) *clusterv1.Holding {
	h := &clusterv1.Holding{Partition: uint32(g.id), Term: g.Term(), Leads: g.IsLeader() && g.Verify(ctx) == nil}
	h.Last, h.LastTerm = g.last()
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		h.Servers = append(h.Servers, &clusterv1.Server{Node: string(s.ID), Votes: s.Suffrage == raft.Voter})
	}
	return h
}

// last returns the last entry of the group's log, or of what its state has where that is more, and the entry's term.
func (g *Group) last() (index, term uint64) {
	stats := g.raft.Stats()
	for _, of := range []string{"log", "snapshot"} {
		i, _ := strconv.ParseUint(stats["last_"+of+"_index"], 10, 64) // raft has formatted them
		t, _ := strconv.ParseUint(stats["last_"+of+"_term"], 10, 64)
		if i > index {
			index, term = i, t
		}
	}
	return index, term
}

// PlanRecovery tells what there is to recover, as far as this node sees the others; with force, also of partitions of which a majority answers, and which have no
// leader all the same. crier.CodeTimeout names a node that gossip believes alive and that does not answer.
func (n *Node) PlanRecovery(ctx context.Context, force bool) (*crier.Recovery, error) {
	plan, _, err := n.planRecovery(ctx, force)
	return plan, err
}

// survivors is what a recovery was decided on.
type survivors struct {
	answers map[string]*clusterv1.Described
	terms   map[crier.PartitionID]uint64 // the highest that is known
	force   bool
}

// holding returns what a node has told of a group.
func (s *survivors) holding(p crier.PartitionID, node string) *clusterv1.Holding {
	for _, h := range s.answers[node].GetHoldings() {
		if h.GetPartition() == uint32(p) {
			return h
		}
	}
	return nil
}

// planRecovery also returns what the plan was decided on.
func (n *Node) planRecovery(ctx context.Context, force bool) (*crier.Recovery, *survivors, error) {
	if up := time.Since(n.began); up < findTimeout {
		return nil, nil, crier.Errorf(crier.CodeTimeout, "this node has started %v ago, and may not have found the others yet: try again after %v",
			up.Round(time.Second), findTimeout)
	}
	answers, err := n.askHoldings(ctx)
	if err != nil {
		return nil, nil, err
	}
	plan, terms := planRecovery(n.allGroups(), answers, force)
	for p := range terms {
		terms[p] = max(terms[p], n.table.leader(p).term)
	}
	return plan, &survivors{answers, terms, force}, nil
}

// askHoldings asks all nodes that gossip believes alive.
func (n *Node) askHoldings(ctx context.Context) (map[string]*clusterv1.Described, error) {
	members := make(map[string]struct{})
	for _, m := range n.gossip.all() {
		members[m.NodeID] = struct{}{}
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout+confirmTimeout)
	defer cancel()
	var mu sync.Mutex
	answers := make(map[string]*clusterv1.Described)
	err := each(members, func(node string, _ struct{}) error {
		answer, err := n.askControl(ctx, node, new(clusterv1.Describe))
		d, ok := answer.(*clusterv1.Described)
		if failed, not := answer.(*clusterv1.Stepped); err == nil && not {
			err = errors.New(failed.GetError())
		} else if err == nil && !ok {
			err = fmt.Errorf("it answers with a %T", answer)
		}
		mu.Lock()
		defer mu.Unlock()
		answers[node] = d
		return err
	})
	if err != nil {
		return nil, crier.Errorf(crier.CodeTimeout, "a node that seems alive does not tell what it has; if it is dead, that is noticed within 10 s: %v", err)
	}
	return answers, nil
}

// holding is a replica of a group.
type holding struct {
	node string
	*clusterv1.Holding
}

// planRecovery decides what is to be recovered. It only looks at its arguments. Of the replicas of a group, the truth is the one whose log raft would prefer in an
// election: what a majority has acknowledged is most likely to be there.
func planRecovery(groups []crier.PartitionID, answers map[string]*clusterv1.Described, force bool) (*crier.Recovery, map[crier.PartitionID]uint64) {
	held := make(map[crier.PartitionID][]holding)
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		for _, h := range answers[node].GetHoldings() {
			p := crier.PartitionID(h.GetPartition())
			held[p] = append(held[p], holding{node, h})
		}
	}
	plan, terms, lost := &crier.Recovery{Partitions: []crier.PartitionRecovery{}}, make(map[crier.PartitionID]uint64), make(map[string]bool)
	for _, p := range groups {
		replicas := held[p]
		for _, r := range replicas {
			terms[p] = max(terms[p], r.GetTerm())
		}
		if slices.ContainsFunc(replicas, func(h holding) bool { return h.GetLeads() }) {
			continue
		}
		one, majority := recoverOne(p, replicas, answers)
		switch {
		case majority && !force:
			plan.Electing = append(plan.Electing, p.String())
			continue
		case one.Node == "":
			terms[p] = 0
		}
		for _, n := range one.Lost {
			lost[n] = true
		}
		plan.Partitions = append(plan.Partitions, one)
	}
	plan.Lost = slices.Sorted(maps.Keys(lost))
	return plan, terms
}

// recoverOne chooses the truth about a group, and reports whether a majority of its voters has answered.
func recoverOne(p crier.PartitionID, replicas []holding, answers map[string]*clusterv1.Described) (one crier.PartitionRecovery, majority bool) {
	one = crier.PartitionRecovery{Partition: p.String(), Others: []string{}, Lost: []string{}}
	var best holding
	for _, r := range replicas {
		if r.GetLast() > 0 && (best.Holding == nil ||
			cmp.Or(cmp.Compare(r.GetLastTerm(), best.GetLastTerm()), cmp.Compare(r.GetLast(), best.GetLast())) > 0) {
			best = r
		}
	}
	if best.Holding == nil {
		return one, false
	}
	one.Node, one.Last = best.node, best.GetLast()
	votes := make(map[string]bool)
	for _, r := range replicas {
		if votes[r.node] = len(r.GetServers()) > 0; r.node != best.node { // see Node.votes
			one.Others = append(one.Others, r.node)
		}
	}
	voters, alive := 0, 0
	for _, s := range best.GetServers() {
		if _, answered := answers[s.GetNode()]; !answered {
			one.Lost = append(one.Lost, s.GetNode())
		}
		if s.GetVotes() {
			voters++
			if votes[s.GetNode()] {
				alive++
			}
		}
	}
	return one, alive > voters/2
}

// Recover makes replicas that have survived the truth, as the plan says, and gives up the nodes that are lost. It blocks until the partitions of the plan have leaders. What
// has been acknowledged and is in none of the replicas chosen is lost. crier.CodeBadParameter if PlanRecovery would say something else by now: nothing has been done then.
func (n *Node) Recover(ctx context.Context, plan *crier.Recovery, force bool) error {
	err := n.takePlan(ctx, plan, force)
	result := "done"
	switch {
	case errors.Is(err, crier.CodeBadParameter):
		result = "refused"
	case err != nil:
		result = "failed"
	}
	n.metrics.recoveries.WithLabelValues(result).Inc()
	return err
}

func (n *Node) takePlan(ctx context.Context, plan *crier.Recovery, force bool) error {
	n.recovering.Lock()
	defer n.recovering.Unlock()
	now, left, err := n.planRecovery(ctx, force)
	if err != nil {
		return err
	}
	if !samePlan(plan, now) {
		return crier.Errorf(crier.CodeBadParameter, "the cluster has changed since it was looked at: look again")
	}
	group := new(errgroup.Group)
	group.SetLimit(recoveredAtOnce)
	for _, p := range n.allGroups() {
		i := slices.IndexFunc(now.Partitions, func(one crier.PartitionRecovery) bool { return one.Partition == p.String() })
		if i < 0 || now.Partitions[i].Node == "" { // a backup may have it
			continue
		}
		one := &now.Partitions[i]
		group.Go(func() error {
			if err := n.recoverPartition(ctx, p, one, left); err != nil {
				return fmt.Errorf("partition %s: %w", p, err)
			}
			n.log.Warn("the replica of one node is the truth about a partition from now on", "partition", one.Partition, "member", one.Node, "index", one.Last)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return crier.Errorf(crier.CodeTimeout, "not everything could be recovered, do it again: %v", err)
	}
	return n.giveUp(ctx, now.Lost)
}

// giveUp removes nodes, of those that the cluster knows.
func (n *Node) giveUp(ctx context.Context, lost []string) error {
	for _, m := range n.storage.Nodes() {
		if m.State.Gone() || !slices.Contains(lost, m.ID) {
			continue
		}
		if err := n.Remove(ctx, m.ID); err != nil {
			return crier.Errorf(crier.CodeTimeout, "the partitions are recovered; remove node %s yourself: %v", m.ID, err)
		}
	}
	return nil
}

// samePlan reports whether two plans do the same.
func samePlan(a, b *crier.Recovery) bool {
	truth := func(p *crier.Recovery) map[string]string {
		of := make(map[string]string)
		for _, one := range p.Partitions {
			of[one.Partition] = one.Node
		}
		return of
	}
	return maps.Equal(truth(a), truth(b)) && slices.Equal(a.Lost, b.Lost)
}

// recoverPartition recovers one. The other replicas are closed first: from then on they vote for nobody, also should a lost node come back. They
// are deleted last. Where nobody knows whether the chosen one has become the truth, they stay closed, until their time is over.
func (n *Node) recoverPartition(ctx context.Context, p crier.PartitionID, one *crier.PartitionRecovery, left *survivors) error {
	step := func(node string, kind clusterv1.StepKind) error {
		bounded, cancel := context.WithTimeout(ctx, controlTimeout+recoverTimeout)
		defer cancel()
		h := left.holding(p, node)
		return n.stepAt(bounded, node, &clusterv1.Step{
			Kind: kind, Partition: uint32(p), Node: one.Node, Leader: one.Node, Term: left.terms[p],
			Last: proto.Uint64(h.GetLast()), LastTerm: h.GetLastTerm(), Force: left.force,
		})
	}
	var parked []string
	end := func(err error, kind clusterv1.StepKind) error {
		for _, node := range parked {
			err = errors.Join(err, step(node, kind))
		}
		return err
	}
	for _, node := range one.Others {
		if err := step(node, clusterv1.StepKind_STEP_KIND_PARK); err != nil {
			return end(err, clusterv1.StepKind_STEP_KIND_UNPARK)
		}
		parked = append(parked, node)
	}
	err := step(one.Node, clusterv1.StepKind_STEP_KIND_RECOVER)
	switch {
	case errors.Is(err, errUnsure):
		return err
	case err != nil:
		return end(err, clusterv1.StepKind_STEP_KIND_UNPARK)
	}
	return end(nil, clusterv1.StepKind_STEP_KIND_DROP)
}

// undisturbed returns nil if a replica is as it was when a step of a recovery was decided on, and its group has no leader. Raft knows of a leader that has died until it has lost
// patience, so it waits that long.
func (n *Node) undisturbed(ctx context.Context, g *Group, s *clusterv1.Step) error {
	for deadline := time.Now().Add(forgetLeader * n.cfg.HeartbeatTimeout); ; time.Sleep(installPoll) {
		led := g.led(ctx, s.GetForce())
		if last, term := g.last(); s.Last != nil && (last != s.GetLast() || term != s.GetLastTerm()) {
			return fmt.Errorf("the replica has changed: its last entry is %d of term %d, and was %d of term %d", last, term, s.GetLast(), s.GetLastTerm())
		}
		if !led {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.New("it has a leader again")
		}
	}
}

// led reports whether the replica knows of a leader; by force, one counts only if it is this node, and can confirm it.
func (g *Group) led(ctx context.Context, force bool) bool {
	if !force {
		_, leader := g.raft.LeaderWithID()
		return leader != ""
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	return g.IsLeader() && g.Verify(ctx) == nil
}

// park closes a group, and keeps it closed.
func (n *Node) park(ctx context.Context, p crier.PartitionID, s *clusterv1.Step) error {
	if !n.hold(p) {
		return errBusyGroup
	}
	g := n.Group(p)
	if g == nil {
		n.release(p)
		return nil
	}
	err := n.undisturbed(ctx, g, s)
	if err == nil {
		err = n.shut(g)
	}
	if err != nil {
		n.release(p)
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parked[p] = time.AfterFunc(parkMost, func() { n.endPark(p, s.GetLeader()) })
	return nil
}

// endPark ends it when nobody has said what is to become of a parked group. Its recovery may have been done all the same, so it first asks who was to become its only member.
func (n *Node) endPark(p crier.PartitionID, leader string) {
	n.mu.Lock()
	timer := n.parked[p]
	if timer != nil {
		delete(n.parked, p)
		n.watchers.Add(1) // before closeParked: Close waits for it
	}
	n.mu.Unlock()
	if timer == nil {
		return
	}
	defer n.watchers.Done()
	timer.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with the call
		select {
		case <-n.stop:
			cancel()
		case <-ended:
		}
	}()
	if err := n.dropParked(ctx, p, leader); err != nil {
		n.log.Warn("a group that was closed for a recovery is opened again", "partition", p.String(), "err", err)
	}
}

// takeParked returns whether a group was parked, and lets go of that. It is still held.
func (n *Node) takeParked(p crier.PartitionID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	timer := n.parked[p]
	if timer == nil {
		return false
	}
	timer.Stop()
	delete(n.parked, p)
	return true
}

// closeParked leaves parked groups closed.
func (n *Node) closeParked() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, timer := range n.parked {
		timer.Stop()
		delete(n.parked, p)
	}
}

// unpark opens a group that was parked.
func (n *Node) unpark(p crier.PartitionID) error {
	if !n.takeParked(p) {
		return nil
	}
	defer n.release(p)
	return n.openHeld(p, raft.Configuration{})
}

// dropParked deletes what this node has of a group that was parked, once the one that leads it now has confirmed that it is out. Else it is opened again.
func (n *Node) dropParked(ctx context.Context, p crier.PartitionID, leader string) error {
	defer n.release(p)
	err := n.confirmedOut(ctx, p, leader)
	if err == nil {
		err = n.storage.Drop(p)
	}
	if err != nil {
		return errors.Join(err, n.openHeld(p, raft.Configuration{}))
	}
	return nil
}

// recoverGroup makes this node's replica of a group the truth. The error is errUnsure, too, where it may have become that.
func (n *Node) recoverGroup(ctx context.Context, p crier.PartitionID, s *clusterv1.Step) error {
	if !n.hold(p) {
		return errBusyGroup
	}
	defer n.release(p)
	g := n.Group(p)
	if g == nil {
		return fmt.Errorf("partition %s is not open here", p)
	}
	if err := n.undisturbed(ctx, g, s); err != nil {
		return err
	}
	if err := n.shut(g); err != nil {
		return err
	}
	err := n.storage.Recover(p, configuration([]string{n.cfg.NodeID}, 1), s.GetTerm())
	if err := errors.Join(err, n.openHeld(p, raft.Configuration{})); err != nil {
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	for deadline := time.Now().Add(recoverTimeout); n.localPID(p) == nil && !n.quiet(n.Group(p)); time.Sleep(installPoll) {
		if err := ctx.Err(); err != nil || time.Now().After(deadline) {
			return errors.Join(errUnsure, err, errors.New("it does not lead the group"))
		}
	}
	return nil
}
