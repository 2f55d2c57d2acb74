package crier

import "io"

// Cut is the states of all groups of a node as of one moment. Between its begin and Release no state machine of the node goes on. Stream is for one goroutine.
type Cut interface {
	// Release lets the state machines go on. It may be called at any time, and more than once.
	Release()
	// Stream writes the state of a group, as far as it belongs into a backup. It blocks.
	Stream(p PartitionID, w io.Writer) error
	// Close ends the cut, and the standstill if it has not ended. No Stream may be under way. A second call does nothing.
	Close()
}
