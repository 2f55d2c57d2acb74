package frame

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMalformed is wrapped by the error of bytes that are no frame.
var ErrMalformed = errors.New("malformed frame")

// ErrUnknownType is wrapped by the error of a frame of a kind that this side
// does not know. A client ignores such frames; the server refuses them.
var ErrUnknownType = errors.New("unknown frame type")

// Codec is one encoding of the frames. Decoders take any bytes: their errors
// wrap ErrMalformed or ErrUnknownType. Encoders fail only for a Message whose elements
// are not JSON. What encoders return is valid UTF-8 where the encoding is text. Safe for
// concurrent use.
type Codec interface {
	// Subprotocol is the name in Sec-WebSocket-Protocol.
	Subprotocol() string
	// Binary reports whether frames travel in binary WebSocket messages, else in text.
	Binary() bool
	EncodeClient(f Client) ([]byte, error)
	DecodeClient(data []byte) (Client, error)
	EncodeServer(f Server) ([]byte, error)
	DecodeServer(data []byte) (Server, error)
}

// The encodings.
var (
	JSON  Codec = jsonCodec{}
	Proto Codec = protoCodec{}
)

// Codecs returns every encoding.
func Codecs() []Codec { return []Codec{JSON, Proto} }

// Subprotocols returns the names of the encodings, for a refusal.
func Subprotocols() string {
	var names []string
	for _, c := range Codecs() {
		names = append(names, c.Subprotocol())
	}
	return strings.Join(names, ", ")
}

// ForSubprotocol returns the encoding with that name, nil where there is none.
func ForSubprotocol(name string) Codec {
	for _, c := range Codecs() {
		if c.Subprotocol() == name {
			return c
		}
	}
	return nil
}

func malformed(err error) error { return fmt.Errorf("%w: %w", ErrMalformed, err) }
