package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// errNoCodec is the error of a message to another node from one that has no Codec.
var errNoCodec = errors.New("this node can't send messages to others")

// outward returns a bundle as it goes to an address: itself to this node, as protobuf to another.
func (n *Node) outward(address string, b *bundle) (any, error) {
	if address == n.system.Address() {
		return b, nil
	}
	if n.cfg.Codec == nil {
		return nil, errNoCodec
	}
	out := &clusterv1.Bundle{TimeoutMs: b.timeout.Milliseconds()}
	for i, p := range b.partitions {
		message, err := n.cfg.Codec.Encode(b.messages[i])
		if err != nil {
			return nil, err
		}
		out.Partitions, out.Messages = append(out.Partitions, uint32(p)), append(out.Messages, message)
	}
	return out, nil
}

// unpack returns a bundle of another node.
func (n *Node) unpack(m *clusterv1.Bundle) (*bundle, error) {
	if n.cfg.Codec == nil {
		return nil, errNoCodec
	}
	if len(m.GetMessages()) != len(m.GetPartitions()) {
		return nil, fmt.Errorf("%d messages for %d partitions", len(m.GetMessages()), len(m.GetPartitions()))
	}
	b := &bundle{timeout: time.Duration(m.GetTimeoutMs()) * time.Millisecond}
	for i, p := range m.GetPartitions() {
		message, err := n.cfg.Codec.Decode(m.GetMessages()[i])
		if err != nil {
			return nil, err
		}
		b.partitions, b.messages = append(b.partitions, crier.PartitionID(p)), append(b.messages, message)
	}
	return b, nil
}

// pack returns answers for another node. One that can't be sent is as one that did not come.
func (n *Node) pack(answers []any) *clusterv1.Bundled {
	out := new(clusterv1.Bundled)
	for _, a := range answers {
		answer := &clusterv1.Answer{Nobody: a == nobody{}, Elsewhere: a == elsewhere{}}
		if !answer.GetNobody() && !answer.GetElsewhere() && a != nil {
			var err error
			if answer.Message, err = n.cfg.Codec.Encode(a); err != nil {
				n.log.Error("an answer can't be sent to another node", "err", err)
			}
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

// inward returns the answers of a relay, of this node or another.
func (n *Node) inward(answer any) (*bundled, error) {
	switch a := answer.(type) {
	case *bundled:
		return a, nil
	case *clusterv1.Bundled:
		b := new(bundled)
		for _, x := range a.GetAnswers() {
			var v any
			switch {
			case x.GetNobody():
				v = nobody{}
			case x.GetElsewhere():
				v = elsewhere{}
			case len(x.GetMessage()) > 0:
				var err error
				if v, err = n.cfg.Codec.Decode(x.GetMessage()); err != nil {
					return nil, err
				}
			}
			b.answers = append(b.answers, v)
		}
		return b, nil
	}
	return nil, fmt.Errorf("the relay answered with a %T", answer)
}
