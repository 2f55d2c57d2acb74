package apns_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/apnssim"
)

// Every documented reason is in the table, with its status and a class and words of its own.
func TestEveryDocumentedReasonIsKnown(t *testing.T) {
	t.Parallel()
	documented, seen := apnssim.Reasons(), make(map[string]string)
	for _, r := range apns.Reasons() {
		if status, ok := documented[r.Name]; ok && status != r.Status || !ok && r.Status != 0 {
			t.Errorf("%s: status %d, documented %d", r.Name, r.Status, status)
		}
		if seen[r.Info] != "" || !strings.HasSuffix(r.Info, ".") || r.Class == "" || r.Class == crier.OutcomeAccepted {
			t.Errorf("%s: class %q, %q (as %s)", r.Name, r.Class, r.Info, seen[r.Info])
		}
		seen[r.Info] = r.Name
		delete(documented, r.Name)
	}
	if len(documented) > 0 {
		t.Errorf("not in the table: %v", documented)
	}
}

// Every reason can be brought about with a token.
func TestEveryDocumentedReasonHasAPrefix(t *testing.T) {
	t.Parallel()
	documented := apnssim.Reasons()
	for _, p := range apnssim.Prefixes() {
		delete(documented, p.Reason)
	}
	delete(documented, "PayloadTooLarge")
	if len(documented) > 0 {
		t.Errorf("no prefix: %v", documented)
	}
}

// The table of docs/vendors.md is that of the code. To write it anew, copy what the test prints.
func TestDocumentHasTheTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/vendors.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| reason | status | class | what it means and what to do |\n| --- | --- | --- | --- |\n")
	for _, r := range apns.Reasons() {
		status := "-"
		if r.Status != 0 {
			status = fmt.Sprint(r.Status)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", r.Name, status, r.Class, r.Info)
	}
	if !strings.Contains(string(text), table.String()) {
		t.Errorf("docs/vendors.md does not have:\n%s", table.String())
	}
}
