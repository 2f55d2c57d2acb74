package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// rowCodes are what the server answers where something is wrong with an account of the call, or with how many there are, which
// halving mends too. All others are about the caller, the app or the server, and would come for every row.
var rowCodes = []crier.Code{
	crier.CodeAccountMissing, crier.CodeBadParameter, crier.CodeBadAccountCount, crier.CodeBadSetAttr, crier.CodeTagTooLong, crier.CodeTooManyTags,
	crier.CodeBadAttr, crier.CodeTagBadValue, crier.CodeBadAccount, crier.CodeTagEmpty, crier.CodeAccountTagsFull, crier.CodeUnknownAccount, crier.CodeBodyTooLarge,
}

// aboutRow reports whether the server may take the other rows of the call.
func aboutRow(err error) bool {
	return slices.ContainsFunc(rowCodes, func(c crier.Code) bool { return errors.Is(err, c) })
}

// refusedRow is a row that the server did not take, or only in part.
type refusedRow struct {
	line int
	why  error
	kept string // what of it was imported
}

func (r refusedRow) String() string {
	return fmt.Sprintf("line %d: %s (code %d)%s", r.line, crier.AsError(r.why).Info, int(crier.AsError(r.why).Code), r.kept)
}

// batch is some rows of an import.
type batch struct {
	client    *client.Client
	rows      []row
	stopOnBad bool
	refused   []refusedRow
}

// step is one call for some rows.
type step struct {
	call func(context.Context, []row) error
	has  func(row) bool // whether a row has what the call sets
	kept string         // what of a row is there that this step refuses
}

// run imports the rows, but for those that the server refuses: without stopOnBad they are skipped.
func (b *batch) run(ctx context.Context) error {
	steps := []step{
		{b.importAccounts, func(row) bool { return true }, ""},
		{b.addTags, func(r row) bool { return len(r.Tags) > 0 }, "; the account is there, without the row's tags and attributes"},
		{b.setAttrs, func(r row) bool { return len(r.Attrs) > 0 }, "; the account is there, without the row's attributes"},
	}
	for _, s := range steps {
		var rows []row
		for _, r := range b.rows {
			if s.has(r) && !b.skips(r) {
				rows = append(rows, r)
			}
		}
		if err := b.split(ctx, s, rows); err != nil {
			return err
		}
	}
	return nil
}

// skips reports whether a step before has refused the row.
func (b *batch) skips(r row) bool {
	return slices.ContainsFunc(b.refused, func(x refusedRow) bool { return x.line == r.line })
}

// split makes the call for the rows. Where the server refuses some of them, it halves them until those are found: all calls of an
// import may be repeated.
func (b *batch) split(ctx context.Context, s step, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	err := s.call(ctx, rows)
	switch {
	case err == nil:
		return nil
	case !aboutRow(err):
		return explained(err, fmt.Sprintf("rows from line %d: ", rows[0].line), " (start again to go on from here)")
	case len(rows) == 1:
		return b.refuse(refusedRow{rows[0].line, err, s.kept})
	}
	half := len(rows) / 2
	if err := b.split(ctx, s, rows[:half]); err != nil {
		return err
	}
	return b.split(ctx, s, rows[half:])
}

func (b *batch) refuse(r refusedRow) error {
	if b.stopOnBad {
		return explained(r.why, fmt.Sprintf("line %d: ", r.line), r.kept+" (without --stop-on-bad the row is skipped)")
	}
	b.refused = append(b.refused, r)
	return nil
}

// explained puts words around an error. They go into the sentence of one of the API, which is what main prints of it.
func explained(err error, before, after string) error {
	if e, ok := errors.AsType[*crier.Error](err); ok {
		return &crier.Error{Code: e.Code, Info: before + e.Info + after, Err: err}
	}
	return fmt.Errorf("%s%w%s", before, err, after)
}

func (b *batch) importAccounts(ctx context.Context, rows []row) error {
	profiles := make(map[crier.UserID]crier.Profile, len(rows))
	for _, r := range rows {
		profiles[r.User] = crier.Profile{Nick: r.Nick, FaceURL: r.Face}
	}
	failed, err := b.client.ImportProfiles(ctx, profiles)
	if err == nil && len(failed) > 0 { // like a refusal: halving finds the rows
		return crier.Errorf(crier.CodeBadAccount, "the server takes %s for no account name", crier.Quote(string(failed[0])))
	}
	return err
}

func (b *batch) addTags(ctx context.Context, rows []row) error {
	tags := make(map[crier.UserID][]string, len(rows))
	for _, r := range rows {
		tags[r.User] = r.Tags
	}
	return b.client.AddTags(ctx, tags)
}

func (b *batch) setAttrs(ctx context.Context, rows []row) error {
	attrs := make(map[crier.UserID]map[string]string, len(rows))
	for _, r := range rows {
		attrs[r.User] = r.Attrs
	}
	return b.client.SetAttrs(ctx, attrs)
}
