package rest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

var update = flag.Bool("update", false, "write the generated part of docs/api.md")

const (
	document = "../../docs/api.md"
	begin    = "<!-- generated: go test ./http/rest -update -->\n"
	end      = "<!-- end of the generated part -->\n"
)

// generated is the commands and codes as docs/api.md shows them.
func generated() string {
	var b strings.Builder
	b.WriteString("\n## Commands\n")
	for _, c := range Commands() {
		fmt.Fprintf(&b, "\n### %s\n\n%s Under `%s`.\n\n", c.Name, c.About, strings.Join(c.Services, "`, `"))
		if c.Fields == "" {
			c.Fields = "none"
		}
		fmt.Fprintf(&b, "- Request: %s\n", c.Fields)
		if c.Answers != "" {
			fmt.Fprintf(&b, "- Answer: %s\n", c.Answers)
		}
		var own []string
		for _, code := range c.Codes {
			if !slices.Contains(commonCodes, code) && !slices.Contains(own, fmt.Sprint(int(code))) {
				own = append(own, fmt.Sprint(int(code)))
			}
		}
		fmt.Fprintf(&b, "- Codes beside those of every command: %s\n", strings.Join(own, ", "))
	}
	b.WriteString("\n## Codes\n\n| code | meaning | commands |\n| --- | --- | --- |\n")
	for _, code := range slices.Sorted(slices.Values(crier.Codes())) {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", int(code), code.Text(), answeredBy(code))
	}
	b.WriteString("\n")
	return b.String()
}

// elsewhere are the codes that no command of this API answers, and who does.
var elsewhere = map[crier.Code]string{
	crier.CodeUnknownCommand:  "an unknown path",
	crier.CodeSigRevoked:      "logins at the gateway",
	crier.CodeTooManyFailures: "not used: a UserSig can't be guessed, and a lock would shut out its owner",
	crier.CodeBadEnvelope:     "not used: 90001 says it",
	crier.CodeAccountAdmin:    "not used: 60010 says it",
	crier.CodeAccountInternal: "not used: 91000 says it",
}

func answeredBy(code crier.Code) string {
	if slices.Contains(commonCodes, code) {
		return "every command"
	}
	names := make(map[string]bool)
	for _, c := range Commands() {
		if slices.Contains(c.Codes, code) {
			names[c.Name] = true
		}
	}
	if len(names) == 0 {
		return elsewhere[code]
	}
	if len(names) > 6 {
		return fmt.Sprintf("%d commands", len(names))
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

func TestEveryCodeHasItsPlace(t *testing.T) {
	t.Parallel()
	for _, code := range crier.Codes() {
		if answeredBy(code) == "" {
			t.Errorf("code %d is answered by no command, and nobody says why", int(code))
		}
	}
}

func TestDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has not the marks of its generated part", document)
	}
	want := before + begin + generated() + end + after
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s is not what the table of commands says: go test ./http/rest -update", document)
	}
}
