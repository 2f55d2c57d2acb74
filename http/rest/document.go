package rest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crier-im/crier"
)

// Command describes one command of the API, for documents and for tests of the contract.
type Command struct {
	Services  []string // the path prefixes that it answers under
	Name      string
	About     string
	Fields    string       // of the request, in Markdown
	Answers   string       // beside the three fields that every answer has, in Markdown
	Codes     []crier.Code // that it answers beside CommonCodes, in order
	NotAdmin  crier.Code   // of those: for an identifier that is no admin
	Unlimited bool         // whether the limit of calls a second leaves it out
}

// Commands returns the table of commands.
func Commands() []Command {
	list := make([]Command, len(commands))
	for i, c := range commands {
		codes := append(slices.Clone(c.codes), c.notAdmin)
		slices.Sort(codes)
		list[i] = Command{
			Services: slices.Clone(c.services), Name: c.name, About: c.about, Fields: c.fields, Answers: c.answers,
			Codes: slices.Compact(codes), NotAdmin: c.notAdmin, Unlimited: c.unlimited,
		}
	}
	return list
}

// CommonCodes returns the codes that every command can answer, in order.
func CommonCodes() []crier.Code {
	codes := slices.Clone(commonCodes)
	slices.Sort(codes)
	return slices.Compact(codes)
}

// Document returns the generated part of docs/api.md: the commands and the codes.
func Document() string {
	var b strings.Builder
	used := map[crier.Code]bool{crier.CodeUnknownCommand: true}
	b.WriteString("### Commands\n\n| command | services | | request | answer | codes |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, c := range Commands() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", c.Name, strings.Join(c.Services, ", "), c.About, orNone(c.Fields), orNone(c.Answers), numbers(c.Codes))
		for _, code := range c.Codes {
			used[code] = true
		}
	}
	fmt.Fprintf(&b, "\nEvery command also answers %s.\n\n### Codes\n\n| code | meaning |\n| --- | --- |\n", numbers(CommonCodes()))
	for _, code := range CommonCodes() {
		used[code] = true
	}
	codes := crier.Codes()
	slices.Sort(codes)
	for _, code := range codes {
		if used[code] {
			fmt.Fprintf(&b, "| %d | %s |\n", int(code), code.Text())
		}
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func numbers(codes []crier.Code) string {
	texts := make([]string, len(codes))
	for i, c := range codes {
		texts[i] = fmt.Sprint(int(c))
	}
	return strings.Join(texts, ", ")
}
