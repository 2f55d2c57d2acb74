package cluster

import (
	"bytes"
	"context"
	"log/slog"
)

// lineWriter bridges the loggers of raft and memberlist: their lines are our debug.
// What matters of them (leaders, members) we log ourselves.
type lineWriter struct{ log *slog.Logger }

// Write logs the line.
func (w lineWriter) Write(line []byte) (int, error) {
	w.log.Debug("library", "text", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// quietHandler passes protoactor's news as debug, and its warnings as they are.
type quietHandler struct{ slog.Handler }

// Enabled treats news as debug.
func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, quieter(level))
}

// Handle writes the record at its lower level.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = quieter(r.Level)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the levels low.
func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the levels low.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}

func quieter(level slog.Level) slog.Level {
	if level < slog.LevelError {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
