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

// value is one JSON value of a body. A nil *value is an absent one; JSON null becomes nil too, since it counts as absent.
type value struct {
	kind    byte     // as jsontext.Kind: '{', '[', '"', '0', 't', 'f'
	raw     string   // its JSON, a part of the body
	text    string   // of a string; the JSON of a number or boolean
	list    []*value // of an array
	members []member // of an object, in their order, without those that are null
	nulls   []string // names of those
}

type member struct {
	name  string
	value *value
}

// parseBody reads a body: one JSON object; an empty body counts as {}. Duplicate
// keys, invalid UTF-8 and deep nesting are refused. Errors carry CodeBadJSON.
func parseBody(body []byte) (*value, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return &value{kind: '{'}, nil
	}
	p := parser{Decoder: jsontext.NewDecoder(bytes.NewBuffer(body)), body: string(body)} // refuses duplicate names and invalid UTF-8 by default
	v, err := p.value(0)
	if err == nil {
		if _, more := p.ReadToken(); !errors.Is(more, io.EOF) {
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

// parser reads the values of a body.
type parser struct {
	*jsontext.Decoder
	body string  // of which raw and nearly all texts are parts
	free []value // made together
}

// blockMost bounds how many values are made together.
const blockMost = 64

// newValue takes a value of those that were made together.
func (p *parser) newValue(kind byte) *value {
	if len(p.free) == 0 {
		p.free = make([]value, min(1+len(p.body)/32, blockMost))
	}
	v := &p.free[0]
	p.free = p.free[1:]
	v.kind = kind
	return v
}

// scalar reads a value that is no container, or a name: its JSON.
func (p *parser) scalar() (string, error) {
	raw, err := p.ReadValue()
	end := int(p.InputOffset())
	return p.body[end-len(raw) : end], err
}

func (p *parser) value(depth int) (*value, error) {
	if depth > depthMost {
		return nil, fmt.Errorf("nested deeper than %d", depthMost)
	}
	kind := p.PeekKind()
	if kind == '{' || kind == '[' {
		return p.container(byte(kind), depth)
	}
	raw, err := p.scalar()
	if err != nil || kind == 'n' {
		return nil, err
	}
	v := p.newValue(byte(kind))
	v.raw, v.text = raw, raw
	if kind == '"' {
		v.text, err = unquote(raw)
	}
	return v, err
}

// unquote returns the text of a valid JSON string.
func unquote(raw string) (string, error) {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	text, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
	return string(text), err
}

// container reads an array or an object.
func (p *parser) container(kind byte, depth int) (*value, error) {
	if _, err := p.ReadToken(); err != nil {
		return nil, err
	}
	v, start := p.newValue(kind), p.InputOffset()-1
	closing := jsontext.Kind(']')
	if kind == '{' {
		closing = '}'
	}
	for p.PeekKind() != closing {
		if err := p.member(v, depth); err != nil {
			return nil, err
		}
	}
	_, err := p.ReadToken()
	v.raw = p.body[start:p.InputOffset()]
	return v, err
}

// member reads one element of an array, or one name and value of an object.
func (p *parser) member(v *value, depth int) error {
	var name string
	if v.kind == '{' {
		raw, err := p.scalar()
		if err == nil {
			name, err = unquote(raw)
		}
		if err != nil {
			return err
		}
	}
	m, err := p.value(depth + 1)
	switch {
	case err != nil:
		return err
	case v.kind == '[':
		v.list = append(v.list, m)
	case m == nil:
		v.nulls = append(v.nulls, name)
	default:
		v.members = append(v.members, member{name, m})
	}
	return nil
}

// json returns the value as its JSON, without white space.
func (v *value) json() []byte {
	raw := jsontext.Value(v.raw)
	_ = raw.Compact() // it was read as JSON
	return raw
}

// normalJSON returns the value as JSON made anew of its parts, which may have been changed. Fields that are null are left out.
func (v *value) normalJSON() []byte { return v.appendTo(nil) }

func (v *value) appendTo(b []byte) []byte {
	switch {
	case v == nil:
		return append(b, "null"...)
	case v.kind == '[':
		b = append(b, '[')
		for i, e := range v.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.appendTo(b)
		}
		return append(b, ']')
	case v.kind == '{':
		b = append(b, '{')
		for i, m := range v.members {
			if i > 0 {
				b = append(b, ',')
			}
			b, _ = jsontext.AppendQuote(b, m.name) // it was read as JSON
			b = m.value.appendTo(append(b, ':'))
		}
		return append(b, '}')
	}
	return append(b, v.raw...)
}

// get returns the first field that is there under one of the names.
func (v *value) get(names ...string) *value {
	for _, name := range names {
		for i := range v.members {
			if v.members[i].name == name {
				return v.members[i].value
			}
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

// huge reports whether it is a number over those that integer reads exactly.
func (v *value) huge() bool {
	if !v.is('0') {
		return false
	}
	f, _ := strconv.ParseFloat(v.text, 64) // infinite for 1e999
	return f > 1<<53
}

// setInteger makes it a number in its plain form.
func (v *value) setInteger(n int64) {
	v.text = strconv.FormatInt(n, 10)
	v.raw = v.text
}

// stringList returns an array of strings; ok is false for anything else. The
// keys of an object count as a list, whatever their values, and a single string as one of one.
func (v *value) stringList() (list []string, ok bool) {
	switch {
	case v.is('"'):
		return []string{v.text}, true
	case v.is('{'):
		for _, m := range v.members {
			list = append(list, m.name)
		}
		return append(list, v.nulls...), true
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

// scalars returns the members of an object whose values are scalars, each with its text. An empty list counts as an
// empty object, and absent (null) values as absent.
func (v *value) scalars() ([]member, bool) {
	if v.is('[') && len(v.list) == 0 {
		return nil, true
	}
	if !v.is('{') {
		return nil, false
	}
	for _, m := range v.members {
		if m.value.is('{') || m.value.is('[') {
			return nil, false
		}
	}
	return v.members, true
}

// stringMap returns the same as a map, in which a null value is an empty one.
func (v *value) stringMap() (map[string]string, bool) {
	members, ok := v.scalars()
	if !ok {
		return nil, false
	}
	m := make(map[string]string, len(members)+len(v.nulls))
	for _, f := range members {
		m[f.name] = f.value.text
	}
	for _, name := range v.nulls {
		m[name] = ""
	}
	return m, true
}
