package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// barStep is by how many percent something moves on between two plain lines.
const barStep = 10

// bar shows how far something is: drawn on a terminal, else, for a log, as a plain line
// at each step. Not safe for concurrent use.
type bar struct {
	out   io.Writer
	what  string
	drawn *progressbar.ProgressBar // nil: plain lines
	step  int64                    // of the last line
}

func newBar(out io.Writer, what string) *bar {
	b := &bar{out: out, what: what, step: -1}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.drawn = progressbar.NewOptions64(-1, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(out),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
	}
	return b
}

// set says how much is done. What can't be drawn fails nothing.
func (b *bar) set(done, total int64) {
	if b.drawn != nil {
		b.drawn.ChangeMax64(max(total, 1))
		_ = b.drawn.Set64(done)
		return
	}
	if step := done * 100 / max(total, 1) / barStep; step != b.step {
		b.step = step
		fmt.Fprintf(b.out, "%s: %d of %d\n", b.what, done, total)
	}
}

// say prints a line; a drawing comes back below it with the next set.
func (b *bar) say(line string) {
	if b.drawn != nil {
		_ = b.drawn.Clear()
	}
	fmt.Fprintln(b.out, line)
}

// finish takes the drawing away.
func (b *bar) finish() {
	if b.drawn != nil {
		_ = b.drawn.Finish()
	}
}
