package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// lineWriter bridges the loggers of raft and memberlist: their lines are our debug.
// What matters of them (leaders, members) we log ourselves.
type lineWriter struct{ log *slog.Logger }

// Write logs the line.
func (w lineWriter) Write(line []byte) (int, error) {
	w.log.Debug("library", "text", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// gossipWriter is the lineWriter of memberlist, which tells only by its lines whom it turns away, and why. It is not for use by several goroutines: a log.Logger
// writes one line at a time.
type gossipWriter struct {
	lineWriter
	told map[string]time.Time // when a warning was last given
}

// Write logs the line, and warns of what an operator has set wrongly.
func (w *gossipWriter) Write(line []byte) (int, error) {
	if warning := gossipWarning(string(line)); warning != "" && time.Since(w.told[warning]) >= refusalEvery {
		if w.told == nil {
			w.told = make(map[string]time.Time)
		}
		w.told[warning] = time.Now()
		w.log.Warn(warning, "text", string(bytes.TrimSpace(line))) //nolint:sloglint // the warnings are constant
	}
	return w.lineWriter.Write(line)
}

const (
	otherName = "a node of a cluster with another name was turned away: cluster.name must be the same on all nodes"
	otherKey  = "a node with another gossip key, or without one, was turned away: cluster.gossip_key must be the same on all nodes"
	notOurKey = "another node has another gossip key than this one, or only one of them has one: cluster.gossip_key must be the same on all nodes"
)

// gossipWarning returns the warning that a line of memberlist asks for, "" for none. The texts are those of memberlist's net.go and security.go (v0.7.0).
func gossipWarning(line string) string {
	switch {
	case strings.Contains(line, `with unacceptable label "":`): // no node, which has a name always: a probe of the port
		return ""
	case strings.Contains(line, "with unacceptable label"):
		return otherName
	case strings.Contains(line, "Decrypt packet failed"):
		return otherKey
	case !isKeyError(line):
		return ""
	case strings.Contains(line, "memberlist: failed to receive: "): // the other end began
		return otherKey
	}
	return notOurKey
}

// isKeyError reports whether memberlist says that two nodes have not the same key.
func isKeyError(text string) bool {
	return strings.Contains(text, "no installed keys could decrypt the message") ||
		strings.Contains(text, "remote state is encrypted and encryption is not configured") ||
		strings.Contains(text, "encryption is configured but remote state is not encrypted")
}

// joinCause returns which cause joinError has found, nil for none.
func joinCause(err error) error {
	for _, cause := range []error{errOtherKey, errHungUp} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return nil
}

// joinError adds to an error of memberlist why the other node does not answer, as far as it knows. Its errors have only texts.
func joinError(err error) error {
	switch text := err.Error(); {
	case isKeyError(text):
		return fmt.Errorf("%w: %w", errOtherKey, err)
	case strings.Contains(text, ": EOF"), strings.Contains(text, "connection reset by peer"), strings.Contains(text, "broken pipe"):
		return fmt.Errorf("%w: %w", errHungUp, err) // it does not answer another label
	}
	return err
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
