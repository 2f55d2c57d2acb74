package persistence

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/crier-im/crier"
)

// formatVersion is the version of the data directory. A change that an older
// Crier can't read raises it.
const formatVersion = 1

// identityFile describes the data directory.
const identityFile = "crier.json"

// identity is what identityFile holds.
type identity struct {
	Format     int       `json:"format"`
	NodeID     string    `json:"node_id"`
	Partitions int       `json:"partitions"`
	Created    time.Time `json:"created"`
	Members    []string  `json:"members,omitempty"` // the nodes that formed the cluster
	Forming    bool      `json:"forming,omitempty"` // not all groups of this node have begun yet
}

// loadIdentity reads the identity of a data directory, or writes a new one.
func loadIdentity(dir string, partitions int) (identity, error) {
	var id identity
	name := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return newIdentity(dir, partitions)
	}
	if err != nil {
		return id, fmt.Errorf("data directory: %w", err)
	}
	if err := json.Unmarshal(text, &id); err != nil || id.NodeID == "" {
		return id, fmt.Errorf("%s does not describe a data directory of Crier; restore it from a backup, or choose another directory", name)
	}
	if id.Format != formatVersion {
		return id, fmt.Errorf("%s has format %d, this version of Crier reads format %d; use the version that wrote it, or choose another directory", name, id.Format, formatVersion)
	}
	if id.Partitions != partitions {
		return id, fmt.Errorf("%s was made with %d partitions, the configuration says %d; the number is fixed for ever, set cluster.partitions to %d", name, id.Partitions, partitions, id.Partitions)
	}
	return id, nil
}

func newIdentity(dir string, partitions int) (identity, error) {
	for _, db := range []string{"log", "state"} {
		if _, err := os.Stat(filepath.Join(dir, db)); err == nil {
			return identity{}, fmt.Errorf("%s has a database but no %s; restore the file from a backup, or choose another directory", dir, identityFile)
		}
	}
	id := identity{Format: formatVersion, NodeID: uuid.NewString(), Partitions: partitions, Created: time.Now().UTC()}
	return id, id.write(dir)
}

func (id *identity) write(dir string) error {
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, identityFile), append(text, '\n'))
}

// writeFile writes a file so that a crash leaves either none or all of it.
func writeFile(name string, text []byte) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(filepath.Dir(name))
}

// syncDir blocks until the names of the files in a directory are durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dirLock keeps other processes out of a data directory. The kernel lets go of
// it when the process ends, however it ends.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another process (%w)", dir, err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) release() error { return l.file.Close() }

// diskGuard watches the free space of the data directory.
type diskGuard struct {
	dir string
	min uint64

	mu      sync.Mutex
	checked time.Time
	err     error
}

// diskCheckEvery is how old an answer of a diskGuard may be. Committed batches are
// bounded, so that what is written in that time is far below the smallest sensible reserve.
const diskCheckEvery = time.Second

func newDiskGuard(dir string, min uint64) *diskGuard { return &diskGuard{dir: dir, min: min} }

// startFree is the free space without which a node does not start, in bytes: opening the databases writes a little, and through
// memory maps, where a disk without a free block ends the process without a word.
const startFree = 16 << 20

// checkStart refuses to start on a full disk.
func (g *diskGuard) checkStart() error {
	free, err := g.free()
	if need := min(g.min, startFree); err == nil && free < need {
		err = fmt.Errorf("the disk of the data directory %s has %d MB free, a start needs %d MB; make room", g.dir, free>>20, need>>20)
	}
	return err
}

func (g *diskGuard) free() (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(g.dir, &st); err != nil {
		return 0, fmt.Errorf("free space of the data directory: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (g *diskGuard) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.checked) < diskCheckEvery {
		return g.err
	}
	g.checked, g.err = time.Now(), nil
	if free, err := g.free(); err != nil {
		g.err = crier.Errorf(crier.CodeInternal, "the disk of the data directory can't be asked for its free space, writes are refused")
	} else if free < g.min {
		g.err = crier.Errorf(crier.CodeInternal, "the disk is almost full, writes are refused: %d MB free, %d MB required", free>>20, g.min>>20)
	}
	return g.err
}
