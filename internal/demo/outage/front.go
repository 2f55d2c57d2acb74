package outage

import (
	"io"
	"net"
	"strings"
	"sync"
)

// front stands before the nodes as a load balancer does: a connection to it goes to its first node that answers.
type front struct {
	listener net.Listener
	nodes    []string // host:port, in the order of preference
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // open; nil: closed for good
}

// newFront listens on a free port of loopback. The nodes are URLs.
func newFront(nodes ...string) (*front, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &front{listener: l, conns: make(map[net.Conn]struct{})}
	for _, n := range nodes {
		f.nodes = append(f.nodes, strings.TrimPrefix(n, "http://"))
	}
	f.running.Go(f.accept)
	return f, nil
}

func (f *front) url() string { return "http://" + f.listener.Addr().String() }

// close ends the listener and every connection, and waits for what served them.
func (f *front) close() {
	_ = f.listener.Close()
	f.mu.Lock()
	conns := f.conns
	f.conns = nil
	f.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	f.running.Wait()
}

func (f *front) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.serve(c) })
	}
}

// serve joins a connection with one to a node, until either ends.
func (f *front) serve(client net.Conn) {
	if !f.keep(client) {
		return
	}
	defer f.end(client)
	for _, address := range f.nodes {
		node, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		if !f.keep(node) {
			return
		}
		var back sync.WaitGroup
		back.Go(func() {
			_, _ = io.Copy(client, node) // ends with either
			_ = client.Close()
		})
		_, _ = io.Copy(node, client)
		f.end(node)
		back.Wait()
		return
	}
}

// keep notes a connection, or closes it where the front has closed.
func (f *front) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		_ = c.Close()
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *front) end(c net.Conn) {
	_ = c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}
