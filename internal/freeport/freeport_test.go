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

// An address stays this process's while nobody listens on it: what is killed comes again on it.
func TestAddressesAreReserved(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "127.0.0.2:0"); err != nil {
		t.Skipf("NOT TESTED: the loopback is one address: %v", err)
	} else {
		_ = l.Close()
	}
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	if l, err := net.Listen("tcp", "127.0.0.2:"+port); err == nil {
		_ = l.Close()
		t.Errorf("another process could be given %s", address)
	}
}
