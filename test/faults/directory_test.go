package faults_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A data directory that is not this version's, or not whole, is refused in words that say what to do, and left as it is.
func TestDirectoryIsRefused(t *testing.T) {
	n := newNode(t, t.TempDir(), 1)
	n.mustStart()
	l := fill(t, n.client(), 3)
	n.kill()
	name := filepath.Join(n.dir, "crier.json")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(field string, value any) string {
		var v map[string]any
		if err := json.Unmarshal(good, &v); err != nil {
			t.Fatal(err)
		}
		v[field] = value
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for what, c := range map[string]struct {
		text  string
		words []string
	}{
		"a newer format":    {edited("format", 99), []string{"crier.json", "format 99", "reads format", "use the version that wrote it"}},
		"an older format":   {edited("format", 0), []string{"crier.json", "format 0", "reads format"}},
		"other partitions":  {edited("partitions", 8), []string{"crier.json", "8 partitions", "set cluster.partitions to 8"}},
		"not JSON":          {"\x00\x00\x00\x00", []string{"crier.json", "does not describe", "restore it"}},
		"cut":               {string(good[:len(good)/2]), []string{"crier.json", "does not describe", "restore it"}},
		"empty":             {"", []string{"crier.json", "does not describe", "restore it"}},
		"a list":            {"[]", []string{"crier.json", "does not describe", "restore it"}},
		"no node id":        {edited("node_id", ""), []string{"crier.json", "does not describe", "restore it"}},
		"a node id of type": {edited("node_id", 5), []string{"crier.json", "does not describe", "restore it"}},
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			bad := newNode(t, n.dir, 1)
			bad.mustFail(c.words...)
			if text, err := os.ReadFile(name); err != nil || string(text) != c.text {
				t.Errorf("it changed the file to %q (%v)", text, err)
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		newNode(t, n.dir, 1).mustFail("no crier.json", "restore the file")
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("it made a new file: %v", err)
		}
	})
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	n.mustStart()
	l.check(t, n.client()) // none of them has touched the data
}

// A directory in use by a living process is refused, and that process goes on; a process that was killed holds nothing.
func TestDirectoryInUse(t *testing.T) {
	n := newNode(t, t.TempDir(), 1)
	n.mustStart()
	c := n.client()
	l := fill(t, c, 2)
	newNode(t, n.dir, 1).mustFail(n.dir, "in use by another process")
	if err := l.write(t, c); err != nil {
		t.Errorf("the first process: %v", err)
	}
	l.check(t, c)
	n.kill()
	n.mustStart()
	l.check(t, n.client())
}

// A directory that can't be written, or is a file, is refused.
func TestDirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newNode(t, file, 1).mustFail(file, "not a directory")
	newNode(t, filepath.Join(file, "data"), 1).mustFail(file, "not a directory")
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 300))
	newNode(t, long, 1).mustFail("file name too long")
}
