package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/crier-im/crier"
)

// depthMost bounds the nesting of a body.
const depthMost = 32

// value is one JSON value of a body, with the bytes as they came. A nil *value is an
// absent one; JSON null becomes nil too, since it counts as absent.
type value struct {
	kind byte // as jsontext.Kind: '{', '[', '"', '0', 't', 'f'
	raw  []byte
	text string            // of a string; the JSON text of a number or boolean
	list []*value          // of an array
	keys []string          // of an object, in their order
	obj  map[string]*value // of an object
}

// parseBody reads a body: one JSON object; an empty body counts as {}. Duplicate
// keys, invalid UTF-8 and deep nesting are refused. Errors carry CodeBadJSON.
func parseBody(body []byte) (*value, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return &value{kind: '{'}, nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(body)) // refuses duplicate names and invalid UTF-8 by default
	v, err := parseValue(d, 0)
	if err == nil {
		if _, more := d.ReadToken(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return nil, crier.Errorf(crier.CodeBadJSON, "the body is not JSON: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	if v == nil || v.kind != '{' {
		return nil, crier.Errorf(crier.CodeBadJSON, "the body is not a JSON object")
	}
	return v, nil
}

func parseValue(d *jsontext.Decoder, depth int) (*value, error) {
	if depth > depthMost {
		return nil, fmt.Errorf("nested deeper than %d", depthMost)
	}
	switch kind := d.PeekKind(); kind {
	case '{', '[':
		return parseContainer(d, byte(kind), depth)
	default:
		raw, err := d.ReadValue()
		if err != nil || kind == 'n' {
			return nil, err
		}
		v := &value{kind: byte(kind), raw: bytes.Clone(raw), text: string(raw)}
		if kind == '"' {
			text, err := jsontext.AppendUnquote(nil, raw)
			if err != nil {
				return nil, err
			}
			v.text = string(text)
		}
		return v, nil
	}
}

func parseContainer(d *jsontext.Decoder, kind byte, depth int) (*value, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	v := &value{kind: kind, raw: []byte{kind}}
	closing := byte(']')
	if kind == '{' {
		closing, v.obj = '}', make(map[string]*value)
	}
	for n := 0; d.PeekKind() != jsontext.Kind(closing); n++ {
		if n > 0 {
			v.raw = append(v.raw, ',')
		}
		if err := v.parseMember(d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	v.raw = append(v.raw, closing)
	return v, err
}

// parseMember reads one element of an array, or one name and value of an object.
func (v *value) parseMember(d *jsontext.Decoder, depth int) error {
	var name string
	if v.kind == '{' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name = token.String()
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return err
		}
		v.raw = append(append(v.raw, quoted...), ':')
	}
	member, err := parseValue(d, depth+1)
	if err != nil {
		return err
	}
	if member == nil {
		v.raw = append(v.raw, "null"...)
	} else {
		v.raw = append(v.raw, member.raw...)
	}
	switch {
	case v.kind == '[':
		v.list = append(v.list, member)
	case member != nil:
		v.keys, v.obj[name] = append(v.keys, name), member
	}
	return nil
}

// get returns the first field that is there under one of the names.
func (v *value) get(names ...string) *value {
	for _, name := range names {
		if f := v.obj[name]; f != nil {
			return f
		}
	}
	return nil
}

func (v *value) is(kind byte) bool { return v != nil && v.kind == kind }

// integer returns a number without a fraction; 5.0 and 5e0 are 5.
func (v *value) integer() (int64, bool) {
	if !v.is('0') {
		return 0, false
	}
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// scalar returns a string, or a number or boolean as its JSON text.
func (v *value) scalar() (string, bool) {
	if v == nil || v.kind == '{' || v.kind == '[' {
		return "", false
	}
	return v.text, true
}

// stringList returns an array of strings; ok is false for anything else. The
// keys of an object count as a list, and a single string as one of one.
func (v *value) stringList() (list []string, ok bool) {
	switch {
	case v.is('"'):
		return []string{v.text}, true
	case v.is('{'):
		return v.keys, true
	case !v.is('['):
		return nil, false
	}
	for _, e := range v.list {
		if !e.is('"') {
			return nil, false
		}
		list = append(list, e.text)
	}
	return list, true
}

// stringMap returns an object whose values are scalars. An empty list counts as an
// empty object, and absent (null) values as absent.
func (v *value) stringMap() (m map[string]string, ok bool) {
	if v.is('[') && len(v.list) == 0 {
		return map[string]string{}, true
	}
	if !v.is('{') {
		return nil, false
	}
	m = make(map[string]string, len(v.obj))
	for key, e := range v.obj {
		if m[key], ok = e.scalar(); !ok {
			return nil, false
		}
	}
	return m, true
}
