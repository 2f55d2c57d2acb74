package main

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

const (
	// importBatch is how many accounts one round of calls takes in.
	importBatch = 100
	// importAtOnce is how many batches are under way: a call waits for disks most of its time.
	importAtOnce = 16
	// maxTags is how many tags one call adds to an account.
	maxTags = 10
)

// row is one account of an import file.
type row struct {
	line  int
	User  crier.UserID      `json:"user"`
	Nick  string            `json:"nick"`
	Face  string            `json:"face_url"`
	Tags  []string          `json:"tags"`
	Attrs map[string]string `json:"attrs"`
}

func newAccount() *cobra.Command {
	var t target
	var stopOnBad bool
	cmd := &cobra.Command{Use: "account", Short: "Work on accounts"}
	imports := &cobra.Command{
		Use: "import FILE", Short: "Create accounts with tags and attributes from a CSV or JSONL file", Args: cobra.ExactArgs(1),
		Long: "Create accounts from a file. CSV has a header: user, and any of nick, face_url, tags (separated\n" +
			"by |); every other column is an attribute of the app. JSONL has objects with user, nick, face_url, tags, attrs.\n" +
			"A row that can't be imported is reported with its line, and skipped. An import slows down to what the app's limits let\n" +
			"through. One that was interrupted goes on where it was: FILE.crier-progress remembers, and is removed at the end.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			i, err := openImport(args[0], stopOnBad, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := i.run(cmd.Context(), c); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d accounts imported, %d rows skipped\n", i.progress.Accounts, i.progress.Bad+i.progress.Refused)
			return nil
		},
	}
	t.addFlags(imports)
	imports.Flags().BoolVar(&stopOnBad, "stop-on-bad", false, "stop at a row that can't be imported, instead of skipping it")
	cmd.AddCommand(imports)
	return cmd
}

// progress is what an interrupted import remembers.
type progress struct {
	Hash     string `json:"sha256"` // of the file: another content begins anew
	Rows     int    `json:"rows"`   // done
	Accounts int    `json:"accounts"`
	Bad      int    `json:"bad"`     // rows of the file that were not tried
	Refused  int    `json:"refused"` // rows that the server refused
}

// accountImport is one import under way.
type accountImport struct {
	file      string
	text      []byte
	stopOnBad bool
	errs      io.Writer
	progress  progress
}

func openImport(file string, stopOnBad bool, errs io.Writer) (*accountImport, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	i := &accountImport{file: file, text: text, stopOnBad: stopOnBad, errs: errs}
	hash := hex.EncodeToString(sum[:])
	if saved, err := os.ReadFile(i.progressFile()); err == nil {
		var p progress
		if json.Unmarshal(saved, &p) == nil && p.Hash == hash {
			i.progress = p
			fmt.Fprintf(errs, "going on after row %d\n", p.Rows)
		}
	}
	i.progress.Hash = hash
	return i, nil
}

func (i *accountImport) progressFile() string { return i.file + ".crier-progress" }

// run imports what is not done yet, some batches at a time. The progress is how far all is done; what was done beyond it is repeated
// after an interruption, which changes nothing.
func (i *accountImport) run(ctx context.Context, c *client.Client) error {
	rows, bad, err := parseRows(i.file, i.text)
	if err != nil {
		return err
	}
	for _, b := range bad {
		fmt.Fprintln(i.errs, b)
	}
	if len(bad) > 0 && i.stopOnBad {
		return fmt.Errorf("%d rows can't be imported; nothing was", len(bad))
	}
	i.progress.Bad = len(bad)
	patient := *c
	patient.Patient = true
	if strings.EqualFold(filepath.Ext(i.file), ".csv") {
		if err := checkColumns(ctx, &patient, rows[min(i.progress.Rows, len(rows)):]); err != nil {
			return err
		}
	}
	if err := i.importAll(ctx, &patient, rows); err != nil {
		return err
	}
	if err := os.Remove(i.progressFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (i *accountImport) importAll(ctx context.Context, c *client.Client, rows []row) error {
	bar := newBar(i.errs, "importing")
	defer bar.finish()
	bar.set(int64(i.progress.Rows), int64(len(rows)))
	var mu sync.Mutex
	done := make(map[int]doneBatch) // by their beginning
	calls, going := errgroup.WithContext(ctx)
	calls.SetLimit(importAtOnce)
	for at := i.progress.Rows; at < len(rows) && going.Err() == nil; at += importBatch {
		calls.Go(func() error {
			b := batch{client: c, rows: rows[at:min(at+importBatch, len(rows))], stopOnBad: i.stopOnBad}
			if err := b.run(going); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, r := range b.refused {
				bar.say(r.String())
			}
			done[at] = doneBatch{end: at + len(b.rows), refused: len(b.refused)}
			if err := i.advance(done); err != nil {
				return err
			}
			bar.set(int64(i.progress.Rows), int64(len(rows)))
			return nil
		})
	}
	err := calls.Wait()
	switch {
	case i.progress.Rows == len(rows):
		return err
	case ctx.Err() != nil: // also where a call gave up waiting for that
		return ctx.Err()
	}
	return err
}

// doneBatch is a batch that is imported, but for the rows that the server refused.
type doneBatch struct{ end, refused int }

// advance moves the progress to the end of the batches that follow on it, and writes it down.
func (i *accountImport) advance(done map[int]doneBatch) error {
	before := i.progress.Rows
	for b, ok := done[before]; ok; b, ok = done[i.progress.Rows] {
		delete(done, i.progress.Rows)
		i.progress.Accounts += b.end - i.progress.Rows - b.refused
		i.progress.Refused += b.refused
		i.progress.Rows = b.end
	}
	if i.progress.Rows == before {
		return nil
	}
	text, err := json.Marshal(i.progress)
	if err != nil {
		return err
	}
	return os.WriteFile(i.progressFile(), text, 0o600)
}

// checkColumns refuses a file with a column that is no attribute of the app: the server would refuse row after row for it.
func checkColumns(ctx context.Context, c *client.Client, rows []row) error {
	used := make(map[string]int) // the first line that has a value there
	for _, r := range rows {
		for name := range r.Attrs {
			if used[name] == 0 {
				used[name] = r.line
			}
		}
	}
	if len(used) == 0 {
		return nil
	}
	names, err := c.AttrNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		delete(used, name)
	}
	if len(used) == 0 {
		return nil
	}
	name := slices.Min(slices.Collect(maps.Keys(used)))
	return fmt.Errorf("line %d: the app has no attribute %s: name it (im_set_attr_name), or take the column out", used[name], crier.Quote(name))
}

// parseRows reads a file by its ending. bad says, with its line, what can't be imported.
func parseRows(file string, text []byte) (rows []row, bad []string, err error) {
	parse := parseJSONL
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv":
		parse = parseCSV
	case ".jsonl", ".ndjson", ".json":
	default:
		return nil, nil, fmt.Errorf("%s is neither .csv nor .jsonl", file)
	}
	all, bad, err := parse(string(text))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	first := make(map[crier.UserID]int, len(all)) // the line that has the account
	for _, r := range all {
		switch err := r.check(); {
		case err != nil:
			bad = append(bad, fmt.Sprintf("line %d: %s", r.line, crier.AsError(err).Info))
		case first[r.User] > 0: // a batch is one call, in which the second would hide the first
			bad = append(bad, fmt.Sprintf("line %d: account %s stands in line %d already", r.line, crier.Quote(string(r.User)), first[r.User]))
		default:
			first[r.User] = r.line
			rows = append(rows, r)
		}
	}
	return rows, bad, nil
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

func parseCSV(text string) (rows []row, bad []string, err error) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("the header: %w", err)
	}
	if len(header) == 0 || header[0] != "user" {
		return nil, nil, errors.New("the first column of the header must be user")
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, bad, nil
		}
		if broken, ok := errors.AsType[*csv.ParseError](err); ok {
			bad = append(bad, fmt.Sprintf("line %d: %v", broken.StartLine, broken.Err))
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		line, _ := r.FieldPos(0)
		if len(fields) != len(header) {
			bad = append(bad, fmt.Sprintf("line %d: %d fields, the header has %d", line, len(fields), len(header)))
			continue
		}
		rows = append(rows, csvRow(line, header, fields))
	}
}

func csvRow(line int, header, fields []string) row {
	r := row{line: line, Attrs: make(map[string]string)}
	for i, name := range header {
		switch v := fields[i]; {
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

func parseJSONL(text string) (rows []row, bad []string, err error) {
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		r := row{line: i + 1}
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		err := d.Decode(&r)
		if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
		if err != nil {
			bad = append(bad, fmt.Sprintf("line %d: %v", i+1, err))
			continue
		}
		rows = append(rows, r)
	}
	return rows, bad, nil
}
