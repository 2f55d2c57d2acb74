package cluster_test

import (
	"encoding/json"
	"flag"
	"fmt"
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
	// A push that was sent again is two.
	"doubled": {"persistence/campaigns.go", "if random.GetUntilMs() > now.UnixMilli() {", "if random.GetUntilMs() > now.UnixMilli() && random.GetSeq()%2 == 0 {"},
	// A vendor is not told of all.
	"untold": {"vendors/apns/sender.go", "o := s.push(ctx, n)\n", "if n.ApnsID[0]%8 == 0 {\n\t\treturn crier.Outcome{Class: crier.OutcomeAccepted}\n\t}\n\to := s.push(ctx, n)\n"},
	// Each message to a connection leaves a goroutine behind.
	"leaking": {"actors/session.go", "\t\ts.conn.Deliver(d)\n", "\t\ts.conn.Deliver(d)\n\t\tgo func() { select {} }()\n"},
	// What is on the disks of two nodes is not the same.
	"diverged": {"persistence/flusher.go", "w.set(b.keys.kind(kindMeta), marshal(b.storing))", "b.storing.ClockMs += int64(b.store.identity.NodeID[0] % 7)\n\tw.set(b.keys.kind(kindMeta), marshal(b.storing))"},
}

// Every fault has its place yet.
func TestPlantsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	for name, p := range plants {
		source, err := os.ReadFile(filepath.Join("../..", p.file))
		if n := strings.Count(string(source), p.old); err != nil || n != 1 {
			t.Errorf("%s: %d places in %s, %v", name, n, p.file, err)
		}
	}
}

// planted returns the source with the fault that was asked for, if one was.
func planted(t *testing.T) sources {
	t.Helper()
	if *plant == "" {
		return sources{}
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
	t.Logf("the nodes are built with a fault: %s", *plant)
	return sources{path: strings.Replace(string(source), p.old, p.new, 1)}
}

// sources are files by path, with what stands in them for a build.
type sources map[string]string

// overlay returns what go build needs to build with other sources than there are.
func (s sources) overlay(t *testing.T) []string {
	t.Helper()
	if len(s) == 0 {
		return nil
	}
	dir, replace := t.TempDir(), make(map[string]string)
	for path, content := range s {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[path], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-overlay", file}
}
