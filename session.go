package crier

// Conn is the connection of one session, as the gateway lends it to the
// session's actor. Its methods are safe for concurrent use and do not block on the
// network: what can't be written waits in a bounded queue, and a receiver whose queue
// is full is closed with CloseSlow by the Conn itself.
type Conn interface {
	// Deliver writes one message. Messages arrive in the order of the calls.
	Deliver(d *Delivery)
	// Close ends the connection, after what was delivered before. The second call does nothing.
	Close(reason CloseReason)
	// Gone reports whether the other end is known to have closed the connection, though that was not read yet: a client that waited too long for its login has
	// made another.
	Gone() bool
}

// Session is one live session, as its actor lends it to the gateway. Its
// methods do not block and are safe for concurrent use; after Closed they do nothing.
type Session interface {
	// Acknowledge tells that the receiver has the kept messages with these
	// sequence numbers or, if cumulative, every one up to the highest of them.
	Acknowledge(seqs []uint64, cumulative bool)
	// Foreground and Background tell where the app is; unread is the badge base.
	Foreground()
	Background(unread int)
	// RegisterDevice registers the device of the connection with a vendor for the account; a token that it gave before
	// is replaced. done is called once, from any goroutine, with the error that the client is told, or nil
	// when the registration is durable.
	RegisterDevice(d Device, done func(error))
	// Logout ends the session and removes the device that it registered: a vendor notifies it no more.
	Logout()
	// Closed tells that the connection has ended.
	Closed(reason CloseReason)
}
