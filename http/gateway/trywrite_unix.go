//go:build unix && !linux

package gateway

import "syscall"

// tryWrite writes what a socket takes.
func tryWrite(fd uintptr, b []byte) int {
	n, _ := syscall.Write(int(fd), b)
	return max(n, 0)
}
