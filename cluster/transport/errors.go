package transport

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is the error of a call on a transport that is closed, or was closed meanwhile.
	ErrClosed = errors.New("the transport is closed")
	// ErrLinkDown is the error of a call that could not reach the other node, or whose answer was lost with the
	// connection: the call may have been carried out.
	ErrLinkDown = errors.New("the link is down")
	// ErrTimeout is the error of a call without an answer in time: it may have been carried out.
	ErrTimeout = errors.New("no answer in time")
	// ErrRefused is the error of a connection that one end turned away in the handshake, which
	// says why: another cluster, another node, another version, a certificate for another name.
	ErrRefused = errors.New("turned away")
	// ErrTooBig is the error of a message over the largest frame, 64 MB.
	ErrTooBig = errors.New("the message is over 64 MB")
	// ErrSnapshotSize is the error of a snapshot whose stream is longer or shorter than announced.
	ErrSnapshotSize = errors.New("the snapshot has not the announced size")

	errMalformed = errors.New("malformed frame")
	errNotOpen   = errors.New("the group is not open on the other node")
	errBusy      = errors.New("the group on the other node has too many requests waiting")
)

// retryable reports whether a call that is safe to repeat is worth it: what failed
// was the way to the group, which comes back when the other node does.
func retryable(err error) bool {
	return errors.Is(err, ErrLinkDown) || errors.Is(err, errNotOpen) || errors.Is(err, errBusy)
}

// linkDown says which link, and what is wrong with it.
func linkDown(peer string, err error) error {
	return fmt.Errorf("node %s: %w: %w", peer, ErrLinkDown, err)
}
