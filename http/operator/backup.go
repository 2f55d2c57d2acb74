package operator

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

// Backups is where a backup comes from.
type Backups interface {
	// Backup writes everything that the node knows to w, as of one moment. It blocks.
	Backup(ctx context.Context, w io.Writer) error
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
