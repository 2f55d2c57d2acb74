package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
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
		checkTools(ctx, t, dir)
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

// checkTools walks the way of docs/operations.md: accounts from a file, a receiver, a push to some of them, its report, and the demo's story.
func checkTools(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	demo := []string{"--demo-file", filepath.Join(dir, demofile.Name)}
	file := filepath.Join(dir, "accounts.csv")
	if err := os.WriteFile(file, []byte("user,tags\nann,stockA\nben,stockA|stockB\ncid,stockB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, append([]string{"account", "import", file}, demo...)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listening, stop := context.WithCancel(ctx)
	var arrived, told said
	root := newRoot()
	root.SetOut(&arrived)
	root.SetErr(&told)
	root.SetArgs(append([]string{"listen", "--user", "ann"}, demo...))
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(listening) }()
	if !told.waitFor(ctx, "connected as ann") {
		t.Fatalf("nobody listens: %s", told.String())
	}
	push := append([]string{"push", "--text", "Stock A rises", "--title", "Stocks", "--tags-or", "stockA", "--keep", "1h", "--random", "7", "--watch"}, demo...)
	task, err := run(t, push...)
	task = strings.TrimSpace(task)
	if _, _, ok := crier.TaskID(task).Parse(); err != nil || !ok {
		t.Fatalf("%q, %v", task, err)
	}
	if !arrived.waitFor(ctx, task) || !strings.Contains(arrived.String(), "from administrator  [Stocks]  Stock A rises  (kept until ") {
		t.Errorf("%q", arrived.String())
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("listen has ended with %v", err)
	}
	if out, err := run(t, push...); out != "" || err == nil || !strings.Contains(err.Error(), task) {
		t.Errorf("the same push again: %q, %v", out, err)
	}
	if out, err := run(t, append([]string{"report", task}, demo...)...); err != nil || !strings.Contains(out, task) || !strings.Contains(out, "matched") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(t, append([]string{"demo", "--pace", "0s"}, demo...)...); err != nil || !strings.Contains(out, "The server tells the same") {
		t.Errorf("%v\n%s", err, out)
	}
}
