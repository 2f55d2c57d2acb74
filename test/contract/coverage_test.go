package contract

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/rest"
)

// complete is a record in which everything was seen.
func complete() *record {
	r := newRecord()
	for _, c := range rest.Commands() {
		for _, code := range c.Codes {
			if unseen[code] == "" {
				r.code(c.Name, code)
			}
		}
		answer := reply{"ErrorCode": 0.0}
		for _, field := range codeSpan.FindAllStringSubmatch(c.Answers, -1) {
			answer[field[1]] = true
		}
		body := make(map[string]bool)
		for _, field := range codeSpan.FindAllStringSubmatch(c.Fields, -1) {
			body[field[1]] = true
		}
		for _, service := range c.Services {
			r.call(service+"/"+c.Name, encode(body), answer)
		}
	}
	r.code("", crier.CodeSigRevoked)
	r.code("nosuch", crier.CodeUnknownCommand)
	return r
}

// The check of coverage finds each thing that is missing, and nothing else.
func TestCoverageFindsGaps(t *testing.T) {
	t.Parallel()
	if gaps := complete().gaps(); len(gaps) != 0 {
		t.Fatalf("a complete record has gaps: %v", gaps)
	}
	wants := func(what string, change func(*record)) {
		t.Helper()
		r := complete()
		change(r)
		if gaps := r.gaps(); !slices.ContainsFunc(gaps, func(g string) bool { return strings.Contains(g, what) }) {
			t.Errorf("%q is not among the gaps %v", what, gaps)
		}
	}
	for _, c := range rest.Commands() {
		wants(c.Name, func(r *record) {
			delete(r.codes, c.Name)
			delete(r.sent, c.Name)
			delete(r.got, c.Name)
			for _, service := range c.Services {
				delete(r.paths, service+"/"+c.Name)
			}
		})
		for _, service := range c.Services {
			wants(service+"/"+c.Name+" never succeeded", func(r *record) { delete(r.paths, service+"/"+c.Name) })
		}
		for field := range maps.Clone(complete().sent[c.Name]) {
			wants(c.Name+" never had the field "+field, func(r *record) { delete(r.sent[c.Name], field) })
		}
		wants(c.Name+" answered 90057", func(r *record) { r.code(c.Name, 90057) })
	}
	for _, code := range crier.Codes() {
		if unseen[code] == "" {
			wants("nothing answered "+code.Error(), func(r *record) {
				for name := range r.codes {
					delete(r.codes[name], code)
				}
			})
		}
	}
	wants("im_push never answered 90039", func(r *record) { delete(r.codes["im_push"], crier.CodeMixedCondition) })
	wants("querystate never answered the field State", func(r *record) { delete(r.got["querystate"], "State") })
}
