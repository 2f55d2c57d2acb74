package transport

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/crier-im/crier"
)

const (
	// maxFrame bounds a frame. Requests are cut far below it (appendBytesAtOnce): only one entry alone can come near.
	maxFrame = 64 << 20
	// readStep is how much of a long frame memory is taken for before that much of it has come: a length alone costs us nothing.
	readStep = 1 << 20
	// keptBuffer is the largest buffer that is kept for the next frame.
	keptBuffer = 64 << 10
	// frameHead is the length and the kind.
	frameHead = 5
	// requestHead is the number of the request and the group.
	requestHead = 6
)

// frame is one message on a connection.
type frame struct {
	kind kind
	lazy bool
	body []byte
}

// beginFrame writes the head of a frame, with room for its length.
func beginFrame(b []byte, k kind) []byte { return append(b, 0, 0, 0, 0, byte(k)) }

// endFrame writes the length of the frame that begins at start.
func endFrame(b []byte, start int) ([]byte, error) {
	n := len(b) - start - 4
	if n > maxFrame {
		return b[:start], ErrTooBig
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return b, nil
}

// readFrame reads one. Its body is good until the next call, but that of an append, whose
// entries keep it, is its own.
func readFrame(r *bufio.Reader, scratch *[]byte) (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxFrame {
		return frame{}, fmt.Errorf("%w: %d bytes", errMalformed, n)
	}
	f := frame{kind: kind(head[4]) &^ lazy, lazy: kind(head[4])&lazy != 0}
	var err error
	if f.kind == kindAppend || n > keptBuffer {
		f.body, err = readBody(r, nil, int(n)-1)
	} else {
		*scratch, err = readBody(r, (*scratch)[:0], int(n)-1)
		f.body = *scratch
	}
	return f, err
}

// readBody appends n bytes to b, which grows with what has come.
func readBody(r io.Reader, b []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, max(readStep, len(b)))
		b = slices.Grow(b, step)
		at := len(b)
		b = b[:at+step]
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, noEOF(err)
		}
		n -= step
	}
	return b, nil
}

// noEOF is for the end of a stream where something had to follow.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReadFull returns it bare
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendRequestHead writes what the body of a request begins with.
func appendRequestHead(b []byte, id uint32, group crier.PartitionID) []byte {
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint16(b, uint16(group))
}

// cutRequest takes the head off the body of a request.
func cutRequest(body []byte) (id uint32, group crier.PartitionID, rest []byte, err error) {
	if len(body) < requestHead {
		return 0, 0, nil, errMalformed
	}
	return binary.BigEndian.Uint32(body), crier.PartitionID(binary.BigEndian.Uint16(body[4:])), body[requestHead:], nil
}

// status says how a request went.
type status byte

const (
	statusOK      status = iota + 1
	statusFailed         // by raft, which says why
	statusNotOpen        // the group is not here, yet or any more
	statusBusy           // the group's queue is full
	statusReady          // for the bytes of a snapshot
)

// appendAnswer writes the body of an answer before its message or its text.
func appendAnswer(b []byte, id uint32, s status) []byte {
	return append(binary.BigEndian.AppendUint32(b, id), byte(s))
}

// cutAnswer takes the head off the body of an answer.
func cutAnswer(body []byte) (id uint32, s status, rest []byte, err error) {
	if len(body) < 5 {
		return 0, 0, nil, errMalformed
	}
	return binary.BigEndian.Uint32(body), status(body[4]), body[5:], nil
}

// err returns the error that a status stands for, nil for statusOK and statusReady.
func (s status) err(text []byte) error {
	switch s {
	case statusOK, statusReady:
		return nil
	case statusFailed:
		return fmt.Errorf("the other node answered: %s", text) // raft looks for words of its own in it
	case statusNotOpen:
		return errNotOpen
	case statusBusy:
		return errBusy
	}
	return fmt.Errorf("%w: status %d", errMalformed, s)
}
