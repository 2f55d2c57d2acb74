// Package freeporttest gives tests addresses to listen at.
package freeporttest

import (
	"testing"

	"github.com/crier-im/crier/internal/freeport"
)

// Address is freeport.Address, and ends a test that gets none.
func Address(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
