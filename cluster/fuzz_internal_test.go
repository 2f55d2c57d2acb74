package cluster

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// FuzzGossip hands bytes to whatever takes gossip: no panic, and a table that can be told to others and is the same there.
func FuzzGossip(f *testing.F) {
	f.Add(encode(&clusterv1.Leaders{Leaders: []*clusterv1.Leader{{Partition: 3, Term: 7, Node: "a"}, {Partition: 70_000, Term: 1, Node: "b"}}}))
	f.Add(encode(&clusterv1.NodeMeta{ActorAddress: "127.0.0.1:1", RaftAddress: "[::1]:2", Partitions: 64, Formed: []string{"a"}}))
	f.Add([]byte("not protobuf"))
	f.Fuzz(func(t *testing.T, b []byte) {
		table := newRoutingTable()
		news := table.decode(b)
		other := newRoutingTable()
		other.decode(table.encode())
		for p, l := range news {
			if p > crier.SystemPartition || other.leader(p) != table.leader(p) {
				t.Errorf("partition %s: %v, told as %v", p, l, other.leader(p))
			}
		}
		g := &gossip{
			table: table, self: &clusterv1.NodeMeta{Partitions: 64, Formed: []string{"a"}}, changed: func([]Member) {}, log: slog.New(slog.DiscardHandler),
			members: make(map[string]Member), gone: make(map[string]string), refusals: make(map[string]time.Time),
		}
		n := &memberlist.Node{Name: "x", Meta: b}
		err := g.NotifyAlive(n)
		if g.update(n); err == nil && proto.Unmarshal(b, new(clusterv1.NodeMeta)) != nil && g.count() != 0 {
			t.Error("who can't be understood has become a member")
		}
	})
}

// echo is a Codec whose messages are their bytes.
type echo struct{}

func (echo) Encode(msg any) ([]byte, error) {
	b, ok := msg.([]byte)
	if !ok {
		return nil, errNoCodec
	}
	return b, nil
}

func (echo) Decode(b []byte) (any, error) {
	if len(b) > 100 {
		return nil, errors.New("too long")
	}
	return b, nil
}

// FuzzBundle hands bytes of another node to whatever opens bundles and their answers: as many messages as partitions, as many answers as came.
func FuzzBundle(f *testing.F) {
	f.Add(encode(&clusterv1.Bundle{TimeoutMs: 7, Partitions: []uint32{1, 2}, Messages: [][]byte{{1}, {2}}}))
	f.Add(encode(&clusterv1.Bundled{Answers: []*clusterv1.Answer{{Nobody: true}, {Elsewhere: true}, {Message: []byte("x")}, {}}}))
	f.Add(encode(&clusterv1.Bundle{Partitions: []uint32{1 << 31}}))
	n := &Node{cfg: Config{Codec: echo{}}, log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := new(clusterv1.Bundle)
		if proto.Unmarshal(b, out) == nil {
			if in, err := n.unpack(out); err == nil && (len(in.messages) != len(out.GetPartitions()) || len(in.partitions) != len(in.messages)) {
				t.Errorf("%d messages for %d of %d partitions", len(in.messages), len(in.partitions), len(out.GetPartitions()))
			}
		}
		back := new(clusterv1.Bundled)
		if proto.Unmarshal(b, back) == nil {
			if in, err := n.inward(back); err == nil && len(in.answers) != len(back.GetAnswers()) {
				t.Errorf("%d answers of %d", len(in.answers), len(back.GetAnswers()))
			}
		}
	})
}
