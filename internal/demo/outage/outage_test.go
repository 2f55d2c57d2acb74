package outage

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/process/processtest"
)

// Three real processes, one killed in the middle of a push: everybody gets everything once.
func TestStory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, err := processtest.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "demo", "--cluster")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Nobody missed a push") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The table counts what went wrong.
func TestTally(t *testing.T) {
	t.Parallel()
	pushes := []*push{{task: "a"}, {task: "b"}}
	now := time.Now()
	once := []time.Time{now}
	for name, c := range map[string]struct {
		got   map[crier.TaskID][]time.Time
		order []uint64
		want  tally
	}{
		"right":        {map[crier.TaskID][]time.Time{"a": once, "b": once}, []uint64{1, 2}, tally{people: 1, right: 1}},
		"missed":       {map[crier.TaskID][]time.Time{"a": once}, []uint64{1}, tally{people: 1, missed: 1}},
		"twice":        {map[crier.TaskID][]time.Time{"a": {now, now}, "b": once}, []uint64{1, 1, 2}, tally{people: 1, twice: 1}},
		"out of order": {map[crier.TaskID][]time.Time{"a": once, "b": once}, []uint64{2, 1}, tally{people: 1, disordered: 1}},
	} {
		var got tally
		if got.add(&person{got: c.got, order: c.order}, pushes); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A connection goes to the first node that answers, and close ends it.
func TestFront(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }() // ends with the front's connection
		}
	}()
	f, err := newFront("http://127.0.0.1:1", "http://"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(f.url(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "echo" {
		t.Errorf("%q, %v", b, err)
	}
	f.close()
	if _, err := c.Read(b); err == nil {
		t.Error("the connection goes on")
	}
}
