// Package apnssim is an APNs server for tests and demonstrations: it speaks
// HTTP/2 over TLS as Apple's does, checks what Apple's checks, fails in every way that is
// documented, and shows what phones would show.
//
// It has its own HTTP/2 server over the frames, because net/http sends no GOAWAY in the
// middle of a stream and none with a reason.
package apnssim
