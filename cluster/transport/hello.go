package transport

import (
	"fmt"
	"io"
)

// version is that of the wire format; a node speaks one.
const version = 2

// magic begins every connection, so that something else that connects here is told from a node of another version.
const magic = "crier"

// maxName bounds the names in a handshake: the length of each is one byte.
const maxName = 255

// purpose says what a connection is for.
type purpose byte

const (
	forLink purpose = iota + 1
	forSnapshot
)

// hello is what the node that dials says first.
type hello struct {
	version byte
	purpose purpose
	cluster string
	from    string
	to      string // whom it wants to speak to: addresses change hands
}

func (h hello) encode() []byte {
	b := append([]byte(magic), h.version, byte(h.purpose))
	for _, name := range []string{h.cluster, h.from, h.to} {
		b = append(append(b, byte(len(name))), name...)
	}
	return b
}

// readHello reads a hello. Of another version it reads no more than that.
func readHello(r io.Reader) (h hello, err error) {
	head := make([]byte, len(magic)+2)
	if _, err := io.ReadFull(r, head); err != nil {
		return h, noEOF(err)
	}
	if string(head[:len(magic)]) != magic {
		return h, fmt.Errorf("%w: what connected is not a node of Crier", errMalformed)
	}
	h.version, h.purpose = head[len(magic)], purpose(head[len(magic)+1])
	if h.version != version {
		return h, nil
	}
	for _, name := range []*string{&h.cluster, &h.from, &h.to} {
		if *name, err = readName(r); err != nil {
			return h, err
		}
	}
	return h, nil
}

func readName(r io.Reader) (string, error) {
	var b [1 + maxName]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return "", noEOF(err)
	}
	text := b[1 : 1+int(b[0])]
	if _, err := io.ReadFull(r, text); err != nil {
		return "", noEOF(err)
	}
	return string(text), nil
}

// check returns why a node must turn the caller away.
func (h hello) check(cluster, node string) error {
	switch {
	case h.version != version:
		return fmt.Errorf("%w: node %s speaks version %d of the transport, the caller version %d", ErrRefused, node, version, h.version)
	case h.cluster != cluster:
		return fmt.Errorf("%w: node %s is of cluster %q, the caller %q is of cluster %q", ErrRefused, node, cluster, h.from, h.cluster)
	case h.to != node:
		return fmt.Errorf("%w: this is node %s, the caller %q wants node %q", ErrRefused, node, h.from, h.to)
	case h.from == node || h.from == "":
		return fmt.Errorf("%w: the caller says it is node %q, and so is this one", ErrRefused, h.from)
	case h.purpose != forLink && h.purpose != forSnapshot:
		return fmt.Errorf("%w: purpose %d is unknown", ErrRefused, h.purpose)
	}
	return nil
}

// encodeWelcome is the answer to a hello: that it is welcome, or why not.
func encodeWelcome(refused error) []byte {
	b := []byte{version, 0, 0}
	if refused != nil {
		text := refused.Error()
		text = text[:min(len(text), maxName)]
		b[1], b[2] = 1, byte(len(text))
		b = append(b, text...)
	}
	return b
}

// readWelcome returns the error with which the other node turned this one away.
func readWelcome(r io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("no answer to the handshake: %w", noEOF(err))
	}
	text, err := readName(r)
	if err != nil {
		return err
	}
	if head[1] != 0 {
		return fmt.Errorf("%w by the other node, which says: %q", ErrRefused, text)
	}
	if head[0] != version {
		return fmt.Errorf("%w: the other node speaks version %d of the transport, this one version %d", ErrRefused, head[0], version)
	}
	return nil
}
