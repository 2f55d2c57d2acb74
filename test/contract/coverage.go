package contract

import (
	"maps"
	"slices"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/rest"
)

// unseen are the codes that no call from outside provokes, each with the reason.
var unseen = map[crier.Code]string{
	crier.CodeTimeout:       "needs a partition that does not answer",
	crier.CodeInternal:      "needs a fault of the server",
	crier.CodeAppWithoutKey: "the operator's API makes no app without a key",
}

// coverage fails where a command was not called under one of its prefixes, where a code
// of its own was not seen of it, where a code that all have was seen of none, and where one was seen
// that the table of commands does not have.
func (s *suite) coverage(t *testing.T) {
	commands := rest.Commands()
	common := func(code crier.Code) bool {
		return !slices.ContainsFunc(commands, func(c rest.Command) bool { return !slices.Contains(c.Codes, code) })
	}
	ever := make(map[crier.Code]bool)
	for _, codes := range s.seen {
		maps.Copy(ever, codes)
	}
	for _, c := range commands {
		for _, service := range c.Services {
			if !s.paths[service+"/"+c.Name] {
				t.Errorf("%s/%s was never called", service, c.Name)
			}
		}
		for _, code := range c.Codes {
			if seen := s.seen[c.Name][code] || common(code) && ever[code]; !seen && unseen[code] == "" {
				t.Errorf("%s never answered %v", c.Name, code)
			}
		}
		for code := range s.seen[c.Name] {
			if code != 0 && code != crier.CodeUnknownCommand && !slices.Contains(c.Codes, code) {
				t.Errorf("%s answered %v, which the table does not have", c.Name, code)
			}
		}
	}
}
