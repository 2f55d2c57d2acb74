package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/crier-im/crier"
)

// jsonCodec writes a frame as one JSON object: its fields and a "type".
type jsonCodec struct{}

func (jsonCodec) Subprotocol() string { return "crier.v1.json" }
func (jsonCodec) Binary() bool        { return false }

// clientTypes and serverTypes make the frame of each "type".
var (
	clientTypes = map[string]func() Client{
		"login":           func() Client { return new(Login) },
		"ack":             func() Client { return new(Ack) },
		"foreground":      func() Client { return new(Foreground) },
		"background":      func() Client { return new(Background) },
		"ping":            func() Client { return new(Ping) },
		"register_device": func() Client { return new(RegisterDevice) },
		"logout":          func() Client { return new(Logout) },
	}
	serverTypes = map[string]func() Server{
		"welcome": func() Server { return new(Welcome) },
		"message": func() Server { return new(Message) },
		"pong":    func() Server { return new(Pong) },
		"kicked":  func() Server { return new(Kicked) },
		"error":   func() Server { return new(Error) },
		"bye":     func() Server { return new(Bye) },
		"device":  func() Server { return new(Device) },
	}
)

func (jsonCodec) EncodeClient(f Client) ([]byte, error) { return encodeJSON(Type(f), f) }
func (jsonCodec) EncodeServer(f Server) ([]byte, error) { return encodeJSON(Type(f), f) }

func (jsonCodec) DecodeClient(data []byte) (Client, error) { return decodeJSON(data, clientTypes) }
func (jsonCodec) DecodeServer(data []byte) (Server, error) { return decodeJSON(data, serverTypes) }

// decodeJSON reads the "type" and then the whole object into the frame of that
// type. Unknown fields are ignored, so that fields can be added.
func decodeJSON[F any](data []byte, types map[string]func() F) (F, error) {
	var none F
	var head struct {
		Type string `json:"type"`
	}
	// Decoding replaces bytes that are not UTF-8, and an account name must not change on the way.
	if !utf8.Valid(data) {
		return none, malformed(errors.New("it is not UTF-8"))
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return none, malformed(err)
	}
	newFrame, ok := types[head.Type]
	switch {
	case head.Type == "":
		return none, malformed(errors.New("it has no type"))
	case !ok:
		return none, fmt.Errorf("%w %s", ErrUnknownType, crier.Quote(head.Type))
	}
	f := newFrame()
	if err := json.Unmarshal(data, f); err != nil {
		return none, malformed(err)
	}
	return f, nil
}

// encodeJSON writes the frame's own JSON with the type as its first field.
func encodeJSON(name string, f any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	fields := bytes.TrimSuffix(b.Bytes()[1:], []byte("\n")) // without the opening brace
	out := append(make([]byte, 0, len(fields)+len(name)+12), `{"type":"`+name+`"`...)
	if len(fields) > 1 {
		out = append(out, ',')
	}
	// MsgContent is copied as it was given, and JSON decoders let bytes pass that are
	// not UTF-8; a browser would drop the connection over them.
	return bytes.ToValidUTF8(append(out, fields...), []byte("\uFFFD")), nil
}

// Type returns the "type" of a frame, such as "login".
func Type(f any) string {
	switch f.(type) {
	case *Login:
		return "login"
	case *Ack:
		return "ack"
	case *Foreground:
		return "foreground"
	case *Background:
		return "background"
	case *Ping:
		return "ping"
	case *RegisterDevice:
		return "register_device"
	case *Logout:
		return "logout"
	case *Welcome:
		return "welcome"
	case *Message:
		return "message"
	case *Pong:
		return "pong"
	case *Kicked:
		return "kicked"
	case *Error:
		return "error"
	case *Bye:
		return "bye"
	case *Device:
		return "device"
	}
	return ""
}
