package main

import (
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// FuzzParseRows reads a file of accounts: no panic, and what is to be imported is valid, stands in the file, and comes once.
func FuzzParseRows(f *testing.F) {
	for _, seed := range []struct {
		csv  bool
		text string
	}{
		{true, "user,tags,city\nann,a|b,Shenzhen\n\"b\nc\",,\nann,,\n"},
		{true, "user\n\"ann\nben\n"},
		{true, "\ufeffuser,nick\r\nann,\"A \"\"n\"\"\"\r\n"},
		{false, "{\"user\":\"ann\",\"tags\":[\"a\"],\"attrs\":{\"city\":\"Shenzhen\"}}\n\nnull\n{\"user\":7}\n"},
		{false, "{\"user\":\"a\"}{\"user\":\"b\"}"},
		{true, ""},
	} {
		f.Add(seed.csv, seed.text)
	}
	f.Fuzz(func(t *testing.T, csv bool, text string) {
		file := "x.jsonl"
		if csv {
			file = "x.csv"
		}
		rows, bad, err := parseRows(file, text)
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1
		if err != nil && (len(rows) > 0 || len(bad) > 0) || len(rows)+len(bad) > lines {
			t.Fatalf("%d rows and %d bad ones of %d lines, %v", len(rows), len(bad), lines, err)
		}
		seen := make(map[crier.UserID]bool)
		for _, r := range rows {
			if err := r.check(); err != nil || seen[r.User] || r.line < 1 || r.line > lines {
				t.Errorf("line %d of %d, account %q: %v", r.line, lines, r.User, err)
			}
			seen[r.User] = true
		}
	})
}
