package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/persistence"
)

// aBackup is one of an empty cluster.
func aBackup(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	err := persistence.WriteBackup(&out, "v1", 2, func(_ crier.PartitionID, w io.Writer) error {
		_, err := io.WriteString(w, "crier\x01")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBackupKeepsOnlyWholeOnes(t *testing.T) {
	t.Parallel()
	whole := aBackup(t)
	body := whole[:len(whole)-5]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer server.Close()
	dir := t.TempDir()
	name := filepath.Join(dir, "b.crier")
	if _, err := run(t, "backup", name, "--url", server.URL, "--token", "x"); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("a cut one: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a cut one left %v, %v", left, err)
	}
	body = whole
	out, err := run(t, "backup", name, "--url", server.URL, "--token", "x")
	if err != nil || !strings.Contains(out, "2 partitions") {
		t.Errorf("%s, %v", out, err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 || st.Size() != int64(len(whole)) {
		t.Errorf("%v, %v", st, err)
	}
}

func TestRestoreTellsHowItEnds(t *testing.T) {
	t.Parallel()
	answer, sent := "", 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sent = len(b)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	whole := aBackup(t)
	name := filepath.Join(t.TempDir(), "b.crier")
	for _, c := range []struct {
		file         []byte
		answer, want string // want "": it succeeds
		sent         int
	}{
		{whole[:len(whole)-5], "", "nothing was restored", 0},
		{whole, `{"done":1,"total":3}` + "\n", "restore again", len(whole)},
		{whole, `{"done":1,"total":3}` + "\n" + `{"code":60008,"error":"no leader"}`, "no leader; the cluster serves nothing", len(whole)},
		{whole, `{"done":1,"total":3}` + "\n" + `{"restored":true}`, "", len(whole)},
	} {
		if err := os.WriteFile(name, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		answer, sent = c.answer, 0
		_, err := run(t, "restore", name, "--url", server.URL, "--token", "x")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(message(err), c.want) || sent != c.sent {
			t.Errorf("%q: %v, %d bytes sent", c.answer, err, sent)
		}
	}
}
