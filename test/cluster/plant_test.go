package cluster_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plant is a fault that the binary is built with, to see that the tests find it.
var plant = flag.String("chaos-plant", "", "build the nodes with a fault, which the tests must find: "+strings.Join(slices.Sorted(maps.Keys(plants)), ", "))

// plants are faults by name: in a file of the source, what stands there is replaced.
var plants = map[string]struct{ file, old, new string }{
	// A leader that hung answers what was.
	"stale": {"cluster/verify.go", "since := time.Now()\n", "since := time.Now()\n\tif !since.IsZero() {\n\t\treturn nil\n\t}\n"},
	// What is sent again is done again.
	"twice": {"persistence/origins.go", "case done:\n", "case done && len(o.done) == 0:\n"},
	// A change that was acknowledged is not there.
	"lost": {"persistence/machine.go", "errs[i] = m.once(", "if m.meta.GetIndex()%100 == 99 {\n\t\t\t\tcontinue\n\t\t\t}\n\t\t\terrs[i] = m.once("},
	// Who is connected gets what was pushed to others.
	"stranger": {"persistence/campaigns.go", "return a.ordinal.Contains(ordinal)", "return true"},
	// A message in an account's mailbox is passed over.
	"missed": {"actors/user.go", "if c.Expires().After(time.Now()) {", "if c.Expires().After(time.Now()) && c.Seq%4 != 0 {"},
	// A message is held up, and others overtake it.
	"overtaken": {"actors/session.go", "\t\ts.cursor = d.Seq\n\t\ts.conn.Deliver(d)\n", "\t\ts.cursor = d.Seq\n\t\tconn := s.conn\n\t\ttime.AfterFunc(time.Duration(d.Seq%4)*200*time.Millisecond, func() { conn.Deliver(d) })\n"},
	// What is on the disks of two nodes is not the same.
	"diverged": {"persistence/flusher.go", "w.set(b.keys.kind(kindMeta), marshal(b.storing))", "b.storing.ClockMs += int64(b.store.identity.NodeID[0] % 7)\n\tw.set(b.keys.kind(kindMeta), marshal(b.storing))"},
}

// buildArgs returns what go build needs to build with the fault that was asked for, if one was.
func buildArgs(t *testing.T) []string {
	t.Helper()
	if *plant == "" {
		return nil
	}
	p, ok := plants[*plant]
	if !ok {
		t.Fatalf("there is no fault %q to plant", *plant)
	}
	path, err := filepath.Abs("../../" + p.file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil || strings.Count(string(source), p.old) != 1 {
		t.Fatalf("the fault %q has no place in %s any more: %v", *plant, p.file, err)
	}
	dir := t.TempDir()
	planted, overlay := filepath.Join(dir, "planted.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: planted}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{planted: strings.Replace(string(source), p.old, p.new, 1), overlay: string(replace)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the nodes are built with a fault: %s", *plant)
	return []string{"-overlay", overlay}
}
