package cluster

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// leader is who leads a group, in which raft term. An empty node means that the
// leader of the term has stepped down.
type leader struct {
	node string
	term uint64
}

// routingTable is who leads what, as this node knows it: its own elections and
// what others gossip come in by the same way, merge. Safe for concurrent use.
type routingTable struct {
	mu      sync.RWMutex
	leaders map[crier.PartitionID]leader
	news    chan struct{} // closed by the next news
}

func newRoutingTable() *routingTable {
	return &routingTable{leaders: make(map[crier.PartitionID]leader), news: make(chan struct{})}
}

// merge takes news and reports whether they were news: a higher term wins, and
// within a term, that the leader stepped down.
func (t *routingTable) merge(p crier.PartitionID, l leader) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.leaders[p]
	if known && (l.term < old.term || l.term == old.term && (old.node == "" || l.node != "")) {
		return false
	}
	t.leaders[p] = l
	close(t.news)
	t.news = make(chan struct{})
	return true
}

// next returns a channel that is closed by the next news.
func (t *routingTable) next() <-chan struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.news
}

// leader returns who leads a group; an empty node if none is known.
func (t *routingTable) leader(p crier.PartitionID) leader {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.leaders[p]
}

// encode returns the table as gossip.
func (t *routingTable) encode() []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := new(clusterv1.Leaders)
	for p, l := range t.leaders {
		all.Leaders = append(all.Leaders, &clusterv1.Leader{Partition: uint32(p), Term: l.term, Node: l.node})
	}
	return encode(all)
}

// decode merges gossip, and returns what of it was news. What can't be read is not for this version.
func (t *routingTable) decode(gossip []byte) map[crier.PartitionID]leader {
	all, news := new(clusterv1.Leaders), make(map[crier.PartitionID]leader)
	if proto.Unmarshal(gossip, all) != nil {
		return nil
	}
	for _, l := range all.GetLeaders() {
		p, is := crier.PartitionID(l.GetPartition()), leader{l.GetNode(), l.GetTerm()}
		if l.GetPartition() <= uint32(crier.SystemPartition) && t.merge(p, is) {
			news[p] = is
		}
	}
	return news
}

func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic("cluster: " + err.Error()) // only invalid UTF-8, which no id has
	}
	return b
}
