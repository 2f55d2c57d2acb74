//go:build !unix

package gateway

import (
	"net"
	"syscall"
)

// rawOf returns nothing to write to: a goroutine writes.
func rawOf(net.Conn) syscall.RawConn { return nil }

// writeNow writes nothing.
func writeNow(syscall.RawConn, []byte) int { return 0 }
