// Package freeport finds addresses for processes that are started later, for tests, demos and benchmarks.
package freeport

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// Ports are drawn from below those that Linux gives to outgoing connections and to listeners on port 0 (32768 and more,
// net.ipv4.ip_local_port_range): one of those may be given away again before the process that is to have it listens.
const (
	first = 20_000
	last  = 32_767
	tries = 1000
)

// reserved holds, as long as this process lives, the port of each address that was given on another address of the loopback, so that no other process that asks
// here gets it: what is to listen may come late, or be killed and come again.
var reserved struct {
	mu  sync.Mutex
	all []net.Listener
}

// reserve reserves a port for this process; false: another one has it. Systems whose loopback is one address have no reservations.
func reserve(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		return !errors.Is(err, syscall.EADDRINUSE)
	}
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	reserved.all = append(reserved.all, l)
	return true
}

// Addresses returns n addresses of 127.0.0.1 on which nobody listens now, neither with TCP nor with UDP, and which no other process has been given that lives still.
func Addresses(n int) (all []string, err error) {
	for range tries {
		if len(all) == n {
			return all, nil
		}
		port := first + rand.N(last-first+1)
		if !reserve(port) { // before the address itself is tried, if only for a moment: another process may be about to listen there
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer release(tcp) // not before all are found: none comes twice
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		defer release(udp)
		all = append(all, address)
	}
	return nil, errors.New("there are hardly any free ports from 20000 to 32767")
}

// Address returns one address.
func Address() (string, error) {
	all, err := Addresses(1)
	if err != nil {
		return "", err
	}
	return all[0], nil
}

func release(c io.Closer) { _ = c.Close() } // nothing was sent
