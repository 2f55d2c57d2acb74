package actorstest

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/crier-im/crier"
)

// System is the system group in memory. It implements actors.SystemReplica. Safe
// for concurrent use.
type System struct {
	mu      sync.Mutex
	apps    map[crier.AppID]*crier.App // values are replaced, never changed
	indexes []uint64                   // what Index returns next
}

// NewSystem returns a group with the apps.
func NewSystem(apps ...*crier.App) *System {
	s := &System{apps: make(map[crier.AppID]*crier.App)}
	for _, app := range apps {
		s.apps[app.ID] = app
	}
	return s
}

// App is actors.SystemReplica's.
func (s *System) App(id crier.AppID) *crier.App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apps[id]
}

// Apps is actors.SystemReplica's.
func (s *System) Apps() []*crier.App {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*crier.App, 0, len(s.apps))
	for _, app := range s.apps {
		all = append(all, app)
	}
	slices.SortFunc(all, func(a, b *crier.App) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Index is actors.SystemReplica's.
func (s *System) Index() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.indexes) == 0 {
		return 0
	}
	i := s.indexes[0]
	s.indexes = s.indexes[1:]
	return i
}

// SetIndexes sets what Index returns the next times; 0 after that.
func (s *System) SetIndexes(indexes ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.indexes = indexes
}

// Indexes returns how many of these are left.
func (s *System) Indexes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.indexes)
}

// Verify is actors.SystemReplica's.
func (*System) Verify(context.Context) error { return nil }

// CreateApp is actors.SystemReplica's.
func (s *System) CreateApp(_ context.Context, _ crier.CommandID, app *crier.App) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apps[app.ID] != nil {
		return crier.Errorf(crier.CodeBadParameter, "app %d exists", app.ID)
	}
	s.apps[app.ID] = app
	return nil
}

// UpdateApp is actors.SystemReplica's.
func (s *System) UpdateApp(_ context.Context, _ crier.CommandID, app *crier.App) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.apps[app.ID]
	if old == nil {
		return crier.Errorf(crier.CodeUnknownApp, "there is no app %d", app.ID)
	}
	updated := *app
	updated.AttrNames = old.AttrNames
	s.apps[app.ID] = &updated
	return nil
}

// SetAttrNames is actors.SystemReplica's.
func (s *System) SetAttrNames(_ context.Context, _ crier.CommandID, id crier.AppID, set map[int]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.apps[id]
	if old == nil {
		return crier.Errorf(crier.CodeUnknownApp, "there is no app %d", id)
	}
	names, err := old.AttrNames.With(set)
	if err != nil {
		return err
	}
	updated := *old
	updated.AttrNames = names
	s.apps[id] = &updated
	return nil
}
