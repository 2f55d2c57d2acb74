package faults_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// used returns how many bytes of a preallocated file are in use: all up to the last that is not zero.
func used(t *testing.T, name string) int64 {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(bytes.TrimRight(text, "\x00")))
}

// damages are what a crash of the machine or a bad disk does to the tail of a file that was being written.
var damages = map[string]func(t *testing.T, name string) error{
	"cut in its last entry": func(t *testing.T, name string) error { return os.Truncate(name, used(t, name)-3) },
	"cut by a third":        func(t *testing.T, name string) error { return os.Truncate(name, used(t, name)*2/3) },
	"cut to its header":     func(_ *testing.T, name string) error { return os.Truncate(name, 20) },
	"cut to nothing":        func(_ *testing.T, name string) error { return os.Truncate(name, 0) },
	"gone":                  func(_ *testing.T, name string) error { return os.Remove(name) },
	"its last bytes garbled": func(t *testing.T, name string) error {
		n := used(t, name)
		return overwrite(name, max(0, n-50), n, func() byte { return byte(rand.Uint32()) })
	},
	"its last third garbled": func(t *testing.T, name string) error {
		n := used(t, name)
		return overwrite(name, n*2/3, n, func() byte { return byte(rand.Uint32()) })
	},
	"its last third zero": func(t *testing.T, name string) error {
		n := used(t, name)
		return overwrite(name, n*2/3, n, func() byte { return 0 })
	},
	"one bit turned in the middle": func(t *testing.T, name string) error {
		n := used(t, name)
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return overwrite(name, n/2, n/2+1, func() byte { return text[n/2] ^ 4 })
	},
}

func overwrite(name string, from, to int64, b func() byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	text := make([]byte, to-from)
	for i := range text {
		text[i] = b()
	}
	_, err = f.WriteAt(text, from)
	return errors.Join(err, f.Close())
}

// newest returns the newest file of the log with the ending.
func newest(t *testing.T, dir, ending string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "log", "*"+ending))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s file: %v", ending, err)
	}
	return slices.Max(names)
}

// copyDir copies a data directory; blocks of zeros become holes, since databases allocate far more than they use.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(name, target)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

// flushed waits until the state has on disk what the log has: the node writes it up to a second later (ADR 9), and what a damaged log
// loses of that time is nowhere else.
func flushed(t *testing.T, n *node) {
	t.Helper()
	bytes := func() string {
		resp, err := http.Get("http://" + n.address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, after, found := strings.Cut(string(text), "\ncrier_state_flush_bytes_total ")
		if !found {
			t.Fatal("the metrics have no bytes of state")
		}
		line, _, _ := strings.Cut(after, "\n")
		return line
	}
	last, since := bytes(), time.Now()
	for deadline := time.Now().Add(20 * time.Second); time.Since(since) < 2500*time.Millisecond; time.Sleep(20 * time.Millisecond) {
		if now := bytes(); now != last {
			last, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatal("the state was still being written after 20 s")
		}
	}
}

// After kill -9 and a damaged tail of the log, the node either has everything that was acknowledged a second before, and takes and
// keeps what comes then, or it says what is wrong and does not start. It never panics.
func TestDamagedLog(t *testing.T) {
	original := newNode(t, t.TempDir(), 1)
	original.mustStart()
	l := fill(t, original.client(), 30)
	l.check(t, original.client())
	flushed(t, original)
	original.kill()
	for _, ending := range []string{".mem", ".vlog"} {
		for damage, apply := range damages {
			t.Run(ending+" "+damage, func(t *testing.T) {
				n := newNode(t, t.TempDir(), 1)
				copyDir(t, original.dir, n.dir)
				name := newest(t, n.dir, ending)
				if err := apply(t, name); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				if !n.start() {
					n.refused(filepath.Join(n.dir, "log"))
					t.Logf("refused after %v: %s", time.Since(begin).Round(time.Millisecond), lastLine(n.out.String()))
					return
				}
				t.Logf("ready after %v", time.Since(begin).Round(time.Millisecond))
				mine := l.clone()
				mine.check(t, n.client())
				for range 5 {
					if err := mine.write(t, n.client()); err != nil {
						t.Fatal(err)
					}
				}
				n.kill()
				n.mustStart()
				mine.check(t, n.client())
			})
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
