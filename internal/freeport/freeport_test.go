package freeport_test

import (
	"net"
	"slices"
	"testing"

	"github.com/crier-im/crier/internal/freeport"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	all, err := freeport.Addresses(50)
	if err != nil || len(all) != 50 {
		t.Fatalf("%d addresses, %v", len(all), err)
	}
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("one came twice: %v", all)
	}
	for _, a := range all {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
