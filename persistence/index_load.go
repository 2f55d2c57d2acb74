package persistence

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of typesv1.Account that the index needs.
const (
	fieldOrdinal protowire.Number = 1
	fieldAttrs   protowire.Number = 4
	fieldTags    protowire.Number = 5
	fieldDevices protowire.Number = 9
)

// load adds an account from its record. It reads the few fields that count
// straight from the bytes: at start it is called a million times.
func (x *index) load(record []byte) error {
	var ordinal uint32
	var terms [16]term
	found, slot, devices := terms[:0], 0, false
	for b := record; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("account record: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case number == fieldDevices:
			devices = true
		case number == fieldOrdinal && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("ordinal of an account record: %w", protowire.ParseError(n))
			}
			ordinal = uint32(v)
		case (number == fieldTags || number == fieldAttrs) && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("text of an account record: %w", protowire.ParseError(n))
			}
			if number == fieldTags {
				found = append(found, tagTerm(string(v)))
			} else {
				if len(v) > 0 {
					found = append(found, attrTerm(slot, string(v)))
				}
				slot++
			}
		}
		n = protowire.ConsumeFieldValue(number, kind, b)
		if n < 0 {
			return fmt.Errorf("account record: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	x.all.Add(ordinal)
	if devices {
		x.devices.Add(ordinal)
	}
	for _, t := range found {
		x.add(t, ordinal)
	}
	return nil
}
