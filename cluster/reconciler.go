package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

const (
	// passEvery is how often the reconciler looks while something moves, and idleEvery how often else.
	passEvery = 100 * time.Millisecond
	idleEvery = time.Second
	// surveyTimeout bounds how long a node may take to tell of its replicas, before it counts as away.
	surveyTimeout = 2 * time.Second
	// surveyAgain is when it is asked once more: a question that was sent over a connection that broke, as that to a node which has just come back, is lost.
	surveyAgain = 300 * time.Millisecond
	// stepsAtOnce bounds the steps that are under way at a time.
	stepsAtOnce = 16
)

// reconciler compares what is wanted with what is, and takes one step after the other, from adding replicas to removing them. It runs on the leader of the
// system group. It keeps nothing that the next one would need: that one sees in the configurations of the groups how far a move is.
type reconciler struct {
	node   *Node
	group  *Group // the system group
	log    *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}
	wake   chan struct{}
	began  time.Time

	marks map[crier.PartitionID]uint64 // of the pass before
	lives []string                     // of the nodes in the pass before
	quiet time.Time                    // since when they are the same
	built progresses

	mu       sync.Mutex
	view     *view
	plan     plan
	seen     map[string]time.Time // when a node was alive last
	versions map[string]string
	forced   bool // leaders are evened out at once
}

// startReconciler begins, on the leader of the system group.
func startReconciler(n *Node, g *Group) *reconciler {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reconciler{
		node: n, group: g, log: n.log, cancel: cancel, ended: make(chan struct{}), wake: make(chan struct{}, 1), began: time.Now(), quiet: time.Now(),
		marks: make(map[crier.PartitionID]uint64), seen: make(map[string]time.Time), versions: make(map[string]string),
	}
	go r.run(ctx)
	return r
}

// stop ends it, and returns when nothing of it runs any more.
func (r *reconciler) stop() {
	r.cancel()
	<-r.ended
}

func (r *reconciler) run(ctx context.Context) {
	defer close(r.ended)
	defer r.node.metrics.noCoordinator()
	for ctx.Err() == nil {
		pause := idleEvery
		if r.pass(ctx) {
			pause = passEvery
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-time.After(pause):
		}
	}
}

// poke makes the next pass come at once.
func (r *reconciler) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pass takes the next step of every group that needs one. It reports whether there is more to do soon.
func (r *reconciler) pass(ctx context.Context) bool {
	if err := r.enroll(ctx); err != nil {
		r.log.Debug("nodes can't be enrolled", "err", err)
		return true
	}
	v := r.look(ctx)
	if ctx.Err() != nil {
		return false
	}
	r.mu.Lock()
	balance := r.forced || time.Since(r.quiet) >= r.node.cfg.BalanceAfter
	r.mu.Unlock()
	p := v.next(r.node.cfg.Replicas, r.node.cfg.MovesAtOnce, balance)
	r.mu.Lock()
	r.view, r.plan = v, p
	r.forced = r.forced && (len(p.steps) > 0 || p.moving > 0) // what is being built comes first
	r.mu.Unlock()
	r.node.metrics.show(r.current(), r.node.cfg.Replicas)
	r.take(ctx, v, p.steps)
	r.farewell(ctx, v)
	return len(p.steps) > 0 || p.soon
}

// enroll makes members of those who have come: the nodes that formed the cluster, and those that have joined since.
func (r *reconciler) enroll(ctx context.Context) error {
	known := make(map[string]bool)
	for _, n := range r.node.storage.Nodes() {
		known[n.ID] = true
	}
	var fresh []string
	_, c := r.node.storage.Configuration(crier.SystemPartition)
	for _, s := range c.Servers {
		fresh = append(fresh, string(s.ID))
	}
	for _, m := range r.node.gossip.all() {
		fresh = append(fresh, m.NodeID)
	}
	for _, id := range fresh {
		if known[id] {
			continue
		}
		known[id] = true
		if err := r.put(ctx, id, crier.NodeMember); err != nil {
			return err
		}
	}
	return nil
}

// put changes what is decided about a node.
func (r *reconciler) put(ctx context.Context, id string, state crier.NodeState) error {
	if _, err := r.group.Apply(ctx, r.node.storage.NodeCommand(crier.Node{ID: id, State: state})); err != nil {
		return err
	}
	r.log.Info("the cluster has decided about a node", "member", id, "state", string(state))
	return nil
}

// look asks every node for its replicas.
func (r *reconciler) look(ctx context.Context) *view {
	v := &view{began: time.Now(), nodes: make(map[string]*nodeView), groups: make(map[crier.PartitionID]*groupView)}
	for _, p := range r.node.allGroups() {
		v.groups[p] = &groupView{open: make(map[string]uint64), mark: r.marks[p]}
	}
	answers := r.ask(ctx)
	now := time.Now()
	r.mu.Lock()
	for _, n := range r.node.storage.Nodes() {
		if n.State.Gone() {
			continue
		}
		at := &nodeView{state: n.State}
		if a := answers[n.ID]; a != nil {
			at.alive, at.full = true, a.GetFull()
			r.seen[n.ID], r.versions[n.ID] = now, a.GetVersion()
		}
		at.lost = now.Sub(r.lastSeen(n.ID)) >= r.node.cfg.Grace
		v.nodes[n.ID] = at
	}
	r.mu.Unlock()
	v.fill(answers)
	r.built = r.built.next(v, now)
	for p, g := range v.groups {
		if g.mark == 0 {
			g.mark = max(g.last, 1)
		}
		r.marks[p] = g.last
	}
	if lives := r.livesOf(v); !slices.Equal(lives, r.lives) {
		r.lives, r.quiet = lives, now
	}
	return v
}

// lastSeen returns when a node was alive last; a new reconciler takes it that it was just now. The caller holds mu.
func (r *reconciler) lastSeen(id string) time.Time {
	if t, ok := r.seen[id]; ok {
		return t
	}
	return r.began
}

// ask surveys the nodes that gossip believes alive, and belong to the cluster. Who does not answer in time is not in the result.
func (r *reconciler) ask(ctx context.Context) map[string]*clusterv1.Surveyed {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := make(map[string]*clusterv1.Surveyed)
	for _, n := range r.node.storage.Nodes() {
		if _, ok := r.node.gossip.member(n.ID); !ok || n.State.Gone() {
			continue
		}
		wg.Go(func() {
			a := r.survey(ctx, n.ID)
			if a == nil {
				r.log.Debug("a node does not tell of its replicas", "member", n.ID)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[n.ID] = a
		})
	}
	wg.Wait()
	return answers
}

// survey asks a node, again and again, until one of its answers comes; nil: none did before ctx ended.
func (r *reconciler) survey(ctx context.Context, id string) *clusterv1.Surveyed {
	answers := make(chan *clusterv1.Surveyed)
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(surveyAgain)
	defer tick.Stop()
	for {
		asking.Go(func() {
			answer, err := r.node.askControl(ctx, id, new(clusterv1.Survey))
			if a, ok := answer.(*clusterv1.Surveyed); ok && err == nil {
				select {
				case answers <- a:
				case <-ctx.Done():
				}
			}
		})
		select {
		case a := <-answers:
			return a
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// fill takes in what nodes have told. Of two that believe that they lead a group, the later term counts.
func (v *view) fill(answers map[string]*clusterv1.Surveyed) {
	terms := make(map[crier.PartitionID]uint64)
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		for _, replica := range answers[id].GetReplicas() {
			p := crier.PartitionID(replica.GetPartition())
			g := v.groups[p]
			if g == nil {
				continue
			}
			g.open[id] = replica.GetApplied()
			if !replica.GetLeads() || replica.GetTerm() < terms[p] {
				continue
			}
			terms[p] = replica.GetTerm()
			g.leader, g.configuration, g.last, g.voters, g.others = id, replica.GetConfigurationIndex(), replica.GetLast(), nil, nil
			for _, s := range replica.GetServers() {
				if s.GetVotes() {
					g.voters = append(g.voters, s.GetNode())
				} else {
					g.others = append(g.others, s.GetNode())
				}
			}
		}
	}
}

// livesOf returns the lives of the nodes that are alive, and which of them are full: one that was away between two looks, and in neither, is in another life.
func (r *reconciler) livesOf(v *view) (lives []string) {
	for id, n := range v.nodes {
		if m, ok := r.node.gossip.member(id); ok && n.alive {
			lives = append(lives, fmt.Sprint(id, m.ActorSystem, n.full))
		}
	}
	slices.Sort(lives)
	return lives
}

// take takes the steps, several at a time. One that fails is decided on anew in the next pass.
func (r *reconciler) take(ctx context.Context, v *view, steps []step) {
	group := new(errgroup.Group)
	group.SetLimit(stepsAtOnce)
	for _, s := range steps {
		group.Go(func() error {
			bounded, cancel := context.WithTimeout(ctx, controlTimeout)
			defer cancel()
			err := r.takeOne(bounded, v.groups[s.group], s)
			r.node.metrics.step(s.kind, err)
			if err != nil && ctx.Err() == nil {
				r.log.Debug("a step of a move failed, and is decided on anew", "partition", s.group.String(), "step", s.String(), "err", err)
			} else if err == nil {
				r.log.Debug("a step of a move", "partition", s.group.String(), "step", s.String())
			}
			return nil
		})
	}
	_ = group.Wait() // of functions that return none
}

// takeOne has the node take a step that can: the leader what changes the group, the node itself the rest.
func (r *reconciler) takeOne(ctx context.Context, g *groupView, s step) error {
	message := &clusterv1.Step{Kind: s.kind, Partition: uint32(s.group), Node: s.node, ConfigurationIndex: g.configuration, Leader: g.leader}
	switch s.kind {
	case clusterv1.StepKind_STEP_KIND_OPEN, clusterv1.StepKind_STEP_KIND_DROP:
		return r.node.stepAt(ctx, s.node, message)
	case clusterv1.StepKind_STEP_KIND_ADD: // never before the group is open there: see dropGroup
		open := &clusterv1.Step{Kind: clusterv1.StepKind_STEP_KIND_OPEN, Partition: uint32(s.group), Node: s.node}
		if err := r.node.stepAt(ctx, s.node, open); err != nil {
			return err
		}
	}
	return r.node.stepAt(ctx, g.leader, message)
}

// farewell lets drained nodes go, and tells those that have left for ever.
func (r *reconciler) farewell(ctx context.Context, v *view) {
	for id, n := range v.nodes {
		if n.state == crier.NodeDraining && v.isFree(id) {
			if err := r.put(ctx, id, crier.NodeDrained); err != nil {
				r.log.Debug("a drained node can't be let go yet", "member", id, "err", err)
			}
		}
	}
	for _, n := range r.node.storage.Nodes() {
		if _, ok := r.node.gossip.member(n.ID); !ok || !n.State.Gone() {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, surveyTimeout)
		if _, err := r.node.askControl(bounded, n.ID, &clusterv1.Leave{State: string(n.State)}); err != nil {
			r.log.Debug("a node that has left does not answer", "member", n.ID, "err", err)
		}
		cancel()
	}
}

// isFree reports whether no group has a replica on the node, as far as can be seen: all of them have a leader.
func (v *view) isFree(id string) bool {
	for _, g := range v.groups {
		if g.leader == "" || g.configuration == 0 || slices.Contains(g.holders(), id) {
			return false
		}
	}
	return true
}
