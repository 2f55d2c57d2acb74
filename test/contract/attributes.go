package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// names is about the app's attribute names.
func names(t *testing.T, s *suite) {
	a := s.newTenant(t)
	const set, get = "openim/im_set_attr_name", "all_member_push/im_get_attr_name"
	equal(t, a.ok(t, get, `{}`), "AttrNames", `{}`)
	a.ok(t, set, `{"AttrNames":{"0":"sex","1":"city","9":null},"Extra":null}`)
	equal(t, a.ok(t, get, ``), "AttrNames", `{"0":"sex","1":"city"}`)
	a.ok(t, set, `{"AttrNames":["gender",null,"age"]}`) // a list for a map; slot 1 keeps its name
	equal(t, a.ok(t, get, `{}`), "AttrNames", `{"0":"gender","1":"city","2":"age"}`)
	a.ok(t, set, `{"AttrNames":{"0":"city","1":"gender"}}`) // in one call, names can change places
	before := `{"0":"city","1":"gender","2":"age"}`
	a.fails(t, crier.CodeBadAttr, set, `{%s}`, ``, `"AttrNames":null`, `"AttrNames":5`, `"AttrNames":"x"`, `"AttrNames":true`)
	a.fails(t, crier.CodeBadAttr, set, `{"AttrNames":{%s}}`, `"10":"x"`, `"-1":"x"`, `"00":"x"`, `"01":"x"`, `"a":"x"`, `"":"x"`, `"1.0":"x"`, `"3":5`, `"3":["x"]`,
		`"3":{}`, `"3":""`, `"3":`+text(51), `"3":"a\u0000"`, `"3":"x","4":"x"`, `"3":"city"`)
	a.fails(t, crier.CodeBadAttr, set, `{"AttrNames":%s}`, numbered("n", 11), `[5]`)
	equal(t, a.ok(t, get, `{}`), "AttrNames", before)
	a.ok(t, set, `{"AttrNames":{"3":`+text(49)+`}}`)
	a.ok(t, set, `{"AttrNames":{"3":`+text(50)+`}}`)
	a.ok(t, set, `{"AttrNames":`+numbered("n", 10)+`}`)
	a.passes(t, set, `{"AttrNames":%s}`, `{}`, `[]`)
	equal(t, a.ok(t, get, `{}`), "AttrNames", `{"0":"n0","1":"n1","2":"n2","3":"n3","4":"n4","5":"n5","6":"n6","7":"n7","8":"n8","9":"n9"}`)
}

// attributes is about the attributes of accounts.
func attributes(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a", "b")
	a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`)
	const set, remove, get = "openim/im_set_attr", "all_member_push/im_remove_attr", "openim/im_get_attr"
	holds := func(want string) {
		t.Helper()
		r := a.ok(t, get, `{"To_Account":["a","b"]}`)
		equal(t, r, "UserAttrs", want)
		equal(t, r, "Attrs", want)
	}
	holds(`[{"Attrs":{},"To_Account":"a"},{"Attrs":{},"To_Account":"b"}]`)
	a.ok(t, set, `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m","city":5}},{"To_Account":"b","Attrs":{"sex":true,"city":1.50}}]}`)
	holds(`[{"Attrs":{"city":"5","sex":"m"},"To_Account":"a"},{"Attrs":{"city":"1.50","sex":"true"},"To_Account":"b"}]`)
	a.ok(t, set, `{"Attrs":[{"To_Account":"a","Attrs":{"sex":"f"}},{"To_Account":"a","Attrs":{"sex":"x","city":null}}]}`) // in order
	a.ok(t, remove, `{"UserAttrs":[{"To_Account":"b","Attrs":["city","city"]}]}`)
	a.ok(t, remove, `{"Attrs":[{"To_Account":"b","Attrs":["city"]}]}`)
	holds(`[{"Attrs":{"city":"5","sex":"x"},"To_Account":"a"},{"Attrs":{"sex":"true"},"To_Account":"b"}]`)

	t.Run("a failed call changes nothing", func(t *testing.T) {
		for _, body := range []string{
			`{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"q"}},{"To_Account":"ghost","Attrs":{"sex":"q"}},{"To_Account":"b","Attrs":{"sex":"q"}}]}`,
			`{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"q"}},{"To_Account":"b","Attrs":{"nosuch":"q"}}]}`,
			`{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"q"}},{"To_Account":"b"}]}`,
		} {
			if r := a.call(t, set, body); r.code() == 0 || strings.Contains(body, "ghost") && !strings.Contains(fmt.Sprint(r["ErrorInfo"]), "ghost") {
				t.Errorf("%s: %v", body, r)
			}
		}
		a.want(t, crier.CodeUnknownAccount, remove, `{"UserAttrs":[{"To_Account":"a","Attrs":["sex"]},{"To_Account":"ghost","Attrs":["sex"]}]}`)
		a.want(t, crier.CodeUnknownAccount, get, `{"To_Account":["a","ghost"]}`)
		holds(`[{"Attrs":{"city":"5","sex":"x"},"To_Account":"a"},{"Attrs":{"sex":"true"},"To_Account":"b"}]`)
	})
	t.Run("liberal forms", func(t *testing.T) {
		a.passes(t, set, `%s`, `{"Attrs":[{"To_Account":"b","Attrs":{"sex":"m"}}]}`, `{"UserAttrs":[{"To_Account":"b","Attrs":[]}]}`, `{"To_Account":"b","Attrs":{"sex":true}}`,
			`{"UserAttrs":[{"To_Account":"b","Attrs":{"sex":null}}]}`, `{"UserAttrs":{"To_Account":"b","Attrs":{"sex":2}}}`)
		a.ok(t, set, `{"UserAttrs":{"To_Account":"a","Attrs":{"sex":"1"}}}`)
		a.ok(t, set, `{"To_Account":"b","Attrs":{"sex":"2"}}`)
		a.passes(t, set, `{"To_Account":"b","Attrs":%s}`, `{}`, `[]`)
		a.ok(t, remove, `{"To_Account":"a","Attrs":{"city":""}}`) // a map for the list of its keys
		a.ok(t, remove, `{"To_Account":"a","Attrs":[]}`)
		a.ok(t, remove, `{"To_Account":"a","Attrs":"city"}`)
		holds(`[{"Attrs":{"sex":"1"},"To_Account":"a"},{"Attrs":{"sex":"2"},"To_Account":"b"}]`)
		equal(t, a.ok(t, get, `{"To_Account":"b"}`), "UserAttrs", `[{"Attrs":{"sex":"2"},"To_Account":"b"}]`)
	})
	t.Run("renamed", func(t *testing.T) {
		a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"gender"}}`)
		equal(t, a.ok(t, get, `{"To_Account":["a"]}`), "UserAttrs", `[{"Attrs":{"gender":"1"},"To_Account":"a"}]`)
		a.want(t, crier.CodeBadAttr, set, `{"To_Account":"a","Attrs":{"sex":"1"}}`)
		a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
	})
	a.passes(t, set, `{"To_Account":"a","Attrs":{"sex":%s}}`, text(1), text(49), text(50), `"`+strings.Repeat("é", 25)+`"`)
	a.fails(t, crier.CodeBadAttr, set, `{"To_Account":"a","Attrs":{"sex":%s}}`, `""`, text(51), `"`+strings.Repeat("é", 25)+`x"`, `"a\u0000"`)
	a.fails(t, crier.CodeBadSetAttr, set, `{"To_Account":"a","Attrs":{"sex":%s}}`, `["m"]`, `{"x":"m"}`)
	a.fails(t, crier.CodeBadSetAttr, set, `{"To_Account":"a"%s}`, ``, `,"Attrs":null`, `,"Attrs":5`, `,"Attrs":"sex"`, `,"Attrs":["sex"]`)
	a.fails(t, crier.CodeBadRemoveAttr, remove, `{"To_Account":"a"%s}`, ``, `,"Attrs":null`, `,"Attrs":5`, `,"Attrs":[5]`, `,"Attrs":[null]`, `,"Attrs":[["sex"]]`)
	a.fails(t, crier.CodeBadAttr, set, `{"UserAttrs":[{"To_Account":"a","Attrs":%s}]}`, `{"nosuch":"1"}`, `{"":"1"}`)
	a.fails(t, crier.CodeBadAttr, remove, `{"To_Account":"a","Attrs":[%s]}`, `"nosuch"`, `""`)
	a.fails(t, crier.CodeBadSetAttr, set, `{"UserAttrs":%s}`, `5`, `"a"`, `true`, `[5]`, `["a"]`, `[null]`, `[[]]`)
	a.fails(t, crier.CodeBadRemoveAttr, remove, `{"UserAttrs":%s}`, `5`, `"a"`, `true`, `[5]`, `["a"]`, `[null]`)
	a.fails(t, crier.CodeBadSetAttr, set, `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}],"Attrs":%s}`, `[]`, `[{"To_Account":"b","Attrs":{"sex":"m"}}]`)
	a.ok(t, set, `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}],"Attrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]}`)
	a.fails(t, crier.CodeBadGetAttr, get, `{"To_Account":%s}`, `5`, `true`, `{"a":"b"}`)
	a.wrongAccounts(t, set, `{"UserAttrs":[{"To_Account":%s,"Attrs":{"sex":"m"}}]}`)
	a.wrongAccounts(t, remove, `{"UserAttrs":[{"To_Account":%s,"Attrs":["sex"]}]}`)
	a.wrongAccounts(t, get, `{"To_Account":[%s]}`)
	a.ok(t, remove, `{"UserAttrs":[{"To_Account":"a","Attrs":["sex","city"]}]}`)
	equal(t, a.ok(t, get, `{"To_Account":"a"}`), "UserAttrs", `[{"Attrs":{},"To_Account":"a"}]`)
}

// wrongAccounts calls a command with what is no account of the app in the place of %s.
func (a *tenant) wrongAccounts(t *testing.T, path, body string) {
	t.Helper()
	a.fails(t, crier.CodeUnknownAccount, path, body, `"ghost"`, text(31), text(32))
	a.noAccounts(t, path, body)
}

// noAccounts calls a command with what is no account name in the place of %s.
func (a *tenant) noAccounts(t *testing.T, path, body string) {
	t.Helper()
	a.fails(t, crier.CodeBadAccount, path, body, `""`, text(33), `null`, `"a\u0000"`, `"a\u0000b"`, `"a\n"`)
	a.fails(t, crier.CodeBadIdentifier, path, body, `5`, `true`, `["a"]`, `{"a":1}`)
}

// tags is about the tags of accounts.
func tags(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a", "b", "full")
	const add, remove, get, clean = "openim/im_add_tag", "all_member_push/im_remove_tag", "openim/im_get_tag", "openim/im_remove_all_tags"
	holds := func(want string) {
		t.Helper()
		r := a.ok(t, get, `{"To_Account":["a","b"]}`)
		equal(t, r, "UserTags", want)
		equal(t, r, "Tags", want)
	}
	holds(`[{"Tags":[],"To_Account":"a"},{"Tags":[],"To_Account":"b"}]`)
	a.ok(t, add, `{"UserTags":[{"To_Account":"a","Tags":["y","x","x"]},{"To_Account":"b","Tags":["x"]}]}`)
	a.ok(t, add, `{"Tags":[{"To_Account":"a","Tags":["x","z"]}]}`)
	a.ok(t, remove, `{"Tags":[{"To_Account":"a","Tags":["y","nosuch"]}]}`)
	holds(`[{"Tags":["x","z"],"To_Account":"a"},{"Tags":["x"],"To_Account":"b"}]`)
	for _, path := range []string{add, remove} {
		a.want(t, crier.CodeUnknownAccount, path, `{"UserTags":[{"To_Account":"a","Tags":["x","q"]},{"To_Account":"ghost","Tags":["q"]},{"To_Account":"b","Tags":["x","q"]}]}`)
		a.wrongAccounts(t, path, `{"UserTags":[{"To_Account":%s,"Tags":["q"]}]}`)
		const body = `{"UserTags":[{"To_Account":"a","Tags":%s}]}`
		a.fails(t, crier.CodeTooManyTags, path, body, numbered("t", 11))
		a.fails(t, crier.CodeTagTooLong, path, body, `["x",`+text(51)+`]`)
		a.fails(t, crier.CodeTagEmpty, path, body, `["x",""]`)
		a.fails(t, crier.CodeTagBadValue, path, body, `null`, `5`, `true`, `{"x":"y"}`, `{"x":null}`, `[5]`, `["x",null]`, `[["x"]]`, `["a\u0000"]`)
		a.fails(t, crier.CodeTagBadValue, path, `{"UserTags":%s}`, `5`, `"a"`, `true`, `[5]`, `["a"]`, `[null]`, `[{"To_Account":"a"}]`)
		a.want(t, crier.CodeTagBadValue, path, `{"UserTags":[{"To_Account":"a","Tags":["x"]}],"Tags":[{"To_Account":"b","Tags":["x"]}]}`)
	}
	for _, path := range []string{get, clean} {
		a.want(t, crier.CodeUnknownAccount, path, `{"To_Account":["a","ghost","b"]}`)
		a.wrongAccounts(t, path, `{"To_Account":[%s]}`)
		a.fails(t, crier.CodeNoToAccount, path, `{"To_Account":%s}`, `5`, `true`, `{"a":"b"}`)
	}
	holds(`[{"Tags":["x","z"],"To_Account":"a"},{"Tags":["x"],"To_Account":"b"}]`) // none of these changed anything
	a.ok(t, clean, `{"To_Account":"a"}`)
	a.ok(t, add, `{"To_Account":"b","Tags":"single"}`)
	a.ok(t, add, `{"UserTags":{"To_Account":"b","Tags":[]}}`)
	holds(`[{"Tags":[],"To_Account":"a"},{"Tags":["single","x"],"To_Account":"b"}]`)
	a.passes(t, add, `{"To_Account":"a","Tags":%s}`, `[`+text(49)+`]`, `[`+text(50)+`]`, `["标签"]`, numbered("t", 10))

	for i := range 10 {
		a.ok(t, add, `{"To_Account":"full","Tags":`+numbered(fmt.Sprint("f", i, "-"), 10)+`}`)
	}
	a.fails(t, crier.CodeAccountTagsFull, add, `{"To_Account":"full","Tags":[%s]}`, `"one"`, `"one","two"`)
	a.ok(t, remove, `{"To_Account":"full","Tags":["f0-1"]}`)
	a.fails(t, crier.CodeAccountTagsFull, add, `{"To_Account":"full","Tags":[%s]}`, `"one","two"`)
	a.ok(t, add, `{"To_Account":"full","Tags":["one"]}`)
	a.ok(t, add, `{"To_Account":"full","Tags":["one","f0-0"]}`)
	a.want(t, crier.CodeAccountTagsFull, add, `{"UserTags":[{"To_Account":"b","Tags":["new"]},{"To_Account":"full","Tags":["f0-0","new"]}]}`)
	equal(t, a.ok(t, get, `{"To_Account":["b"]}`), "Tags", `[{"Tags":["single","x"],"To_Account":"b"}]`)
	a.patch(t, `{"limits":{"tags_per_account":0,"tags_per_call":0}}`)
	a.ok(t, add, `{"To_Account":"full","Tags":`+numbered("more", 30)+`}`)
}
