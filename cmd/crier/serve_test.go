package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier/internal/demo/demofile"
)

// serve --demo has simulators: demo.json and what it prints name the page, and the demo's app has credentials for them.
func TestServeDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	var out said
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs([]string{"serve", "--demo", "--data-dir", dir, "--http-listen", "127.0.0.1:0", "--cluster-partitions", "2", "--storage-min-free-disk", "1", "--log-level", "error"})
	ended := make(chan error, 1)
	go func() {
		ended <- root.ExecuteContext(running)
		cancel() // nobody waits for words of a server that has ended
	}()
	if out.waitFor(ctx, "Or with curl:") {
		checkDemo(t, dir, out.String())
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func checkDemo(t *testing.T, dir, said string) {
	t.Helper()
	d, err := demofile.Read(filepath.Join(dir, demofile.Name))
	if err != nil || d.Page == "" || d.FCM == "" || !strings.Contains(said, "in a browser:  "+d.Page+"\n") {
		t.Fatalf("%+v, %v\n%s", d, err, said)
	}
	if page := get(t, d.Page); !strings.Contains(page, "Nothing has arrived yet") {
		t.Errorf("the page: %s", page)
	}
	list, err := run(t, "app", "credential", "list", demoApp.String(), "--data-dir", dir)
	if err != nil || !strings.Contains(list, "apns    com.example.demo ") || !strings.Contains(list, "fcm     crier-demo ") {
		t.Errorf("%v\n%s", err, list)
	}
}
