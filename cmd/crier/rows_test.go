package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// parseRows returns what can be imported of a file, and what is wrong with the rest.
func parseRows(file, text string) (rows []row, bad []string, err error) {
	i := &accountImport{file: file, lines: make(accountLines)}
	for r, err := range i.rows(strings.NewReader(text)) {
		if b, ok := errors.AsType[*badRow](err); ok {
			bad = append(bad, b.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, r)
	}
	return rows, bad, nil
}

func TestParseRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string
		users      []crier.UserID
		bad        []string
		err        string
	}{
		"csv":            {"a.csv", "user,nick,tags,city\nann,Ann,x|y,Shenzhen\nbob,,,\n", []crier.UserID{"ann", "bob"}, nil, ""},
		"csv, bad rows":  {"a.csv", "user,nick\nann\n,x\nbob,Bob\n", []crier.UserID{"bob"}, []string{"line 2: 1 fields", "line 3: an account name is empty"}, ""},
		"csv, no user":   {"a.csv", "name\nann\n", nil, nil, "must be user"},
		"csv, empty":     {"a.csv", "", nil, nil, "header"},
		"csv, many tags": {"a.csv", "user,tags\nann,1|2|3|4|5|6|7|8|9|10|11\n", nil, []string{"line 2: 11 tags"}, ""},
		"jsonl":          {"a.jsonl", "{\"user\":\"ann\",\"tags\":[\"x\"],\"attrs\":{\"city\":\"Shenzhen\"}}\n\n{\"user\":\"bob\"}\n", []crier.UserID{"ann", "bob"}, nil, ""},
		"jsonl, bad":     {"a.jsonl", "{\n{\"usr\":\"x\"}\n{\"user\":\"bob\"}", []crier.UserID{"bob"}, []string{"line 1:", `line 2: json: unknown field "usr"`}, ""},
		"another ending": {"a.txt", "x", nil, nil, "neither"},
	} {
		rows, bad, err := parseRows(c.file, c.text)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
		var users []crier.UserID
		for _, r := range rows {
			users = append(users, r.User)
		}
		if !reflect.DeepEqual(users, c.users) || len(bad) != len(c.bad) {
			t.Errorf("%s: %v, bad %v", name, users, bad)
			continue
		}
		for i := range bad {
			if !strings.HasPrefix(bad[i], c.bad[i]) {
				t.Errorf("%s: %q, want %q", name, bad[i], c.bad[i])
			}
		}
	}
	rows, _, err := parseRows("a.csv", "user,nick,face_url,tags,city,level\nann,Ann,f,x|y,Shenzhen,\n")
	if err != nil {
		t.Fatal(err)
	}
	want := row{line: 2, User: "ann", Nick: "Ann", Face: "f", Tags: []string{"x", "y"}, Attrs: map[string]string{"city": "Shenzhen"}}
	if !reflect.DeepEqual(rows[0], want) {
		t.Errorf("%+v", rows[0])
	}
}

func TestBadRows(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", crier.MaxNameBytes+1)
	for name, c := range map[string]struct {
		file, text, bad string
		good            int
	}{
		"csv, a quote":          {"a.csv", "user,nick\nann,A\nb\"b,B\ncai,C\n", "line 3: ", 2},
		"csv, an open quote":    {"a.csv", "user,nick\nann,A\n\"bob,B\ncai,C\n", "line 3: ", 1},
		"csv, twice":            {"a.csv", "user,tags\nann,x\nbob,\nann,y\n", `line 4: account "ann" stands in line 2 already`, 2},
		"csv, a long tag":       {"a.csv", "user,tags\nann,x|" + long + "\nbob,\n", "line 2: tag ", 1},
		"csv, a long value":     {"a.csv", "user,city\nann," + long + "\nbob,\n", `line 2: the value of attribute "city" `, 1},
		"jsonl, two on a line":  {"a.jsonl", "{\"user\":\"ann\"} {\"user\":\"bob\"}\n{\"user\":\"cai\"}", "line 1: something follows the object", 1},
		"jsonl, an empty value": {"a.jsonl", "{\"user\":\"ann\",\"attrs\":{\"city\":\"\"}}\n{\"user\":\"bob\"}", `line 1: the value of attribute "city" `, 1},
	} {
		rows, bad, err := parseRows(c.file, c.text)
		if err != nil || len(rows) != c.good || len(bad) != 1 || !strings.HasPrefix(bad[0], c.bad) {
			t.Errorf("%s: %d rows, bad %q, %v", name, len(rows), bad, err)
		}
	}
}

// A file may be larger than memory: of a row that does not end a megabyte is read, and of others what is next.
func TestRowsAreReadOneByOne(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4096)
	for name, c := range map[string]struct{ file, start, row, err string }{
		"csv":                     {"a.csv", "user,nick\nann,Ann\n", "ann,Ann\n", ""},
		"jsonl":                   {"a.jsonl", "{\"user\":\"ann\"}\n", "{\"user\":\"ann\"}\n", ""},
		"csv, an open quote":      {"a.csv", "user,nick\nann,Ann\nbob,\"", "cai,Cai\n", "a.csv: after line 2: a row has more than 1 MB: is a quote not closed?"},
		"csv, the header's":       {"a.csv", "user,\"nick", "cai,Cai\n", "a.csv: the header: a row has more than 1 MB: is a quote not closed?"},
		"jsonl, without an end":   {"a.jsonl", "{\"user\":\"ann\"}\n", long, "a.jsonl: line 2 has more than 1 MB"},
		"csv, no line has an end": {"a.csv", "", long, "a.csv: the header: a row has more than 1 MB: is a quote not closed?"},
	} {
		source := &endless{next: []byte(c.start), again: []byte(c.row)}
		i := &accountImport{file: c.file, lines: make(accountLines)}
		n := 0
		var failed error
		for r, err := range i.rows(source) {
			if _, bad := errors.AsType[*badRow](err); err != nil && !bad {
				failed = err
				continue
			}
			if n++; n == 1 && (err != nil || r.User != "ann") {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
			if c.err == "" && n == 1000 {
				break
			}
		}
		if text := fmt.Sprint(failed); c.err != "" && text != c.err || c.err == "" && failed != nil {
			t.Errorf("%s: %v", name, failed)
		}
		if source.given > rowMost+256<<10 || c.err == "" && source.given > 256<<10 {
			t.Errorf("%s: %d bytes were read", name, source.given)
		}
	}
}

// endless gives a text, and then another one again and again.
type endless struct {
	next, again []byte
	given       int
}

func (e *endless) Read(b []byte) (int, error) {
	if len(e.next) == 0 {
		e.next = e.again
	}
	n := copy(b, e.next)
	e.next = e.next[n:]
	e.given += n
	return n, nil
}
