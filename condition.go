package crier

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// ConditionSpec is the audience of a push as a caller writes it: attributes by
// name. The zero value stands for every account.
type ConditionSpec struct {
	TagsOr, TagsAnd, TagsNot []string
	AttrsOr, AttrsAnd        map[string]string
}

// AttrTerm holds for an account whose value in Slot equals Value, byte for byte.
type AttrTerm struct {
	Slot  int
	Value string
}

// Condition is the audience of a push, checked and with attribute names
// resolved to slots, so that renaming an attribute does not change the audience of
// a push that was accepted before. Every field that is not empty must hold. The
// zero value matches every account.
type Condition struct {
	TagsOr   []string   // has any of them
	TagsAnd  []string   // has all of them
	TagsNot  []string   // has none of them
	AttrsOr  []AttrTerm // any of them holds
	AttrsAnd []AttrTerm // all of them hold
}

// ParseCondition checks spec against the contract and the app's attribute names.
// Errors carry CodeTooManyTags, CodeTagTooLong, CodeTagEmpty, CodeTagTwice,
// CodeTagBadValue, CodeBadAttr or CodeMixedCondition, and name the field. A tag given twice in one list
// counts once, after the list's length was checked.
func ParseCondition(spec ConditionSpec, names *AttrNames) (Condition, error) {
	hasTags := len(spec.TagsOr)+len(spec.TagsAnd)+len(spec.TagsNot) > 0
	hasAttrs := len(spec.AttrsOr)+len(spec.AttrsAnd) > 0
	if hasTags && hasAttrs {
		return Condition{}, Errorf(CodeMixedCondition, "Condition has tags and attributes; it can have only one kind")
	}
	var c Condition
	var err error
	for _, f := range []struct {
		name string
		in   []string
		out  *[]string
	}{{"TagsOr", spec.TagsOr, &c.TagsOr}, {"TagsAnd", spec.TagsAnd, &c.TagsAnd}, {"TagsNot", spec.TagsNot, &c.TagsNot}} {
		if *f.out, err = parseTags(f.name, f.in); err != nil {
			return Condition{}, err
		}
	}
	for _, t := range c.TagsAnd {
		if slices.Contains(c.TagsOr, t) {
			return Condition{}, Errorf(CodeTagTwice, "tag %s stands in TagsOr and in TagsAnd", Quote(t))
		}
	}
	if c.AttrsOr, err = parseTerms("AttrsOr", spec.AttrsOr, names); err != nil {
		return Condition{}, err
	}
	if c.AttrsAnd, err = parseTerms("AttrsAnd", spec.AttrsAnd, names); err != nil {
		return Condition{}, err
	}
	return c, nil
}

func parseTags(field string, tags []string) ([]string, error) {
	if len(tags) > MaxConditionTags {
		return nil, Errorf(CodeTooManyTags, "Condition.%s has %d tags, the limit is %d", field, len(tags), MaxConditionTags)
	}
	for i, t := range tags {
		if err := CheckTag(t); err != nil {
			return nil, Errorf(AsError(err).Code, "Condition.%s[%d]: %s", field, i, AsError(err).Info)
		}
	}
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

func parseTerms(field string, attrs map[string]string, names *AttrNames) ([]AttrTerm, error) {
	var terms []AttrTerm
	for name, value := range attrs {
		slot, ok := names.Slot(name)
		if !ok {
			return nil, Errorf(CodeBadAttr, "Condition.%s: the app has not set an attribute %s", field, Quote(name))
		}
		if err := CheckName(value); err != nil {
			return nil, Errorf(CodeBadAttr, "Condition.%s: the value of %s %s", field, Quote(name), err)
		}
		terms = append(terms, AttrTerm{Slot: slot, Value: value})
	}
	slices.SortFunc(terms, func(a, b AttrTerm) int { return cmp.Compare(a.Slot, b.Slot) })
	return terms, nil
}

// CheckTag checks one tag. Errors carry CodeTagEmpty, CodeTagTooLong or
// CodeTagBadValue.
func CheckTag(t string) error {
	switch err := CheckName(t); {
	case err == nil:
		return nil
	case errors.Is(err, NameEmpty):
		return Errorf(CodeTagEmpty, "a tag is empty")
	case errors.Is(err, NameTooLong):
		return Errorf(CodeTagTooLong, "tag %s is %d bytes long, the limit is %d", Quote(t), len(t), MaxNameBytes)
	default:
		return Errorf(CodeTagBadValue, "tag %s %s", Quote(t), err)
	}
}

// IsAll reports whether the condition matches every account.
func (c *Condition) IsAll() bool {
	return len(c.TagsOr)+len(c.TagsAnd)+len(c.TagsNot)+len(c.AttrsOr)+len(c.AttrsAnd) == 0
}

// Match reports whether the account is in the audience. The audience index of
// the package persistence must agree with it (a property test holds them equal).
func (c *Condition) Match(a *Account) bool {
	holds := func(t AttrTerm) bool { return a.Attrs[t.Slot] == t.Value }
	lacks := func(t string) bool { return !a.HasTag(t) }
	switch {
	case len(c.TagsOr) > 0 && !slices.ContainsFunc(c.TagsOr, a.HasTag):
		return false
	case slices.ContainsFunc(c.TagsAnd, lacks):
		return false
	case slices.ContainsFunc(c.TagsNot, a.HasTag):
		return false
	case len(c.AttrsOr) > 0 && !slices.ContainsFunc(c.AttrsOr, holds):
		return false
	case slices.ContainsFunc(c.AttrsAnd, func(t AttrTerm) bool { return !holds(t) }):
		return false
	}
	return true
}

// Explain returns the parts of the condition that decided: those that hold where the
// account matches, those that don't where it does not. names are the app's.
func (c *Condition) Explain(a *Account, names *AttrNames) (parts []string) {
	matches := c.Match(a)
	add := func(holds bool, format string, args ...any) {
		if holds == matches {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	for _, t := range c.TagsAnd {
		add(a.HasTag(t), tagPart(a.HasTag(t)), t)
	}
	for _, t := range c.TagsNot {
		add(!a.HasTag(t), tagPart(a.HasTag(t)), t)
	}
	for _, t := range c.TagsOr {
		if has := a.HasTag(t); has || !matches && !slices.ContainsFunc(c.TagsOr, a.HasTag) {
			add(has, tagPart(has), t)
		}
	}
	holds := func(t AttrTerm) bool { return a.Attrs[t.Slot] == t.Value }
	for _, t := range c.AttrsAnd {
		add(holds(t), "attribute %s is %q", names.of(t.Slot), a.Attrs[t.Slot])
	}
	for _, t := range c.AttrsOr {
		if h := holds(t); h || !matches && !slices.ContainsFunc(c.AttrsOr, holds) {
			add(h, "attribute %s is %q", names.of(t.Slot), a.Attrs[t.Slot])
		}
	}
	if matches && len(parts) == 0 {
		parts = []string{"everyone"}
	}
	return parts
}

func tagPart(has bool) string {
	if has {
		return "tag %q"
	}
	return "no tag %q"
}

// of returns the name of a slot, or its number where the app has none.
func (n *AttrNames) of(slot int) string {
	if n != nil && n[slot] != "" {
		return n[slot]
	}
	return strconv.Itoa(slot)
}
