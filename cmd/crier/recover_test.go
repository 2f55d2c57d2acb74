package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// recoverServer answers with a plan, and notes what is posted.
func recoverServer(t *testing.T, plan *crier.Recovery) (url string, posted func() string) {
	t.Helper()
	got := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			var b bytes.Buffer
			_, _ = b.ReadFrom(r.Body)
			got = r.URL.RawQuery + b.String()
			_, _ = w.Write([]byte("{}"))
			return
		}
		_ = json.NewEncoder(w).Encode(plan)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() string { return got }
}

func TestClusterRecover(t *testing.T) {
	t.Parallel()
	plan := &crier.Recovery{
		Partitions: []crier.PartitionRecovery{
			{Partition: "system", Node: "11111111-a", Last: 70, Others: []string{"44444444-d"}, Lost: []string{"22222222-b", "33333333-c"}},
			{Partition: "5", Others: []string{}, Lost: []string{}},
		},
		Electing: []string{"6"}, Lost: []string{"22222222-b", "33333333-c"},
	}
	url, posted := recoverServer(t, plan)
	recoverWith := func(answer string, args ...string) (string, error) {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetIn(strings.NewReader(answer))
		root.SetArgs(append([]string{"cluster", "recover", "--url", url, "--token", "x"}, args...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	for _, answer := range []string{"", "\n", "y\n", "no\n"} {
		if _, err := recoverWith(answer); err == nil || posted() != "" {
			t.Errorf("%q: %v, and %s was posted", answer, err, posted())
		}
	}
	out, err := recoverWith("yes\n")
	const want = `Without a leader, but with a majority that answers, which elects one by itself: 6
PARTITION  TRUTH                  UP TO  BUILT ANEW ON  LOST
system     11111111               70     44444444       22222222 33333333
5          nothing is left of it  0      -              -

The replicas under TRUTH count from then on. What was acknowledged and is not in them is lost.
Given up for ever, with their data directories: 22222222-b, 33333333-c
`
	if err != nil || !strings.HasPrefix(out, want) || !strings.Contains(posted(), `"node":"11111111-a"`) {
		t.Errorf("%v, posted %s\n%s", err, posted(), out)
	}
	if _, err := recoverWith("", "--yes", "--force"); err != nil || !strings.HasPrefix(posted(), "force=true{") {
		t.Errorf("%v, posted %s", err, posted())
	}

	url, posted = recoverServer(t, &crier.Recovery{Partitions: []crier.PartitionRecovery{}})
	if out, err := recoverWith(""); err != nil || !strings.Contains(out, "nothing to recover") || posted() != "" {
		t.Errorf("%v, posted %s\n%s", err, posted(), out)
	}
}
