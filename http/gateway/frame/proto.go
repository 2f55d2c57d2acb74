package frame

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	gatewayv1 "github.com/crier-im/crier/proto/crier/gateway/v1"
)

// protoCodec writes a frame as a crier.gateway.v1.ClientFrame or ServerFrame.
type protoCodec struct{}

func (protoCodec) Subprotocol() string { return "crier.v1.proto" }
func (protoCodec) Binary() bool        { return true }

func (protoCodec) EncodeClient(f Client) ([]byte, error) {
	p := new(gatewayv1.ClientFrame)
	switch f := f.(type) {
	case *Login:
		p.Frame = &gatewayv1.ClientFrame_Login{Login: &gatewayv1.Login{
			Sdkappid: uint32(f.SDKAppID), Identifier: text(f.Identifier), Usersig: text(f.UserSig),
			Platform: text(f.Platform), Client: text(f.Client), Version: text(f.Version), Instance: text(f.Instance), Attempt: f.Attempt,
		}}
	case *Ack:
		p.Frame = &gatewayv1.ClientFrame_Ack{Ack: &gatewayv1.Ack{Seqs: f.Seqs, Cumulative: f.Cumulative}}
	case *Foreground:
		p.Frame = &gatewayv1.ClientFrame_Foreground{Foreground: &gatewayv1.Foreground{}}
	case *Background:
		p.Frame = &gatewayv1.ClientFrame_Background{Background: &gatewayv1.Background{Unread: f.Unread}}
	case *Ping:
		p.Frame = &gatewayv1.ClientFrame_Ping{Ping: &gatewayv1.Ping{}}
	case *RegisterDevice:
		p.Frame = &gatewayv1.ClientFrame_RegisterDevice{RegisterDevice: &gatewayv1.RegisterDevice{
			Vendor: text(f.Vendor), Token: text(f.Token), Target: text(f.Target), Sandbox: f.Sandbox, Language: text(f.Language),
		}}
	case *Logout:
		p.Frame = &gatewayv1.ClientFrame_Logout{Logout: &gatewayv1.Logout{}}
	}
	return proto.Marshal(p)
}

func (protoCodec) DecodeClient(data []byte) (Client, error) {
	p := new(gatewayv1.ClientFrame)
	if err := proto.Unmarshal(data, p); err != nil {
		return nil, malformed(err)
	}
	switch f := p.GetFrame().(type) {
	case *gatewayv1.ClientFrame_Login:
		l := f.Login
		return &Login{
			SDKAppID: crier.AppID(l.GetSdkappid()), Identifier: l.GetIdentifier(), UserSig: l.GetUsersig(),
			Platform: crier.Platform(l.GetPlatform()), Client: l.GetClient(), Version: l.GetVersion(), Instance: l.GetInstance(), Attempt: l.GetAttempt(),
		}, nil
	case *gatewayv1.ClientFrame_Ack:
		return &Ack{Seqs: f.Ack.GetSeqs(), Cumulative: f.Ack.GetCumulative()}, nil
	case *gatewayv1.ClientFrame_Foreground:
		return &Foreground{}, nil
	case *gatewayv1.ClientFrame_Background:
		return &Background{Unread: f.Background.GetUnread()}, nil
	case *gatewayv1.ClientFrame_Ping:
		return &Ping{}, nil
	case *gatewayv1.ClientFrame_RegisterDevice:
		d := f.RegisterDevice
		return &RegisterDevice{
			Vendor: crier.Vendor(d.GetVendor()), Token: d.GetToken(), Target: d.GetTarget(), Sandbox: d.GetSandbox(), Language: d.GetLanguage(),
		}, nil
	case *gatewayv1.ClientFrame_Logout:
		return &Logout{}, nil
	}
	return nil, unset(data)
}

func (protoCodec) EncodeServer(f Server) ([]byte, error) {
	p := new(gatewayv1.ServerFrame)
	switch f := f.(type) {
	case *Welcome:
		p.Frame = &gatewayv1.ServerFrame_Welcome{Welcome: &gatewayv1.Welcome{
			Session: text(f.Session), Heartbeat: f.Heartbeat, Time: f.Time,
		}}
	case *Message:
		m, err := messageToProto(f)
		if err != nil {
			return nil, err
		}
		p.Frame = &gatewayv1.ServerFrame_Message{Message: m}
	case *Pong:
		p.Frame = &gatewayv1.ServerFrame_Pong{Pong: &gatewayv1.Pong{}}
	case *Kicked:
		p.Frame = &gatewayv1.ServerFrame_Kicked{Kicked: &gatewayv1.Kicked{Reason: text(f.Reason), Text: text(f.Text)}}
	case *Error:
		p.Frame = &gatewayv1.ServerFrame_Error{Error: &gatewayv1.Error{Code: uint32(f.Code), Text: text(f.Text)}}
	case *Bye:
		p.Frame = &gatewayv1.ServerFrame_Bye{Bye: &gatewayv1.Bye{Reason: text(f.Reason), Text: text(f.Text)}}
	case *Device:
		p.Frame = &gatewayv1.ServerFrame_Device{Device: &gatewayv1.Device{Ok: f.OK, Code: uint32(f.Code), Text: text(f.Text)}}
	}
	return proto.Marshal(p)
}

func (protoCodec) DecodeServer(data []byte) (Server, error) {
	p := new(gatewayv1.ServerFrame)
	if err := proto.Unmarshal(data, p); err != nil {
		return nil, malformed(err)
	}
	switch f := p.GetFrame().(type) {
	case *gatewayv1.ServerFrame_Welcome:
		w := f.Welcome
		return &Welcome{Session: crier.SessionID(w.GetSession()), Heartbeat: w.GetHeartbeat(), Time: w.GetTime()}, nil
	case *gatewayv1.ServerFrame_Message:
		return messageFromProto(f.Message)
	case *gatewayv1.ServerFrame_Pong:
		return &Pong{}, nil
	case *gatewayv1.ServerFrame_Kicked:
		return &Kicked{Reason: crier.CloseReason(f.Kicked.GetReason()), Text: f.Kicked.GetText()}, nil
	case *gatewayv1.ServerFrame_Error:
		code, err := codeFromProto(f.Error.GetCode())
		if err != nil {
			return nil, err
		}
		return &Error{Code: code, Text: f.Error.GetText()}, nil
	case *gatewayv1.ServerFrame_Bye:
		return &Bye{Reason: crier.CloseReason(f.Bye.GetReason()), Text: f.Bye.GetText()}, nil
	case *gatewayv1.ServerFrame_Device:
		code, err := codeFromProto(f.Device.GetCode())
		if err != nil {
			return nil, err
		}
		return &Device{OK: f.Device.GetOk(), Code: code, Text: f.Device.GetText()}, nil
	}
	return nil, unset(data)
}

func codeFromProto(code uint32) (crier.Code, error) {
	if code > math.MaxInt32 {
		return 0, malformed(fmt.Errorf("code %d is out of range", code))
	}
	return crier.Code(code), nil
}

// unset tells an empty frame from one of a kind that came later than this code:
// protobuf keeps an unknown kind as an unknown field.
func unset(data []byte) error {
	if len(data) == 0 {
		return malformed(errors.New("it is empty"))
	}
	return ErrUnknownType
}

func messageToProto(m *Message) (*gatewayv1.Message, error) {
	n := m.Notification
	p := &gatewayv1.Message{
		Task: text(m.Task), Seq: m.Seq, From: text(m.From), Time: m.Time, Kept: m.Kept, Expires: m.Expires,
		Notification: &gatewayv1.Notification{Title: text(n.Title), Text: text(n.Text), Ext: text(n.Ext), Sound: text(n.Sound)},
	}
	for _, e := range m.Elements {
		if !json.Valid(e.Content) {
			return nil, fmt.Errorf("encode message: the content of a %s is not JSON", crier.Quote(string(e.Type)))
		}
		p.Elements = append(p.Elements, &gatewayv1.Element{Type: text(e.Type), Content: []byte(text(string(e.Content)))})
	}
	return p, nil
}

func messageFromProto(p *gatewayv1.Message) (*Message, error) {
	n := p.GetNotification()
	m := &Message{
		Task: crier.TaskID(p.GetTask()), Seq: p.GetSeq(), From: crier.UserID(p.GetFrom()),
		Time: p.GetTime(), Kept: p.GetKept(), Expires: p.GetExpires(),
		Notification: crier.Notification{Title: n.GetTitle(), Text: n.GetText(), Ext: n.GetExt(), Sound: n.GetSound()},
	}
	for _, e := range p.GetElements() {
		if !json.Valid(e.GetContent()) {
			return nil, malformed(errors.New("the content of an element is not JSON"))
		}
		m.Elements = append(m.Elements, crier.Element{Type: crier.ElementType(e.GetType()), Content: e.GetContent()})
	}
	return m, nil
}

// text makes valid UTF-8, which protobuf insists on: one bad byte in a message
// must not keep it from everyone.
func text[S ~string](s S) string { return strings.ToValidUTF8(string(s), "\uFFFD") }
