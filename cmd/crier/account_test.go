package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier/client"
)

// An import goes on where it was, but only with the same content.
func TestImportIsResumed(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/users.csv"
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "user\nann\nbob\n")
	check := func(file string) progress {
		t.Helper()
		i := &accountImport{file: file, errs: new(bytes.Buffer)}
		if err := i.check(t.Context()); err != nil {
			t.Fatal(err)
		}
		return i.progress
	}
	first := check(file)
	if first.Rows != 0 || first.Hash == "" {
		t.Fatalf("%+v", first)
	}
	write(file+".crier-progress", `{"sha256":"`+first.Hash+`","rows":1,"accounts":1}`)
	if again := check(file); again.Rows != 1 || again.Accounts != 1 {
		t.Errorf("%+v", again)
	}
	write(file, "user\nann\nbob\ncai\n")
	if other := check(file); other.Rows != 0 {
		t.Errorf("another content: %+v", other)
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	if m, err := pairs([]string{"a=1", "b=x=y"}); err != nil || !reflect.DeepEqual(m, map[string]string{"a": "1", "b": "x=y"}) {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := pairs([]string{"a"}); err == nil {
		t.Error("a word without a value was taken")
	}
}

// Every command has a sentence, and runs into no panic for its help.
func TestCommandsHaveHelp(t *testing.T) {
	t.Parallel()
	for _, c := range newRoot().Commands() {
		if c.Short == "" {
			t.Errorf("%s has no help", c.Name())
		}
		var out bytes.Buffer
		root := newRoot()
		root.SetOut(&out)
		root.SetArgs([]string{c.Name(), "--help"})
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), c.Short) && !strings.Contains(out.String(), c.Long) {
			t.Errorf("%s --help: %v", c.Name(), err)
		}
	}
}

// Batches are imported side by side; one that fails ends the import, which goes on later from the last that all before it were done with.
func TestImportSideBySide(t *testing.T) {
	t.Parallel()
	const rows, bad = 20*importBatch + 7, 5*importBatch + 3
	var mu sync.Mutex
	imported := make(map[string]int)
	// start starts a server that may refuse an account, and counts the calls that are under way.
	start := func(refuses string) (c *client.Client, most *int) {
		under, most := 0, new(int)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var body struct{ AccountList []struct{ UserID string } }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			mu.Lock()
			under++
			*most = max(*most, under)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond) // so that some are under way
			mu.Lock()
			defer mu.Unlock()
			under--
			if slices.ContainsFunc(body.AccountList, func(a struct{ UserID string }) bool { return a.UserID == refuses }) {
				fmt.Fprint(w, `{"ActionStatus":"FAIL","ErrorCode":70500,"ErrorInfo":"not now"}`)
				return
			}
			for _, a := range body.AccountList {
				imported[a.UserID]++
			}
			fmt.Fprint(w, `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","FailAccounts":[]}`)
		}))
		t.Cleanup(server.Close)
		c, err := client.New(server.URL, 1400000001, "administrator", client.SecretKey("key"))
		if err != nil {
			t.Fatal(err)
		}
		return c, most
	}
	refusing, _ := start(fmt.Sprint("user", bad))
	taking, most := start("")
	text := "user\n"
	for i := range rows {
		text += fmt.Sprintf("user%d\n", i)
	}
	file := t.TempDir() + "/users.csv"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	first := &accountImport{file: file, errs: new(bytes.Buffer)}
	if err := first.run(t.Context(), refusing); err == nil || !strings.Contains(err.Error(), "rows from line 502") {
		t.Fatalf("%v", err)
	}
	second := &accountImport{file: file, errs: new(bytes.Buffer)}
	if err := second.check(t.Context()); err != nil || second.progress.Rows > bad/importBatch*importBatch || second.progress.Rows != first.progress.Rows {
		t.Fatalf("%+v, %v", second.progress, err)
	}
	has := func(row int) bool {
		mu.Lock()
		defer mu.Unlock()
		return imported[fmt.Sprint("user", row)] > 0
	}
	for i := range second.progress.Rows {
		if !has(i) {
			t.Fatalf("row %d of %d that are said to be done is not", i, second.progress.Rows)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := second.run(stopped, taking); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped before it began: %v", err)
	}
	err := second.run(t.Context(), taking)
	mu.Lock()
	defer mu.Unlock()
	if err != nil || len(imported) != rows || second.progress.Accounts != rows {
		t.Errorf("%v, %d of %d imported: %+v", err, len(imported), rows, second.progress)
	}
	if *most < 2 || *most > importAtOnce {
		t.Errorf("%d calls at once", *most)
	}
	if _, err := os.Stat(first.progressFile()); !os.IsNotExist(err) {
		t.Errorf("the progress is still there: %v", err)
	}
}
