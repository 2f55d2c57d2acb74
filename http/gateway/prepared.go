package gateway

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

const (
	// cachedMessages bounds the cache of prepared messages: pushes whose delivery goes
	// on at one time, in each encoding. At the default body limit of 10 KB that is 5 MB at most.
	cachedMessages = 256
	// compressFrom is the shortest payload that is worth compressing, in bytes.
	compressFrom = 512
)

// prepared keeps the messages that are being delivered as the bytes of a whole
// WebSocket frame, so that a push is encoded once and not once a connection. Safe for
// concurrent use.
type prepared struct {
	cache *lru.Cache[preparedKey, []byte]
}

type preparedKey struct {
	task     crier.TaskID // has the app in it
	binary   bool
	compress bool
}

func newPrepared() *prepared {
	cache, err := lru.New[preparedKey, []byte](cachedMessages)
	if err != nil {
		panic("gateway: " + err.Error()) // the size is positive
	}
	return &prepared{cache}
}

// message returns the frame of a delivery; nobody may change it. Two callers
// that come first together both encode, which is cheaper than a lock around it.
func (p *prepared) message(d *crier.Delivery, codec frame.Codec, compress bool) ([]byte, error) {
	key := preparedKey{d.Task, codec.Binary(), compress}
	if b, ok := p.cache.Get(key); ok {
		return b, nil
	}
	payload, err := codec.EncodeServer(frame.NewMessage(d))
	if err != nil {
		return nil, err
	}
	b, err := dataFrame(codec, payload, compress)
	if err != nil {
		return nil, err
	}
	if d.Task != "" {
		p.cache.Add(key, b)
	}
	return b, nil
}

// The opcodes of RFC 6455 that the server writes.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPong   = 0xA

	bitFin        = 0x80
	bitCompressed = 0x40 // RSV1, RFC 7692
)

// dataFrame returns the WebSocket message with the payload of a codec.
func dataFrame(codec frame.Codec, payload []byte, compress bool) ([]byte, error) {
	first := byte(bitFin | opText)
	if codec.Binary() {
		first = bitFin | opBinary
	}
	if compress && len(payload) >= compressFrom {
		packed, err := deflated(payload)
		if err != nil {
			return nil, err
		}
		return wsFrame(first|bitCompressed, packed), nil
	}
	return wsFrame(first, payload), nil
}

// wsFrame puts the header of RFC 6455, 5.2 before a payload. A server does not mask.
func wsFrame(first byte, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+10)
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, 127), uint64(n))
	}
	return append(b, payload...)
}

// closeFrame returns a close frame; code 0 is one without a status. The reason is at most 123 bytes.
func closeFrame(code uint16, reason string) []byte {
	if code == 0 {
		return wsFrame(bitFin|opClose, nil)
	}
	return wsFrame(bitFin|opClose, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

// deflated compresses a message by itself: without the end of the block, as RFC 7692, 7.2.1 has it.
func deflated(payload []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if _, err := w.Write(payload); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff}), nil
}
