package operator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

// Backups is where a backup comes from, and goes to.
type Backups interface {
	// Backup writes everything that the cluster knows to w, as of one moment. It blocks. crier.CodeTimeout says which partition has no leader.
	Backup(ctx context.Context, w io.Writer) error
	// Restore reads a backup to its end, and then puts what it has into the cluster; progress is told how much of it is there, done of total. It blocks.
	// crier.CodeBadParameter says why the backup, or the cluster, is none for it: then nothing has changed. After another error the cluster serves nothing
	// until a restore has ended.
	Restore(ctx context.Context, r io.Reader, progress func(done, total int)) error
}

// started notes whether something was written: until then an error can still be told.
type started struct {
	io.Writer
	yes bool
}

func (s *started) Write(p []byte) (int, error) {
	s.yes = true
	return s.Writer.Write(p)
}

// backup streams a backup. One that breaks off ends the connection without the end of the body, and has no end of its own.
func (a *API) backup(c *gin.Context) {
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Time{}) // it takes as long as the reader does; a writer without deadlines has none
	c.Header("Content-Type", "application/zstd")
	w := &started{Writer: c.Writer}
	err := a.backups.Backup(c.Request.Context(), w)
	switch {
	case err == nil:
	case !w.yes:
		c.Header("Content-Type", "application/json")
		e := crier.AsError(err)
		if e.Code == crier.CodeInternal {
			e = &crier.Error{Code: crier.CodeInternal, Info: "the backup failed", Err: err}
		}
		fail(c, e)
	default:
		_ = c.Error(err) // for the log
		panic(http.ErrAbortHandler)
	}
}

// restore takes a backup as its body. From the first step on, the answer is a line of JSON for each: {"done":1,"total":65}; the last has "error" and "code" where it
// failed, else "restored".
func (a *API) restore(c *gin.Context) {
	control := http.NewResponseController(c.Writer)
	_ = control.SetReadDeadline(time.Time{}) // as long as the sender does, as above
	_ = control.SetWriteDeadline(time.Time{})
	lines := json.NewEncoder(c.Writer)
	begun := false
	line := func(v any) {
		begun = true
		_ = lines.Encode(v) // who does not read on is told nothing
		c.Writer.Flush()
	}
	err := a.backups.Restore(c.Request.Context(), c.Request.Body, func(done, total int) { line(gin.H{"done": done, "total": total}) })
	switch {
	case err == nil:
		line(gin.H{"restored": true})
	case begun:
		e := crier.AsError(err)
		line(gin.H{"code": int(e.Code), "error": e.Info})
	default:
		fail(c, err)
	}
}
