package actors

import (
	"errors"
	"fmt"
	"strings"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// errIncomplete is the error of a message that lacks a part without which it means nothing.
var errIncomplete = errors.New("a part is missing")

// Codec turns messages that cross nodes into bytes and back: requests to actors, their answers, and what sessions
// and users send one another. DESIGN.md tells which do not cross. Safe for concurrent use.
type Codec struct{}

// Encode returns the bytes of a message. They share nothing with it. The error is a *crier.Error with CodeInternal: the message is
// one that must not leave its node, or has text that is not UTF-8.
func (Codec) Encode(msg any) ([]byte, error) {
	b := new(actorv1.Body)
	for _, encode := range []func(*actorv1.Body, any) error{encodeRequest, encodeAnswer, encodeSystem, encodeLive} {
		if err := encode(b, msg); err != nil {
			return nil, unsendable(msg, err)
		}
		if b.Kind != nil {
			bytes, err := proto.Marshal(b)
			if err != nil {
				return nil, unsendable(msg, err)
			}
			return bytes, nil
		}
	}
	return nil, unsendable(msg, nil)
}

func unsendable(msg any, err error) error {
	return &crier.Error{Code: crier.CodeInternal, Info: fmt.Sprintf("a message of type %T can't leave its node", msg), Err: err}
}

// Decode returns the message. The error is a *crier.Error with CodeInternal: the message is damaged, or of a kind that
// this node does not know, which is what a newer node has sent.
func (Codec) Decode(bytes []byte) (any, error) {
	b := new(actorv1.Body)
	if err := proto.Unmarshal(bytes, b); err != nil {
		return nil, unreadable(err)
	}
	for _, decode := range []func(*actorv1.Body) (any, error){decodeRequest, decodeAnswer, decodeSystem, decodeLive} {
		if msg, err := decode(b); err != nil {
			return nil, unreadable(err)
		} else if msg != nil {
			return msg, nil
		}
	}
	if len(b.ProtoReflect().GetUnknown()) > 0 {
		return nil, crier.Errorf(crier.CodeInternal, "a message from another node is of a kind that is not known: this node is older than the sender")
	}
	return nil, unreadable(errIncomplete)
}

func unreadable(err error) error {
	return &crier.Error{Code: crier.CodeInternal, Info: "a message from another node can't be read", Err: err}
}

// fromError returns the protobuf form; nil for nil. The cause stays behind, but for crier.ErrCampaignGap.
func fromError(err error) *actorv1.Error {
	if err == nil {
		return nil
	}
	gap := errors.Is(err, crier.ErrCampaignGap)
	e, coded := errors.AsType[*crier.Error](err)
	if gap && !coded {
		return &actorv1.Error{CampaignGap: true}
	}
	if !coded {
		e = crier.AsError(err)
	}
	return &actorv1.Error{Code: int32(e.Code), Info: strings.ToValidUTF8(e.Info, "\uFFFD"), CampaignGap: gap}
}

// toError returns the error; nil for nil.
func toError(p *actorv1.Error) error {
	switch {
	case p == nil:
		return nil
	case p.GetCampaignGap() && p.GetCode() == 0:
		return crier.ErrCampaignGap
	}
	e := &crier.Error{Code: crier.Code(p.GetCode()), Info: p.GetInfo()}
	if p.GetCampaignGap() {
		e.Err = crier.ErrCampaignGap
	}
	return e
}

func fromPID(pid *actor.PID) *actorv1.Pid {
	if pid == nil {
		return nil
	}
	return &actorv1.Pid{Address: pid.Address, Id: pid.Id, RequestId: pid.RequestId}
}

func toPID(p *actorv1.Pid) (*actor.PID, error) {
	if p == nil {
		return nil, errIncomplete
	}
	return &actor.PID{Address: p.GetAddress(), Id: p.GetId(), RequestId: p.GetRequestId()}, nil
}

// texts and fromTexts convert lists of names; nil stays nil.
func texts[T ~string](in []string) []T {
	var out []T
	for _, s := range in {
		out = append(out, T(s))
	}
	return out
}

func fromTexts[T ~string](in []T) []string {
	var out []string
	for _, s := range in {
		out = append(out, string(s))
	}
	return out
}
