package gateway

import (
	"syscall"
	"unsafe"
)

// tryWrite writes what a socket takes, which never blocks: Go's sockets do not. So the scheduler is not told of the call, as it is by
// syscall.Write: where a write takes over 20 µs, which with loopback's receiver in it is often, it would give the processor to another thread (ADR 32).
func tryWrite(fd uintptr, b []byte) int {
	n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if err != 0 {
		return 0
	}
	return int(n)
}
