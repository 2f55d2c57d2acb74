package crier

import "encoding/json"

// object is a JSON object whose fields are read one by one, by exactly their names: encoding/json takes those of a struct
// in any case. A field that is absent, null or of another type reads as the zero value.
type object struct {
	name   string // for errors, as OfflinePushInfo.ApnsInfo
	fields map[string]json.RawMessage
	bad    *error // names the first field of another type; shared with the objects within
}

// readObject returns the object, one without fields where raw is none.
func readObject(name string, raw json.RawMessage) object {
	o := object{name: name, bad: new(error)}
	if len(raw) > 0 && json.Unmarshal(raw, &o.fields) != nil {
		o.wrongType("")
	}
	return o
}

func (o object) wrongType(field string) {
	if *o.bad == nil {
		*o.bad = Errorf(CodeBadOfflinePush, "%s%s has another type than documented", o.name, field)
	}
}

// read decodes a field; false: it is absent, null or of another type.
func (o object) read(field string, out any) bool {
	raw, ok := o.fields[field]
	if !ok || string(raw) == "null" {
		return false
	}
	if json.Unmarshal(raw, out) != nil {
		o.wrongType("." + field)
		return false
	}
	return true
}

func (o object) text(field string) (s string) {
	o.read(field, &s)
	return s
}

func (o object) integer(field string) *int {
	var n int
	if !o.read(field, &n) {
		return nil
	}
	return &n
}

func (o object) object(field string) object {
	in := object{name: o.name + "." + field, bad: o.bad}
	o.read(field, &in.fields)
	return in
}

// list returns the objects of a list. An element of another type is one without fields.
func (o object) list(field string) []object {
	var all []map[string]json.RawMessage
	o.read(field, &all)
	list := make([]object, len(all))
	for i, fields := range all {
		list[i] = object{name: o.name + "." + field, fields: fields, bad: o.bad}
	}
	return list
}
