package main

import (
	"context"
	"crypto/sha256"
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

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

const (
	// importBatch is how many accounts one round of calls takes in.
	importBatch = 100
	// importAtOnce is how many batches are under way: a call waits for disks most of its time.
	importAtOnce = 16
	// checkShown is the size of a file, in bytes, from which its check is shown: it takes a second or more. checkStep is after how many rows what is shown moves on.
	checkShown, checkStep = 64 << 20, 10_000
)

// progress is what an interrupted import remembers.
type progress struct {
	Hash     string `json:"sha256"` // of the file: another content begins anew
	Rows     int    `json:"rows"`   // done
	Accounts int    `json:"accounts"`
	Bad      int    `json:"bad"`     // rows of the file that were not tried
	Refused  int    `json:"refused"` // rows that the server refused
}

// accountImport is one import. The file is read twice, and never held: it may be larger than memory.
type accountImport struct {
	file      string
	stopOnBad bool
	nameAttrs bool // name the attributes that the app has not
	errs      io.Writer
	progress  progress

	// These are of the check.
	total int            // rows that can be imported
	attrs map[string]int // the first line that has a value of an attribute
	lines accountLines
}

func (i *accountImport) progressFile() string { return i.file + ".crier-progress" }

// run checks the file, and imports what is not done yet.
func (i *accountImport) run(ctx context.Context, c *client.Client) error {
	if err := i.check(ctx); err != nil {
		return err
	}
	if i.progress.Bad > 0 && i.stopOnBad {
		return fmt.Errorf("%d rows can't be imported; nothing was", i.progress.Bad)
	}
	patient := *c
	patient.Patient = true
	if err := i.settleAttrs(ctx, &patient); err != nil {
		return err
	}
	if err := i.importAll(ctx, &patient); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintf(i.errs, "stopped after row %d of %d: the same command goes on from there\n", i.progress.Rows, i.total)
		}
		return err
	}
	if err := os.Remove(i.progressFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// check reads the file, tells what of it can't be imported, and finds out how far it has been imported before.
func (i *accountImport) check(ctx context.Context) error {
	f, err := os.Open(i.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	say := func(line string) { fmt.Fprintln(i.errs, line) }
	show := func() {}
	if info.Size() >= checkShown {
		bar := newBar(i.errs, "checking, MB")
		defer bar.finish()
		say = bar.say
		show = func() {
			at, _ := f.Seek(0, io.SeekCurrent)
			bar.set(at>>20, info.Size()>>20)
		}
	}
	hash := sha256.New()
	i.total, i.attrs, i.lines, i.progress = 0, make(map[string]int), make(accountLines), progress{}
	for r, err := range i.rows(io.TeeReader(f, hash)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bad, ok := errors.AsType[*badRow](err); ok {
			say(bad.Error())
			i.progress.Bad++
			continue
		}
		if err != nil {
			return err
		}
		for name := range r.Attrs {
			if i.attrs[name] == 0 {
				i.attrs[name] = r.line
			}
		}
		if i.total++; i.total%checkStep == 0 {
			show()
		}
	}
	i.progress.Hash = hex.EncodeToString(hash.Sum(nil))
	if saved, err := os.ReadFile(i.progressFile()); err == nil {
		var p progress
		if json.Unmarshal(saved, &p) == nil && p.Hash == i.progress.Hash {
			p.Bad, i.progress = i.progress.Bad, p
			say(fmt.Sprintf("going on after row %d", p.Rows))
		}
	}
	return nil
}

// settleAttrs sees to it that the app has the attributes of the file. Of a column that it has not, the server would refuse row after row; in JSONL it may be one row's mistake.
func (i *accountImport) settleAttrs(ctx context.Context, c *client.Client) error {
	if len(i.attrs) == 0 || !i.nameAttrs && !i.isCSV() {
		return nil
	}
	names, err := c.AttrNames(ctx)
	if err != nil {
		return err
	}
	missing := maps.Clone(i.attrs)
	for _, name := range names {
		delete(missing, name)
	}
	if len(missing) == 0 {
		return nil
	}
	wanted := slices.Sorted(maps.Keys(missing))
	if !i.nameAttrs {
		return fmt.Errorf("line %d: the app has no attribute %s: --name-attributes gives it to it, or take the column out", missing[wanted[0]], crier.Quote(wanted[0]))
	}
	if len(names)+len(wanted) > crier.MaxAttrs {
		return fmt.Errorf("the file has %d attributes that the app has not (%s), and the app has %d: %d is the limit", len(wanted), strings.Join(wanted, ", "), len(names), crier.MaxAttrs)
	}
	given := make(map[int]string)
	for slot := 0; len(given) < len(wanted); slot++ {
		if names[slot] == "" {
			given[slot] = wanted[len(given)]
		}
	}
	if err := c.SetAttrNames(ctx, given); err != nil {
		return err
	}
	fmt.Fprintf(i.errs, "the app has new attributes: %s\n", strings.Join(wanted, ", "))
	return nil
}

func (i *accountImport) isCSV() bool { return strings.EqualFold(filepath.Ext(i.file), ".csv") }

// importAll imports the rows, some batches at a time. The progress is how far all is done; what was done beyond it is repeated after an interruption, which changes nothing.
func (i *accountImport) importAll(ctx context.Context, c *client.Client) error {
	f, err := os.Open(i.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	bar := newBar(i.errs, "importing")
	defer bar.finish()
	at, skip := 0, i.progress.Rows
	bar.set(int64(skip), int64(i.total))
	var mu sync.Mutex
	done := make(map[int]doneBatch) // by their beginning
	calls, going := errgroup.WithContext(ctx)
	calls.SetLimit(importAtOnce)
	start := func(at int, rows []row) {
		calls.Go(func() error {
			b := batch{client: c, rows: rows, stopOnBad: i.stopOnBad}
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
			bar.set(int64(i.progress.Rows), int64(i.total))
			return nil
		})
	}
	var rows []row
	for r, wrong := range i.rows(f) {
		if _, bad := errors.AsType[*badRow](wrong); bad {
			continue
		}
		if err = wrong; err != nil || going.Err() != nil {
			break
		}
		if at++; at <= skip {
			continue
		}
		if rows = append(rows, r); len(rows) == importBatch {
			start(at-len(rows), rows)
			rows = nil
		}
	}
	if len(rows) > 0 && going.Err() == nil {
		start(at-len(rows), rows)
	}
	if failed := calls.Wait(); failed != nil {
		err = failed
	}
	switch {
	case err == nil && ctx.Err() == nil && i.progress.Rows != i.total:
		return fmt.Errorf("%s has changed meanwhile: of %d rows %d were found", i.file, i.total, i.progress.Rows)
	case i.progress.Rows != i.total && ctx.Err() != nil: // also where a call gave up waiting for that
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
