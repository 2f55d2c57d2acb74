package crier

import (
	"errors"
	"fmt"
)

// Error is the one error that Crier tells a caller: a code of the API's table
// and a sentence that is safe to show (no secret, no message text). Anything
// else that goes wrong inside is wrapped in one at the edge, as CodeInternal.
//
// A Code is itself an error, and an Error unwraps to its Code, so that callers
// test with errors.Is(err, crier.CodeUnknownAccount).
type Error struct {
	Code Code
	Info string // what is wrong and where: the field, the account, the limit
	Err  error  // the cause, for logs; may be nil
}

// Errorf makes an Error. A %w in format becomes its cause and stays out of Info
// only if the caller leaves it out of the text.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Info: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns the code and the sentence.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", int(e.Code), e.Info) }

// Unwrap returns the code and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// AsError returns err as an Error: itself where it is one, else CodeInternal
// with a sentence that gives nothing away and the cause for the log.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if c, ok := errors.AsType[Code](err); ok {
		return &Error{Code: c, Info: c.Text(), Err: err}
	}
	return &Error{Code: CodeInternal, Info: "internal error, try again", Err: err}
}
