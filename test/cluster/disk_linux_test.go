package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	diskMB    = 1000 // of a node's disk
	reserveMB = 100  // below which a node refuses writes
	// diskName is what the disks of this process are called in the list of mounts, before its id.
	diskName = "crier-chaos-"
)

// disk is a file system in memory that can be made to have as much room as a test likes.
type disk struct{ dir string }

// newDisk mounts a disk until the test ends. The error is EPERM or EACCES where that takes more rights.
func newDisk(t *testing.T) (*disk, error) {
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	d := &disk{dir}
	if err := d.mount(0, diskMB<<20); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d, nil
}

func (d *disk) mount(flags uintptr, size int64) error {
	return syscall.Mount(diskName+strconv.Itoa(os.Getpid()), d.dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0700", size))
}

// leave makes the disk so small that as many bytes are free.
func (d *disk) leave(free int64) (err error) {
	for range 1000 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &st); err != nil {
			return err
		}
		used := int64(st.Blocks-st.Bfree) * st.Bsize
		if err = d.mount(syscall.MS_REMOUNT, used+free); !errors.Is(err, syscall.EINVAL) {
			return err
		}
		// The node has written meanwhile: it is too small for what there is.
	}
	return err
}

// makeRoom gives it back its size.
func (d *disk) makeRoom() error { return d.mount(syscall.MS_REMOUNT, diskMB<<20) }

// removeOldDisks unmounts what test processes left behind that were killed.
func removeOldDisks(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[0], diskName) {
			continue
		}
		pid, err := strconv.Atoi(fields[0][len(diskName):])
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue // of one that runs
		}
		t.Logf("a disk of process %d is left: %s", pid, fields[1])
		if err := syscall.Unmount(fields[1], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EPERM) {
			t.Error(err)
		}
	}
}
