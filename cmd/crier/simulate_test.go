package main

import (
	"strings"
	"testing"
)

func TestSimulate(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := (&simulation{nodes: 100, partitions: 1024, replicas: 3, accounts: 1024}).write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"replicas      30  30.7    31", "partitions that it leads      10  10.2    11", "one node more: 30 of 3072 replicas move (0.98 %"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := (&simulation{nodes: 1, partitions: 4, replicas: 3, accounts: 10}).write(&out); err != nil || !strings.Contains(out.String(), "one node more: 4 of 4 replicas move") ||
		strings.Contains(out.String(), "one node less") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
