package actors

import (
	"math/rand/v2"
	"sync"

	"github.com/crier-im/crier"
)

// commandIDs names the commands of this process, and knows which may be sent again. Safe for concurrent use.
type commandIDs struct {
	origin uint64
	mu     sync.Mutex
	of     map[crier.PartitionID]*commandNumbers
}

// commandNumbers are those that were given for one partition.
type commandNumbers struct {
	oldest uint64 // the lowest that has not ended
	ended  []bool // of oldest and those after it
}

func newCommandIDs() *commandIDs {
	return &commandIDs{origin: rand.Uint64() | 1, of: make(map[crier.PartitionID]*commandNumbers)}
}

// begin names a command for a partition. end must follow.
func (c *commandIDs) begin(p crier.PartitionID) crier.CommandID {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[p]
	if n == nil {
		n = &commandNumbers{oldest: 1}
		c.of[p] = n
	}
	n.ended = append(n.ended, false)
	return crier.CommandID{Origin: c.origin, Number: n.oldest + uint64(len(n.ended)) - 1, Oldest: n.oldest}
}

// end says that the command is not sent again.
func (c *commandIDs) end(p crier.PartitionID, id crier.CommandID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[p]
	n.ended[id.Number-n.oldest] = true
	for len(n.ended) > 0 && n.ended[0] {
		n.ended, n.oldest = n.ended[1:], n.oldest+1
	}
}
