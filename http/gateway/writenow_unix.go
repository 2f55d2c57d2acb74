//go:build unix

package gateway

import (
	"net"
	"syscall"
)

// writeNow writes what the socket takes without waiting, and returns how many bytes that were: none to a connection with TLS, and none
// after an error, which the next write will meet again.
func writeNow(c net.Conn, b []byte) (n int) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), b)
		return true
	})
	return max(n, 0)
}
