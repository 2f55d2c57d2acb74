//go:build unix

package gateway

import (
	"net"
	"sync"
	"syscall"
)

// nowWriter writes to a socket without waiting, from a function that is made once: one a write would be two allocations.
type nowWriter struct {
	b     []byte
	n     int
	write func(fd uintptr) bool
}

var nowWriters = sync.Pool{New: func() any {
	w := new(nowWriter)
	w.write = func(fd uintptr) bool {
		w.n = tryWrite(fd, w.b)
		return true
	}
	return w
}}

// rawOf returns what writeNow writes to, nil for a connection with TLS.
func rawOf(c net.Conn) syscall.RawConn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// writeNow writes what the socket takes without waiting, and returns how many bytes that were: none
// after an error, which the next write will meet again.
func writeNow(raw syscall.RawConn, b []byte) (n int) {
	if raw == nil {
		return 0
	}
	w := nowWriters.Get().(*nowWriter)
	w.b, w.n = b, 0
	_ = raw.Write(w.write)
	n = w.n
	w.b = nil
	nowWriters.Put(w)
	return n
}
