package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGossipWarning(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"[ERR] memberlist: failed to receive: no installed keys could decrypt the message from=10.0.0.9:1":                  otherKey,
		"[ERR] memberlist: failed to receive: remote state is encrypted and encryption is not configured from=10.0.0.9:1":   otherKey,
		"[ERR] memberlist: failed to receive: encryption is configured but remote state is not encrypted from=10.0.0.9:1":   otherKey,
		"[ERR] memberlist: Decrypt packet failed: unsupported encryption version 12 from=10.0.0.9:1":                        otherKey,
		"[DEBUG] memberlist: failed to join 10.0.0.9:7946: no installed keys could decrypt the message":                     notOurKey,
		"[ERR] memberlist: Push/Pull with node-2 failed: encryption is configured but remote state is not encrypted":        notOurKey,
		`[ERR] memberlist: discarding stream with unacceptable label "staging": from=10.0.0.9:1`:                            otherName,
		`[ERR] memberlist: discarding packet with unacceptable label "staging": from=10.0.0.9:1`:                            otherName,
		`[ERR] memberlist: discarding stream with unacceptable label "": from=10.0.0.9:1`:                                   "",
		"[WARN] memberlist: Binding to public address without encryption!":                                                  "",
		"[ERR] memberlist: failed to receive: read tcp 10.0.0.1:7946->10.0.0.9:1: connection reset by peer from=10.0.0.9:1": "",
		"[DEBUG] memberlist: failed to join 10.0.0.9:7946: dial tcp 10.0.0.9:7946: connect: connection refused":             "",
		"[DEBUG] memberlist: Stream connection from=10.0.0.9:1":                                                             "",
	} {
		if got := gossipWarning(line); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// Each warning comes once a minute; every line is there for who debugs.
func TestGossipWarnsOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := &gossipWriter{lineWriter: lineWriter{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}}
		for range 121 { // seconds
			for _, text := range []string{"Decrypt packet failed: no installed keys", `discarding packet with unacceptable label "staging":`} {
				if _, err := fmt.Fprintf(w, "[ERR] memberlist: %s from=10.0.0.9:1\n", text); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		for what, want := range map[string]int{otherKey: 3, otherName: 3, "level=WARN": 6, "level=DEBUG": 242} {
			if got := strings.Count(out.String(), what); got != want {
				t.Errorf("%d times %q, not %d", got, what, want)
			}
		}
	})
}
