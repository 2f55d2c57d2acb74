package crier

// CommandID names a change to the replicated state, so that one that is sent again, since nobody knows whether it was taken, is done
// once. The zero value names nothing: what has it is done each time that it comes. Every partition counts by itself.
type CommandID struct {
	Origin uint64 // the process that sends it: a random number of each start, not 0
	Number uint64 // ascending within the origin and the partition, from 1
	Oldest uint64 // the lowest Number that the origin may send again
}
