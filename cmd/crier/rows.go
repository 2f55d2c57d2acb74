package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/crier-im/crier"
)

const (
	// maxTags is how many tags one call adds to an account.
	maxTags = 10
	// rowMost is how many bytes a row may have, and a buffer's more: without a bound a quote that is not closed would take in the rest of the file.
	rowMost = 1 << 20
)

var errLongRow = errors.New("a row has more than 1 MB: is a quote not closed?")

// row is one account of an import file.
type row struct {
	line  int
	User  crier.UserID      `json:"user"`
	Nick  string            `json:"nick"`
	Face  string            `json:"face_url"`
	Tags  []string          `json:"tags"`
	Attrs map[string]string `json:"attrs"`
}

// badRow is why a row can't be imported.
type badRow struct {
	line int
	why  string
}

func (b *badRow) Error() string { return fmt.Sprintf("line %d: %s", b.line, b.why) }

// accountLines has the first line of each account of a file, by what identifies the account's name: 96 bits of a hash.
type accountLines map[[12]byte]uint32

// rows reads the file by its ending, row by row. A row that can't be imported comes as a *badRow; any other error ends the rows.
func (i *accountImport) rows(text io.Reader) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		parse := parseJSONL
		switch strings.ToLower(filepath.Ext(i.file)) {
		case ".csv":
			parse = parseCSV
		case ".jsonl", ".ndjson", ".json":
		default:
			yield(row{}, fmt.Errorf("%s is neither .csv nor .jsonl", i.file))
			return
		}
		for r, err := range parse(bufio.NewReader(text)) {
			if err == nil {
				err = i.lines.check(r)
			} else if _, bad := errors.AsType[*badRow](err); !bad {
				err = fmt.Errorf("%s: %w", i.file, err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// check finds what can't be imported of what could be read, and remembers the row.
func (l accountLines) check(r row) error {
	if err := r.check(); err != nil {
		return &badRow{r.line, crier.AsError(err).Info}
	}
	hash := sha256.Sum256([]byte(r.User))
	key := [12]byte(hash[:])
	switch first, ok := l[key]; {
	case !ok:
		l[key] = uint32(r.line)
	case first != uint32(r.line): // a batch is one call, in which the second would hide the first
		return &badRow{r.line, fmt.Sprintf("account %s stands in line %d already", crier.Quote(string(r.User)), first)}
	}
	return nil
}

// check finds what the server would refuse, since that would refuse the whole batch.
func (r *row) check() error {
	if _, err := crier.ParseUserID(string(r.User)); err != nil {
		return err
	}
	if len(r.Tags) > maxTags {
		return crier.Errorf(crier.CodeBadParameter, "%d tags, the limit is %d", len(r.Tags), maxTags)
	}
	for _, tag := range r.Tags {
		if err := crier.CheckTag(tag); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Attrs)) {
		if err := crier.CheckName(r.Attrs[name]); err != nil {
			return crier.Errorf(crier.CodeBadParameter, "the value of attribute %s %s", crier.Quote(name), err)
		}
	}
	return nil
}

// rowLimit fails once more than left has been read.
type rowLimit struct {
	io.Reader
	left int // bytes
}

func (l *rowLimit) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLongRow
	}
	n, err := l.Reader.Read(b)
	l.left -= n
	return n, err
}

func parseCSV(text *bufio.Reader) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		const mark = "\ufeff"
		if start, _ := text.Peek(len(mark)); string(start) == mark {
			_, _ = text.Discard(len(mark))
		}
		limit := &rowLimit{text, rowMost}
		r := csv.NewReader(limit)
		r.FieldsPerRecord, r.ReuseRecord = -1, true
		header, err := r.Read()
		switch header = slices.Clone(header); {
		case err != nil:
			yield(row{}, fmt.Errorf("the header: %w", err))
			return
		case header[0] != "user":
			yield(row{}, errors.New("the first column of the header must be user"))
			return
		}
		for line := 1; ; {
			limit.left = rowMost
			fields, err := r.Read()
			broken, isBroken := errors.AsType[*csv.ParseError](err)
			switch {
			case errors.Is(err, io.EOF):
				return
			case isBroken:
				line, err = broken.StartLine, &badRow{broken.StartLine, broken.Err.Error()}
			case err != nil:
				yield(row{}, fmt.Errorf("after line %d: %w", line, err))
				return
			default:
				if line, _ = r.FieldPos(0); len(fields) != len(header) {
					err = &badRow{line, fmt.Sprintf("%d fields, the header has %d", len(fields), len(header))}
				}
			}
			if err != nil {
				fields = nil
			}
			if !yield(csvRow(line, header, fields), err) {
				return
			}
		}
	}
}

func csvRow(line int, header, fields []string) row {
	r := row{line: line, Attrs: make(map[string]string)}
	for i, v := range fields {
		switch name := header[i]; {
		case name == "user":
			r.User = crier.UserID(v)
		case name == "nick":
			r.Nick = v
		case name == "face_url":
			r.Face = v
		case name == "tags":
			r.Tags = strings.FieldsFunc(v, func(c rune) bool { return c == '|' })
		case v != "":
			r.Attrs[name] = v
		}
	}
	return r
}

func parseJSONL(text *bufio.Reader) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		lines := bufio.NewScanner(text)
		lines.Buffer(nil, rowMost)
		line := 0
		for lines.Scan() {
			line++
			if len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			r := row{line: line}
			d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
			d.DisallowUnknownFields()
			err := d.Decode(&r)
			if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
				err = errors.New("something follows the object")
			}
			if err != nil {
				err = &badRow{line, err.Error()}
			}
			if !yield(r, err) {
				return
			}
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(row{}, fmt.Errorf("line %d has more than 1 MB", line+1))
		case err != nil:
			yield(row{}, fmt.Errorf("after line %d: %w", line, err))
		}
	}
}
