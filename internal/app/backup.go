package app

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/persistence"
)

const (
	// cutTimeout bounds how long a backup looks for a moment at which every partition has a leader.
	cutTimeout = 15 * time.Second
	// installsAtOnce is how many partitions are restored at a time: most of it is waiting for disks and followers.
	installsAtOnce = 8
)

// Backup is operator.Backups'.
func (c *Core) Backup(ctx context.Context, w io.Writer) error {
	return c.backups.count("backup", c.writeBackup(ctx, w))
}

func (c *Core) writeBackup(ctx context.Context, w io.Writer) error {
	bounded, cancel := context.WithTimeout(ctx, cutTimeout)
	defer cancel()
	cut, err := c.Cluster.Cut(bounded)
	if err != nil {
		return err
	}
	defer cut.Close()
	return persistence.WriteBackup(w, Version(), c.Store.Partitions(), func(p crier.PartitionID, w io.Writer) error {
		return cut.Stream(ctx, p, w)
	})
}

// Restore is operator.Backups'. The partitions come first, and the apps last: until one is there, nobody can ask for what is in the partitions, and until the end
// none of their actors runs.
func (c *Core) Restore(ctx context.Context, r io.Reader, progress func(done, total int)) error {
	return c.backups.count("restore", c.readBackup(ctx, r, progress))
}

func (c *Core) readBackup(ctx context.Context, r io.Reader, progress func(done, total int)) error {
	if apps := c.Service.Apps(); len(apps) > 0 && c.Store.Restoring() == 0 { // before it is sent for nothing; the log decides
		return crier.Errorf(crier.CodeBadParameter, "the cluster has %d apps: a backup is restored into an empty one", len(apps))
	}
	backup, err := c.receive(r)
	if err != nil {
		return err
	}
	defer backup.Close()
	id := rand.Uint64() | 1
	if err := c.Cluster.Command(ctx, c.Store.BeginRestore(id)); err != nil {
		return err
	}
	installs, bounded := errgroup.WithContext(ctx)
	installs.SetLimit(installsAtOnce)
	t := &tally{progress: progress}
	_, err = persistence.ReadBackup(backup, func(info *persistence.BackupInfo, p crier.PartitionID, state io.Reader) error {
		t.expect(info.Partitions + 1)
		if p == crier.SystemPartition {
			if err := installs.Wait(); err != nil {
				return err
			}
			return persistence.BackupApps(state, func(app []byte) error { return c.Cluster.Command(ctx, c.Store.RestoreApp(id, app)) })
		}
		spool, size, err := c.unpack(state)
		if err != nil {
			return fmt.Errorf("unpack partition %s: %w", p, err)
		}
		installs.Go(func() error {
			defer spool.Close()
			if err := c.Cluster.Install(bounded, id, p, size, spool); err != nil {
				return err
			}
			t.add()
			return nil
		})
		return bounded.Err()
	})
	if failed := installs.Wait(); failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	if err := c.Cluster.Command(ctx, c.Store.EndRestore(id)); err != nil {
		return err
	}
	return c.Cluster.WaitForReady(ctx)
}

// receive keeps a backup in a file, and makes sure that it is whole, and for this cluster.
func (c *Core) receive(r io.Reader) (*persistence.Spool, error) {
	spool, err := c.Store.Spool()
	if err != nil {
		return nil, err
	}
	err = func() error {
		if _, err := io.Copy(spool, r); err != nil {
			return crier.Errorf(crier.CodeBadParameter, "the backup can't be received: %v", err)
		}
		if _, err := spool.Seek(0, io.SeekStart); err != nil {
			return err
		}
		info, err := persistence.VerifyBackup(spool, func(int, int) {})
		if err != nil {
			return crier.Errorf(crier.CodeBadParameter, "nothing was restored: %v", err)
		}
		if info.Partitions != c.Store.Partitions() {
			return crier.Errorf(crier.CodeBadParameter, "the backup has %d partitions and the cluster %d: start an empty one with cluster.partitions: %d",
				info.Partitions, c.Store.Partitions(), info.Partitions)
		}
		_, err = spool.Seek(0, io.SeekStart)
		return err
	}()
	if err != nil {
		_ = spool.Close() // the first error is the one to tell
		return nil, err
	}
	return spool, nil
}

// unpack keeps the state of one partition in a file, of which it is sent, and sent again where its leader changes.
func (c *Core) unpack(state io.Reader) (spool *persistence.Spool, size int64, err error) {
	if spool, err = c.Store.Spool(); err != nil {
		return nil, 0, err
	}
	if size, err = io.Copy(spool, state); err != nil {
		_ = spool.Close() // the first error is the one to tell
		return nil, 0, err
	}
	return spool, size, nil
}

// tally counts partitions that are there, and tells.
type tally struct {
	mu          sync.Mutex
	done, total int
	progress    func(done, total int)
}

func (t *tally) expect(total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total = total
}

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	t.progress(t.done, t.total)
}
