// Package failure is the form of the tables that translate a vendor's answers:
// each has a bounded reason, a class, and a sentence for the operator.
package failure

import (
	"fmt"
	"strings"
	"time"

	"github.com/crier-im/crier"
)

// Failure is one way in which a push can fail.
type Failure struct {
	Reason string // a label for reports and metrics
	Class  crier.OutcomeClass
	Info   string // what it means and what to do
}

// Row makes a row of a Table.
func Row(reason string, class crier.OutcomeClass, info string) Failure {
	return Failure{Reason: reason, Class: class, Info: info}
}

// Table is every way in which a push to one vendor can fail.
type Table []Failure

// Has reports whether the table has a reason.
func (t Table) Has(reason string) bool {
	for _, f := range t {
		if f.Reason == reason {
			return true
		}
	}
	return false
}

// Outcome returns the outcome for a reason of the table, with a detail after its sentence where there is one. It
// panics for a reason that is not in the table.
func (t Table) Outcome(reason, detail string) crier.Outcome {
	for _, f := range t {
		if f.Reason == reason {
			if detail != "" {
				detail = " (" + detail + ")"
			}
			return crier.Outcome{Class: f.Class, Reason: f.Reason, Info: f.Info + detail}
		}
	}
	panic(fmt.Sprintf("failure: no reason %q", reason))
}

// After adds to an outcome how long the vendor asks to wait, which counts only where trying again may help.
func After(o crier.Outcome, wait time.Duration) crier.Outcome {
	if o.Class.Retryable() {
		o.RetryAfter = wait
	}
	return o
}

// Markdown is the table as it stands in the documents.
func (t Table) Markdown() string {
	var b strings.Builder
	b.WriteString("| reason | class | what it means and what to do |\n| --- | --- | --- |\n")
	for _, f := range t {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Reason, f.Class, f.Info)
	}
	return b.String()
}
