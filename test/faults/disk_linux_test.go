package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

const (
	diskMB    = 400 // of the small disk
	minFreeMB = 100 // below which writes are refused
)

// smallDisk mounts a file system in memory until the test ends.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", diskMB))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("NOT TESTED: a full disk needs the right to mount a small tmpfs, as root has it: %v", err)
	}
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)))
		}
	})
	return dir
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// ballast fills the disk until only left bytes are free.
func ballast(t *testing.T, dir, name string, left int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for freeBytes(t, dir) > left {
		n := min(int64(len(block)), freeBytes(t, dir)-left)
		if _, err := f.Write(block[:n]); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// once is the client without further tries: a refusal is what it is.
func once(c *client.Client) *client.Client {
	single := *c
	single.Attempts = 1
	return &single
}

// On a disk that fills up, down to the last byte, writes are refused with 91000 and a sentence, reads go on,
// and writes go on when there is room again, in the same process. What was acknowledged before and after is there
// after kill -9.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	n := newNode(t, filepath.Join(dir, "data"), minFreeMB)
	n.mustStart()
	c := n.client()
	l := fill(t, c, 10)
	l.check(t, c)
	for range 2 {
		ballast(t, dir, "ballast", minFreeMB<<20-1<<20)
		eventually(t, "writes are refused", func() bool { return errors.Is(l.write(t, once(c)), crier.CodeInternal) })
		refusals(t, c)
		l.read(t, c)                // a push that was accepted last may wait for room
		ballast(t, dir, "more", 0)  // the rest
		time.Sleep(2 * time.Second) // for more than one look at the disk
		refusals(t, c)
		l.read(t, c)
		makeRoom(t, dir)
		eventually(t, "writes go on", func() bool { return l.write(t, once(c)) == nil })
		if n.process.Ended() {
			t.Fatal("the process has ended")
		}
		l.check(t, c)
	}
	n.kill()
	n.mustStart()
	l.check(t, n.client())
}

// A disk that something else fills at once, faster than the node looks, may end the process, since databases are written
// through memory maps. Room made and the node started again, what was acknowledged is there.
func TestDiskThatFillsAtOnce(t *testing.T) {
	dir := smallDisk(t)
	n := newNode(t, filepath.Join(dir, "data"), minFreeMB)
	n.mustStart()
	c := n.client()
	l := fill(t, c, 10)
	ballast(t, dir, "ballast", 0)
	eventually(t, "a write is not acknowledged", func() bool { return l.write(t, once(c)) != nil })
	time.Sleep(2 * time.Second)
	if n.process.Ended() {
		t.Logf("it ended with %v", n.state())
		makeRoom(t, dir)
		n.mustStart()
	} else {
		refusals(t, c)
		l.read(t, c)
		makeRoom(t, dir)
	}
	l.check(t, n.client())
	if err := l.write(t, n.client()); err != nil {
		t.Error(err)
	}
	n.kill()
	n.mustStart()
	l.check(t, n.client())
}

// makeRoom removes what fills the disk.
func makeRoom(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"ballast", "more"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// refusals checks the answer of every kind of write.
func refusals(t *testing.T, c *client.Client) {
	t.Helper()
	one := once(c)
	for name, write := range map[string]func(context.Context) error{
		"import": func(ctx context.Context) error { return one.Import(ctx, "late") },
		"set": func(ctx context.Context) error {
			return one.SetAttrs(ctx, map[crier.UserID]map[string]string{user(0): {"count": "99"}})
		},
		"tag":  func(ctx context.Context) error { return one.AddTags(ctx, map[crier.UserID][]string{user(0): {"late"}}) },
		"name": func(ctx context.Context) error { return one.SetAttrNames(ctx, map[int]string{5: "late"}) },
		"push": func(ctx context.Context) error {
			_, err := one.Push(ctx, client.Push{Text: "late", LifeTime: time.Hour})
			return err
		},
	} {
		err := write(t.Context())
		if !errors.Is(err, crier.CodeInternal) || crier.AsError(err).Info == crier.CodeInternal.Text() {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
}

// A node that starts on an almost full disk answers reads. Without a single free block the databases can't be opened through their
// memory maps, and the process ends; room made, nothing is missing.
func TestStartOnAFullDisk(t *testing.T) {
	dir := smallDisk(t)
	n := newNode(t, filepath.Join(dir, "data"), minFreeMB)
	n.mustStart()
	l := fill(t, n.client(), 5)
	l.check(t, n.client())
	n.kill()
	ballast(t, dir, "ballast", minFreeMB<<20-1<<20)
	n.mustStart()
	refusals(t, n.client())
	l.read(t, n.client())
	n.kill()
	ballast(t, dir, "more", 0)
	if n.start() {
		n.kill()
		t.Error("it started without a free block")
	} else if out := n.out.String(); !strings.Contains(out, "make room") || n.state().ExitCode() != 1 {
		t.Errorf("without a free block it ended with %v: %s", n.state(), out)
	}
	makeRoom(t, dir)
	n.mustStart()
	l.check(t, n.client())
	if err := l.write(t, n.client()); err != nil {
		t.Error(err)
	}
}
