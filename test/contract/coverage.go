package contract

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/rest"
)

// unseen are the codes of the table that no call from outside provokes, each with the reason.
var unseen = map[crier.Code]string{
	crier.CodeTimeout:         "needs a partition that does not answer (http/rest has a test)",
	crier.CodeInternal:        "needs a fault of the server (http/rest and test/faults have tests)",
	crier.CodeAppWithoutKey:   "the operator's API makes no app without a key (http/rest has a test)",
	crier.CodeTooManyFailures: "not used",
	crier.CodeBadEnvelope:     "not used",
	crier.CodeAccountAdmin:    "not used",
	crier.CodeAccountInternal: "not used",
}

// record is what a server has answered. Safe for concurrent use.
type record struct {
	mu    sync.Mutex
	codes map[string]map[crier.Code]bool // by command; the gateway is "" here
	paths map[string]bool                // service/command, of calls that succeeded
	sent  map[string]map[string]bool     // by command, the names of fields in calls that succeeded
	got   map[string]map[string]bool     // by command, the names of fields in their answers
}

func newRecord() *record {
	return &record{
		codes: make(map[string]map[crier.Code]bool), paths: make(map[string]bool),
		sent: make(map[string]map[string]bool), got: make(map[string]map[string]bool),
	}
}

// put notes one in a map of sets.
func put[K comparable](m map[string]map[K]bool, name string, k K) {
	if m[name] == nil {
		m[name] = make(map[K]bool)
	}
	m[name][k] = true
}

// code notes a code that a command answered.
func (r *record) code(command string, code crier.Code) {
	r.mu.Lock()
	defer r.mu.Unlock()
	put(r.codes, command, code)
}

// call notes a call: its code and those of its items and, if it succeeded, the fields.
func (r *record) call(path, body string, answer reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, name, _ := strings.Cut(path, "/")
	put(r.codes, name, answer.code())
	items, _ := answer["ResultItem"].([]any)
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			code, _ := m["ResultCode"].(float64)
			put(r.codes, name, crier.Code(code))
		}
	}
	if answer.code() != 0 {
		return
	}
	r.paths[path] = true
	var v any
	if json.Unmarshal([]byte(body), &v) == nil {
		eachName(v, func(field string) { put(r.sent, name, field) })
	}
	eachName(map[string]any(answer), func(field string) { put(r.got, name, field) })
}

// eachName calls f for the name of every field in a JSON value.
func eachName(v any, f func(string)) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			eachName(e, f)
		}
	case map[string]any:
		for name, e := range v {
			if e != nil {
				f(name)
			}
			eachName(e, f)
		}
	}
}

var codeSpan = regexp.MustCompile("`([A-Za-z_]+)`")

// gaps says what was not seen: a command that never succeeded under one of its prefixes, a field of it that was
// never sent or answered, a code of its own that it never answered, a code of every command or of the
// gateway that nothing answered; and what should not have been seen: a code that the table of commands does not have.
func (r *record) gaps() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	commands := rest.Commands()
	common := func(code crier.Code) bool {
		return !slices.ContainsFunc(commands, func(c rest.Command) bool { return !slices.Contains(c.Codes, code) })
	}
	ever := make(map[crier.Code]bool)
	for _, codes := range r.codes {
		for code := range codes {
			ever[code] = true
		}
	}
	for _, code := range crier.Codes() {
		if !ever[code] && unseen[code] == "" {
			add("nothing answered %v", code)
		}
	}
	for _, c := range commands {
		for _, service := range c.Services {
			if !r.paths[service+"/"+c.Name] {
				add("%s/%s never succeeded", service, c.Name)
			}
		}
		for _, field := range codeSpan.FindAllStringSubmatch(c.Fields, -1) {
			if !r.sent[c.Name][field[1]] {
				add("%s never had the field %s", c.Name, field[1])
			}
		}
		for _, field := range codeSpan.FindAllStringSubmatch(c.Answers, -1) {
			if !r.got[c.Name][field[1]] {
				add("%s never answered the field %s", c.Name, field[1])
			}
		}
		for _, code := range c.Codes {
			if !r.codes[c.Name][code] && !common(code) && unseen[code] == "" {
				add("%s never answered %v", c.Name, code)
			}
		}
		for code := range r.codes[c.Name] {
			if code != 0 && code != crier.CodeUnknownCommand && !slices.Contains(c.Codes, code) {
				add("%s answered %v, which the table does not have", c.Name, code)
			}
		}
	}
	return all
}
