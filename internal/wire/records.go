package wire

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// What each change of an account reads and writes is encoded here by hand, to the same bytes as by the generated code, which takes four times as
// long and allocates a message for each: a record of an account in the state, and a ChangeBatch in the log.

// Numbers of fields in types.proto and log.proto.
const (
	accountOrdinal, accountNick, accountFace, accountAttrs, accountTags   = 1, 2, 3, 4, 5
	accountCreated, accountNotBefore, accountUser                         = 6, 7, 8
	accountDevices, accountChanged                                        = 9, 10
	changeOp, changeUser, changeNick, changeFace, changeAttrs, changeTags = 1, 2, 3, 4, 5, 6
	changeMaxTags, changeDevice, changeMaxDevices, changeSigTime          = 7, 8, 9, 10
	callApp, callChanges, callID                                          = 1, 2, 3
	idOrigin, idNumber, idOldest                                          = 1, 2, 3
	batchCalls                                                            = 1
)

// Numbers of fields of a crier.log.v1.Command.
const (
	commandVersion, commandTime, commandChangeBatch = 1, 2, 3
)

var errRecord = errors.New("not a protobuf message of this kind")

// AppendAccount appends an account as a crier.types.v1.Account without its name.
func AppendAccount(b []byte, a *crier.Account) []byte {
	b = appendNumber(b, accountOrdinal, uint64(a.Ordinal))
	b = appendText(b, accountNick, a.Profile.Nick)
	b = appendText(b, accountFace, a.Profile.FaceURL)
	b = appendAttrs(b, accountAttrs, &a.Attrs)
	b = appendTexts(b, accountTags, a.Tags)
	b = appendNumber(b, accountCreated, uint64(fromTime(a.Created)))
	if !a.NotBefore.IsZero() {
		b = appendNumber(b, accountNotBefore, uint64(a.NotBefore.Unix()))
	}
	for i := range a.Devices {
		b = appendMessage(b, accountDevices, FromDevice(&a.Devices[i]))
	}
	return appendNumber(b, accountChanged, uint64(fromTime(a.Changed)))
}

// ParseAccount reads an account of an app.
func ParseAccount(app crier.AppID, user crier.UserID, record []byte) (*crier.Account, error) {
	a := &crier.Account{App: app, User: user}
	slot := 0
	err := fields(string(record), func(field protowire.Number, n uint64, s string) error {
		switch field {
		case accountOrdinal:
			a.Ordinal = uint32(n)
		case accountNick:
			a.Profile.Nick = s
		case accountFace:
			a.Profile.FaceURL = s
		case accountAttrs:
			slot = setAttr(&a.Attrs, slot, s)
		case accountTags:
			a.Tags = append(a.Tags, s)
		case accountCreated:
			a.Created = toTime(int64(n))
		case accountNotBefore:
			a.NotBefore = time.Unix(int64(n), 0).UTC()
		case accountDevices:
			d, err := parseDevice(s)
			if err != nil {
				return err
			}
			a.Devices = append(a.Devices, *d)
		case accountChanged:
			a.Changed = toTime(int64(n))
		}
		return nil
	})
	return a, err
}

// ChangeCommand is a crier.log.v1.Command with a ChangeBatch.
type ChangeCommand struct {
	Version uint32
	TimeMs  int64
	Calls   []crier.AccountChanges
}

// Append appends the command.
func (c *ChangeCommand) Append(b []byte) []byte {
	changes := 0
	for i := range c.Calls {
		changes += len(c.Calls[i].Changes)
	}
	const envelope, perCall, perChange = 32, 64, 64 // bytes of most
	batch := appendChangeBatch(make([]byte, 0, perCall*len(c.Calls)+perChange*changes), c.Calls)
	b = appendNumber(slices.Grow(b, envelope+len(batch)), commandVersion, uint64(c.Version))
	b = appendNumber(b, commandTime, uint64(c.TimeMs))
	return appendBytes(b, commandChangeBatch, batch)
}

// ParseChangeCommand reads a command; nil for one that is not a ChangeBatch.
func ParseChangeCommand(command []byte) (*ChangeCommand, error) {
	var c ChangeCommand
	var batch string
	found := false
	err := fields(string(command), func(field protowire.Number, n uint64, s string) error {
		switch field {
		case commandVersion:
			c.Version = uint32(n)
		case commandTime:
			c.TimeMs = int64(n)
		case commandChangeBatch:
			batch, found = s, true
		}
		return nil
	})
	if err != nil || !found {
		return nil, err
	}
	c.Calls, err = parseChangeBatch(batch)
	return &c, err
}

func appendChangeBatch(b []byte, calls []crier.AccountChanges) []byte {
	call, inner := make([]byte, 0, 256), make([]byte, 0, 128)
	for i := range calls {
		c := &calls[i]
		call = appendNumber(call[:0], callApp, uint64(c.App))
		for j := range c.Changes {
			inner = appendChange(inner[:0], &c.Changes[j])
			call = appendBytes(call, callChanges, inner)
		}
		if c.ID != (crier.CommandID{}) {
			call = appendBytes(call, callID, appendCommandID(inner[:0], c.ID))
		}
		b = appendBytes(b, batchCalls, call)
	}
	return b
}

func parseChangeBatch(batch string) ([]crier.AccountChanges, error) {
	calls := make([]crier.AccountChanges, 0, count(batch, batchCalls))
	err := fields(batch, func(field protowire.Number, _ uint64, s string) error {
		if field != batchCalls {
			return nil
		}
		call := crier.AccountChanges{Changes: make([]crier.Change, 0, count(s, callChanges))}
		err := fields(s, func(field protowire.Number, n uint64, s string) (err error) {
			switch field {
			case callApp:
				call.App = crier.AppID(n)
			case callChanges:
				call.Changes = append(call.Changes, crier.Change{})
				err = parseChange(&call.Changes[len(call.Changes)-1], s)
			case callID:
				call.ID, err = parseCommandID(s)
			}
			return err
		})
		calls = append(calls, call)
		return err
	})
	return calls, err
}

func appendChange(b []byte, c *crier.Change) []byte {
	b = appendNumber(b, changeOp, uint64(c.Op))
	b = appendText(b, changeUser, string(c.User))
	b = appendText(b, changeNick, c.Profile.Nick)
	b = appendText(b, changeFace, c.Profile.FaceURL)
	b = appendAttrs(b, changeAttrs, &c.Attrs)
	b = appendTexts(b, changeTags, c.Tags)
	b = appendNumber(b, changeMaxTags, uint64(uint32(c.MaxTags)))
	if c.Device != nil {
		b = appendMessage(b, changeDevice, FromDevice(c.Device))
	}
	b = appendNumber(b, changeMaxDevices, uint64(uint32(c.MaxDevices)))
	return appendNumber(b, changeSigTime, uint64(fromTime(c.SigTime)))
}

func parseChange(c *crier.Change, message string) error {
	slot := 0
	return fields(message, func(field protowire.Number, n uint64, s string) (err error) {
		switch field {
		case changeOp:
			c.Op = crier.ChangeOp(n)
		case changeUser:
			c.User = crier.UserID(s)
		case changeNick:
			c.Profile.Nick = s
		case changeFace:
			c.Profile.FaceURL = s
		case changeAttrs:
			slot = setAttr(&c.Attrs, slot, s)
		case changeTags:
			c.Tags = append(c.Tags, s)
		case changeMaxTags:
			c.MaxTags = int(uint32(n))
		case changeDevice:
			c.Device, err = parseDevice(s)
		case changeMaxDevices:
			c.MaxDevices = int(uint32(n))
		case changeSigTime:
			c.SigTime = toTime(int64(n))
		}
		return err
	})
}

func appendCommandID(b []byte, id crier.CommandID) []byte {
	if id.Origin != 0 {
		b = protowire.AppendFixed64(protowire.AppendTag(b, idOrigin, protowire.Fixed64Type), id.Origin)
	}
	return appendNumber(appendNumber(b, idNumber, id.Number), idOldest, id.Oldest)
}

func parseCommandID(message string) (id crier.CommandID, err error) {
	err = fields(message, func(field protowire.Number, n uint64, _ string) error {
		switch field {
		case idOrigin:
			id.Origin = n
		case idNumber:
			id.Number = n
		case idOldest:
			id.Oldest = n
		}
		return nil
	})
	return id, err
}

func parseDevice(message string) (*crier.Device, error) {
	var p typesv1.Device
	if err := proto.Unmarshal([]byte(message), &p); err != nil {
		return nil, err
	}
	return ToDevice(&p), nil
}

// setAttr puts the next value of a list into its slot, and returns the slot after it. What is over is left out.
func setAttr(attrs *crier.Attrs, slot int, value string) int {
	if slot < len(attrs) {
		attrs[slot] = value
	}
	return slot + 1
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendTexts(b []byte, field protowire.Number, list []string) []byte {
	for _, s := range list {
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	return b
}

// appendAttrs appends the values up to the last one that is not empty.
func appendAttrs(b []byte, field protowire.Number, attrs *crier.Attrs) []byte {
	n := len(attrs)
	for n > 0 && attrs[n-1] == "" {
		n--
	}
	return appendTexts(b, field, attrs[:n])
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendMessage(b []byte, field protowire.Number, m proto.Message) []byte {
	v, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("wire: " + err.Error()) // only invalid UTF-8, which the vocabulary refuses
	}
	return appendBytes(b, field, v)
}

// fields calls take with each field of a message in turn: with its number, or with the bytes of a text or a message. The texts are
// parts of the message, so that it takes one allocation for all of them.
func fields(message string, take func(field protowire.Number, n uint64, s string) error) error {
	for len(message) > 0 {
		tag, size := uvarint(message)
		if size <= 0 {
			return errRecord
		}
		message = message[size:]
		field, kind := protowire.DecodeTag(tag)
		var n uint64
		var s string
		switch kind {
		case protowire.VarintType:
			n, size = uvarint(message)
		case protowire.BytesType:
			var length uint64
			if length, size = uvarint(message); size > 0 && length <= uint64(len(message)-size) {
				s = message[size : size+int(length)]
				size += int(length)
			} else {
				size = 0
			}
		case protowire.Fixed64Type:
			n, size = fixed64(message)
		case protowire.Fixed32Type: // none of ours, yet
			size = min(4, len(message)-3)
		default:
			size = 0
		}
		if size <= 0 || field < 1 {
			return errRecord
		}
		message = message[size:]
		if err := take(field, n, s); err != nil {
			return err
		}
	}
	return nil
}

// count returns how many fields of a number a message has.
func count(message string, of protowire.Number) (n int) {
	_ = fields(message, func(field protowire.Number, _ uint64, _ string) error {
		if field == of {
			n++
		}
		return nil
	})
	return n
}

// uvarint is binary.Uvarint of a string.
func uvarint(s string) (n uint64, size int) {
	for i := 0; i < len(s) && i < 10; i++ {
		b := s[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if i == 9 && b > 1 {
				return 0, 0
			}
			return n, i + 1
		}
	}
	return 0, 0
}

func fixed64(s string) (n uint64, size int) {
	if len(s) < 8 {
		return 0, 0
	}
	for i := range 8 {
		n |= uint64(s[i]) << (8 * i)
	}
	return n, 8
}
