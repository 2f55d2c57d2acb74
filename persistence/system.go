package persistence

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// System is the state machine of the system group: the apps, and the nodes of the cluster. Readers see the
// last applied state without a lock. It implements raft.BatchingFSM.
type System struct {
	*base
	apps  atomic.Pointer[map[crier.AppID]*crier.App] // replaced, never changed
	nodes atomic.Pointer[[]crier.Node]               // by id; replaced, never changed
	// restoring is the restore that has begun and not ended, 0 for none.
	restoring atomic.Uint64
}

func newSystem(s *Store) *System {
	y := new(System)
	y.base = newBase(s, crier.SystemPartition, y)
	y.apps.Store(&map[crier.AppID]*crier.App{})
	y.nodes.Store(new([]crier.Node))
	return y
}

func (y *System) load() error {
	y.mu.Lock()
	defer y.mu.Unlock()
	if err := y.loadMeta(); err != nil {
		return err
	}
	return y.reload()
}

// reload reads the apps and the nodes from disk.
func (y *System) reload() error {
	apps, nodes := make(map[crier.AppID]*crier.App), new([]crier.Node)
	err := y.store.stateDB.View(func(txn *badger.Txn) error {
		if err := y.loadOrigins(txn); err != nil {
			return err
		}
		err := scan(txn, y.keys.kind(kindApp), func(k, v []byte) error {
			app := new(crier.App)
			if err := json.Unmarshal(v, app); err != nil {
				return fmt.Errorf("app %d: %w", keyApp(k), err)
			}
			apps[app.ID] = app
			return nil
		})
		if err != nil {
			return err
		}
		return scan(txn, y.keys.kind(kindNode), func(_, v []byte) error {
			var node crier.Node
			if err := json.Unmarshal(v, &node); err != nil {
				return fmt.Errorf("a node: %w", err)
			}
			*nodes = append(*nodes, node)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("load the system group: %w", err)
	}
	y.apps.Store(&apps)
	y.nodes.Store(nodes)
	var last logv1.Restore
	err = y.getProto(y.keys.kind(kindRestore), &last)
	y.setRestore(&last)
	return err
}

// errPartition is the result of a command of a partition.
var errPartition = crier.Errorf(crier.CodeInternal, "a command of a partition came to the system group")

func (y *System) change([]crier.AccountChanges) any { return errPartition }

// apply is one command. The caller holds mu.
func (y *System) apply(cmd *logv1.Command) any {
	switch c := cmd.GetBody().(type) {
	case *logv1.Command_PutApp:
		return y.once(wire.ToCommandID(cmd.GetId()), func() error { return y.putApp(c.PutApp) })
	case *logv1.Command_SetAttrNames:
		return y.once(wire.ToCommandID(cmd.GetId()), func() error { return y.setAttrNames(c.SetAttrNames) })
	case *logv1.Command_PutNode:
		return y.putNode(c.PutNode)
	case *logv1.Command_Restore:
		return y.restore(c.Restore)
	default:
		return errPartition
	}
}

// putApp creates an app, or replaces all of one but its attribute names.
func (y *System) putApp(c *logv1.PutApp) error {
	app := new(crier.App)
	if err := json.Unmarshal(c.GetApp(), app); err != nil {
		return internal(err)
	}
	old := (*y.apps.Load())[app.ID]
	switch {
	case y.restoring.Load() != 0:
		return errRestoring
	case c.GetCreate() && old != nil:
		return crier.Errorf(crier.CodeBadParameter, "app %d exists already", app.ID)
	case !c.GetCreate() && old == nil:
		return errNoApp(app.ID)
	case old != nil:
		app.AttrNames, app.CreatedAt = old.AttrNames, old.CreatedAt
	}
	return y.show(app)
}

func (y *System) setAttrNames(c *logv1.SetAttrNames) error {
	old := (*y.apps.Load())[crier.AppID(c.GetApp())]
	if old == nil {
		return errNoApp(crier.AppID(c.GetApp()))
	}
	set := make(map[int]string)
	for slot, name := range c.GetNames() {
		set[int(slot)] = name
	}
	names, err := old.AttrNames.With(set)
	if err != nil {
		return err
	}
	app := *old
	app.AttrNames = names
	return y.show(&app)
}

// show writes one app and shows it to readers.
func (y *System) show(app *crier.App) error {
	text, err := json.Marshal(app)
	if err != nil {
		return internal(err)
	}
	y.put(y.keys.app(kindApp, app.ID), text)
	apps := make(map[crier.AppID]*crier.App, len(*y.apps.Load())+1)
	for id, a := range *y.apps.Load() {
		apps[id] = a
	}
	apps[app.ID] = app
	y.apps.Store(&apps)
	return nil
}

// stateOrder is how the states of a node follow each other.
var stateOrder = []crier.NodeState{crier.NodeMember, crier.NodeDraining, crier.NodeDrained, crier.NodeRemoved}

// putNode adds a node, or moves its state on. What is final stays; only a drain that has not come to its end can be cancelled.
func (y *System) putNode(c *logv1.PutNode) any {
	node := crier.Node{ID: c.GetId(), State: crier.NodeState(c.GetState())}
	nodes := slices.Clone(*y.nodes.Load())
	i, known := slices.BinarySearchFunc(nodes, node.ID, func(n crier.Node, id string) int { return cmp.Compare(n.ID, id) })
	order := slices.Index(stateOrder, node.State)
	draining := known && nodes[i].State == crier.NodeDraining
	cancelled := draining && node.State == crier.NodeMember
	switch {
	case order < 0 || node.ID == "":
		return crier.Errorf(crier.CodeBadParameter, "a node %s in a state %s", crier.Quote(node.ID), crier.Quote(string(node.State)))
	case known && nodes[i].State == node.State:
		return nil
	case cancelled:
		nodes[i] = node
	case known && (nodes[i].State.Gone() || order < slices.Index(stateOrder, nodes[i].State) || node.State == crier.NodeDrained && !draining), !known && node.State != crier.NodeMember:
		return crier.Errorf(crier.CodeBadParameter, "node %s can't become %s", crier.Quote(node.ID), node.State)
	case known:
		nodes[i] = node
	default:
		nodes = slices.Insert(nodes, i, node)
	}
	text, err := json.Marshal(node)
	if err != nil {
		return internal(err)
	}
	y.put(y.keys.node(node.ID), text)
	y.nodes.Store(&nodes)
	return nil
}

// Nodes returns the nodes of the cluster by id, those that have left too, as this node's replica of the system group has them.
func (s *Store) Nodes() []crier.Node { return *s.system.nodes.Load() }

// NodeCommand returns the command of the system group that adds a node, or moves its state on.
func (s *Store) NodeCommand(n crier.Node) []byte {
	return stamp(&logv1.Command{Body: &logv1.Command_PutNode{PutNode: &logv1.PutNode{Id: n.ID, State: string(n.State)}}})
}

// SystemReplica is the system group as actors and servers use it. It
// implements actors.SystemReplica.
type SystemReplica struct {
	y   *System
	log Log
}

// SystemReplica returns the system group with commands going to log; nil serves
// reads only.
func (s *Store) SystemReplica(log Log) *SystemReplica { return &SystemReplica{s.system, log} }

// App returns an app, nil where there is none.
func (r *SystemReplica) App(id crier.AppID) *crier.App { return (*r.y.apps.Load())[id] }

// Index returns how far this node's replica is.
func (r *SystemReplica) Index() uint64 {
	r.y.mu.RLock()
	defer r.y.mu.RUnlock()
	return r.y.meta.GetIndex()
}

// Verify is actors.SystemReplica's.
func (r *SystemReplica) Verify(ctx context.Context) error { return r.log.Verify(ctx) }

// Apps returns every app by id.
func (r *SystemReplica) Apps() []*crier.App {
	var apps []*crier.App
	for _, a := range *r.y.apps.Load() {
		apps = append(apps, a)
	}
	slices.SortFunc(apps, func(a, b *crier.App) int { return cmp.Compare(a.ID, b.ID) })
	return apps
}

// CreateApp adds an app.
func (r *SystemReplica) CreateApp(ctx context.Context, id crier.CommandID, app *crier.App) error {
	return r.putApp(ctx, id, app, true)
}

// UpdateApp replaces an app but for its attribute names.
func (r *SystemReplica) UpdateApp(ctx context.Context, id crier.CommandID, app *crier.App) error {
	return r.putApp(ctx, id, app, false)
}

func (r *SystemReplica) putApp(ctx context.Context, id crier.CommandID, app *crier.App, create bool) error {
	text, err := json.Marshal(app)
	if err != nil {
		return internal(err)
	}
	return r.propose(ctx, id, &logv1.Command{Body: &logv1.Command_PutApp{PutApp: &logv1.PutApp{App: text, Create: create}}})
}

// SetAttrNames names attribute slots.
func (r *SystemReplica) SetAttrNames(ctx context.Context, id crier.CommandID, app crier.AppID, set map[int]string) error {
	names := make(map[uint32]string, len(set))
	for slot, name := range set {
		if slot < 0 {
			return crier.Errorf(crier.CodeBadAttr, "attribute slot %d is not in 0..%d", slot, crier.MaxAttrs-1)
		}
		names[uint32(slot)] = name
	}
	cmd := &logv1.SetAttrNames{App: uint32(app), Names: names}
	return r.propose(ctx, id, &logv1.Command{Body: &logv1.Command_SetAttrNames{SetAttrNames: cmd}})
}

func (r *SystemReplica) propose(ctx context.Context, id crier.CommandID, cmd *logv1.Command) error {
	cmd.Id = wire.FromCommandID(id)
	_, err := propose(ctx, r.y.store, r.log, stamp(cmd))
	return err
}
