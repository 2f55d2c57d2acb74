package persistence

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

var (
	errRestoring  = crier.Errorf(crier.CodeBadParameter, "the cluster is being restored, or a restore has broken off: end it, or begin another")
	errNotThatOne = crier.Errorf(crier.CodeBadParameter, "another restore has begun since")
)

// restore takes a step of a restore. Partitions come before the apps: until an app is there, nobody can ask for what is in them.
func (y *System) restore(c *logv1.Restore) any {
	var last logv1.Restore
	if err := y.getProto(y.keys.kind(kindRestore), &last); err != nil {
		return y.broken(err)
	}
	switch step := c.GetStep(); {
	case step == logv1.RestoreStep_RESTORE_STEP_BEGIN:
		return y.beginRestore(c)
	case c.GetId() != last.GetId() || c.GetId() == 0:
		return errNotThatOne
	case step == logv1.RestoreStep_RESTORE_STEP_END:
		y.keepRestore(c)
		return nil
	case step == logv1.RestoreStep_RESTORE_STEP_APP && last.GetStep() != logv1.RestoreStep_RESTORE_STEP_END:
		app := new(crier.App)
		if err := json.Unmarshal(c.GetApp(), app); err != nil {
			return internal(err)
		}
		return y.show(app)
	default:
		return errNotThatOne
	}
}

// beginRestore begins one, unless there are apps of something else than a restore that has broken off.
func (y *System) beginRestore(c *logv1.Restore) any {
	apps := *y.apps.Load()
	if len(apps) > 0 && y.restoring.Load() == 0 {
		return crier.Errorf(crier.CodeBadParameter, "the cluster has %d apps: a backup is restored into an empty one", len(apps))
	}
	for id := range apps {
		y.delete(y.keys.app(kindApp, id))
	}
	y.apps.Store(&map[crier.AppID]*crier.App{})
	y.keepRestore(c)
	return nil
}

func (y *System) keepRestore(c *logv1.Restore) {
	kept := &logv1.Restore{Id: c.GetId(), Step: c.GetStep()}
	y.putProto(y.keys.kind(kindRestore), kept)
	y.setRestore(kept)
}

// setRestore shows the last restore to readers.
func (y *System) setRestore(last *logv1.Restore) {
	if last.GetStep() == logv1.RestoreStep_RESTORE_STEP_BEGIN {
		y.restoring.Store(last.GetId())
	} else {
		y.restoring.Store(0)
	}
}

// Restoring returns the restore that has begun and not ended, as this node's replica of the system group has it; 0 where there is none.
func (s *Store) Restoring() uint64 { return s.system.restoring.Load() }

// BeginRestore returns the command of the system group that begins a restore by an id, which is not 0. It is refused with crier.CodeBadParameter
// where there are apps, but for those of a restore that has broken off: these go.
func (s *Store) BeginRestore(id uint64) []byte {
	return restoreCommand(id, logv1.RestoreStep_RESTORE_STEP_BEGIN, nil)
}

// RestoreApp returns the command that puts an app of a backup. It is refused with crier.CodeBadParameter unless the restore is the one that was begun last, and has
// not ended.
func (s *Store) RestoreApp(id uint64, app []byte) []byte {
	return restoreCommand(id, logv1.RestoreStep_RESTORE_STEP_APP, app)
}

// EndRestore returns the command that ends a restore: everything is there. It is refused with crier.CodeBadParameter unless it is the one that was begun last.
func (s *Store) EndRestore(id uint64) []byte {
	return restoreCommand(id, logv1.RestoreStep_RESTORE_STEP_END, nil)
}

func restoreCommand(id uint64, step logv1.RestoreStep, app []byte) []byte {
	return stamp(&logv1.Command{Body: &logv1.Command_Restore{Restore: &logv1.Restore{Id: id, Step: step, App: app}}})
}

// Spool is a file without a name in the data directory: it goes when it is closed, or the process ends. What is written is refused while the disk is almost
// full.
type Spool struct {
	*os.File
	store *Store
}

// Spool returns an empty one.
func (s *Store) Spool() (*Spool, error) {
	dir := filepath.Join(s.cfg.Dir, "incoming")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, err
	}
	return &Spool{f, s}, os.Remove(f.Name())
}

// Write is io.Writer's.
func (f *Spool) Write(p []byte) (int, error) {
	if err := f.store.Writable(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// ReadFrom hides that of os.File, which would write past Write.
func (f *Spool) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{f}, r)
}
