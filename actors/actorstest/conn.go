package actorstest

import (
	"slices"
	"sync"

	"github.com/crier-im/crier"
)

// Conn is a connection that notes what it is given. It implements crier.Conn. It
// does not acknowledge by itself. Safe for concurrent use.
type Conn struct {
	mu     sync.Mutex
	got    []*crier.Delivery
	reason crier.CloseReason
	gone   bool
	fails  bool
}

// Fail makes the next Deliver panic.
func (c *Conn) Fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails = true
}

// Leave closes the other end.
func (c *Conn) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}

// Gone is crier.Conn's.
func (c *Conn) Gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// Deliver is crier.Conn's.
func (c *Conn) Deliver(d *crier.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails {
		c.fails = false
		panic("a connection that was to fail")
	}
	c.got = append(c.got, d)
}

// Close is crier.Conn's; the first reason stays.
func (c *Conn) Close(reason crier.CloseReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == "" {
		c.reason = reason
	}
}

// Seqs returns the places in the app's sequence of what was delivered, in the order of
// delivery.
func (c *Conn) Seqs() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	seqs := make([]uint64, len(c.got))
	for i, d := range c.got {
		seqs[i] = d.Seq
	}
	return seqs
}

// Deliveries returns what was delivered, in order.
func (c *Conn) Deliveries() []*crier.Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// Reason returns why the connection was closed, "" while it is open.
func (c *Conn) Reason() crier.CloseReason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}
