package transport

import (
	"sync"
	"time"

	"github.com/crier-im/crier"
)

// outbound is a connection that this node has dialed: its requests go out on it, and the answers come back.
type outbound struct {
	*conn
	self string
	peer []byte

	mu      sync.Mutex
	last    uint32
	pending map[uint32]*call
}

// call is one request that waits for its answer.
type call struct {
	id   uint32
	into any           // where the answer goes
	err  error         // good once done is closed
	done chan struct{} // closed with the answer, or when there can be none
	then func()        // called after that; nil: nothing
}

// end answers a call that is no longer in the table of calls.
func (c *call) end(err error) {
	c.err = err
	close(c.done)
	if c.then != nil {
		c.then()
	}
}

func newOutbound(c *conn, self, peer string) *outbound {
	return &outbound{conn: c, self: self, peer: []byte(peer), pending: make(map[uint32]*call)}
}

// start sends a request. Appends with entries wait for their turn, until cancel is closed.
func (o *outbound) start(k kind, group crier.PartitionID, request, into any, cancel <-chan struct{}) (*call, error) {
	c := &call{into: into, done: make(chan struct{})}
	if err := o.launch(c, k, group, request, cancel); err != nil {
		return nil, err
	}
	return c, nil
}

// launch is start with a call that others may wait for already. After an error it has no answer.
func (o *outbound) launch(c *call, k kind, group crier.PartitionID, request any, cancel <-chan struct{}) error {
	o.mu.Lock()
	o.last++
	c.id = o.last
	o.pending[c.id] = c
	o.mu.Unlock()
	write := func(b []byte) []byte {
		return appendMessage(appendRequestHead(b, c.id, group), o.self, request)
	}
	var err error
	if k == kindAppend {
		err = o.sendInTurn(k, write, cancel)
	} else {
		err = o.send(k, write)
	}
	if err == nil || !o.forget(c) { // what has failed all calls has ended this one too
		return nil
	}
	return o.explain(err)
}

// wait blocks for the answer of a call: until the deadline, or cancel is closed.
func (o *outbound) wait(c *call, deadline time.Time, cancel <-chan struct{}) error {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case <-c.done:
		return c.err
	case <-timer.C:
		err = ErrTimeout
	case <-cancel:
		err = ErrClosed
	}
	if !o.forget(c) { // the answer is being written where the caller will look
		<-c.done
		return c.err
	}
	return err
}

// forget gives a call up. It returns false for one that is answered already, or about to be.
func (o *outbound) forget(c *call) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.pending[c.id]
	delete(o.pending, c.id)
	return ok
}

// answer takes an answer to the call that waits for it.
func (o *outbound) answer(f frame) error {
	if f.kind != kindAnswer {
		return errMalformed
	}
	id, s, body, err := cutAnswer(f.body)
	if err != nil {
		return err
	}
	o.mu.Lock()
	c := o.pending[id]
	delete(o.pending, id)
	o.mu.Unlock()
	if c == nil {
		return nil // given up meanwhile
	}
	if s != statusOK {
		c.end(s.err(body))
		return nil
	}
	err = decodeAnswer(o.peer, body, c.into)
	c.end(err)
	return err
}

// failAll answers every call with the error of the connection.
func (o *outbound) failAll() {
	err := o.explain(o.failure())
	o.mu.Lock()
	pending := o.pending
	o.pending = make(map[uint32]*call)
	o.mu.Unlock()
	for _, c := range pending {
		c.end(err)
	}
}

// explain makes an error of the connection that of a call.
func (o *outbound) explain(err error) error {
	if o.failure() == nil {
		return err
	}
	return linkDown(string(o.peer), err)
}
