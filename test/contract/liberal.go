package contract

import (
	"fmt"
	"testing"
)

// liberal is about the forms that stand for another, each against what it must do.
func liberal(t *testing.T, s *suite) {
	const get, getTags = "openim/im_get_attr", "openim/im_get_tag"
	attrs := func(attrs string) string { return `[{"Attrs":` + attrs + `,"To_Account":"a"}]` }
	tags := func(tags string) string { return `[{"Tags":` + tags + `,"To_Account":"a"}]` }
	for name, c := range map[string]struct{ path, body, get, field, want string }{
		"a flat object for a list of entries":   {"im_set_attr", `{"To_Account":"a","Attrs":{"sex":"f"}}`, get, "Attrs", attrs(`{"city":"x","sex":"f"}`)},
		"an object for a list of entries":       {"im_set_attr", `{"UserAttrs":{"To_Account":"a","Attrs":{"sex":"f"}}}`, get, "Attrs", attrs(`{"city":"x","sex":"f"}`)},
		"the short name of the list":            {"im_set_attr", `{"Attrs":[{"To_Account":"a","Attrs":{"sex":"f"}}]}`, get, "Attrs", attrs(`{"city":"x","sex":"f"}`)},
		"the long name null, the short given":   {"im_set_attr", `{"UserAttrs":null,"Attrs":[{"To_Account":"a","Attrs":{"sex":"f"}}]}`, get, "Attrs", attrs(`{"city":"x","sex":"f"}`)},
		"a value null":                          {"im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":null,"city":"y"}}]}`, get, "Attrs", attrs(`{"city":"y","sex":"m"}`)},
		"a flat account beside the list":        {"im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"f"}}],"To_Account":"b"}`, get, "Attrs", attrs(`{"city":"x","sex":"f"}`)},
		"a flat entry beside the list":          {"im_remove_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":["sex"]}],"To_Account":"a","Attrs":["city"]}`, get, "Attrs", attrs(`{"city":"x"}`)},
		"an empty list for an empty map":        {"im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":[]}]}`, get, "Attrs", attrs(`{"city":"x","sex":"m"}`)},
		"an integer as a value":                 {"im_set_attr", `{"To_Account":"a","Attrs":{"sex":12}}`, get, "Attrs", attrs(`{"city":"x","sex":"12"}`)},
		"a fraction as a value, as it came":     {"im_set_attr", `{"To_Account":"a","Attrs":{"sex":1.50}}`, get, "Attrs", attrs(`{"city":"x","sex":"1.50"}`)},
		"a boolean as a value":                  {"im_set_attr", `{"To_Account":"a","Attrs":{"sex":false}}`, get, "Attrs", attrs(`{"city":"x","sex":"false"}`)},
		"a map for a list of names":             {"im_remove_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]}`, get, "Attrs", attrs(`{"city":"x"}`)},
		"a map of nulls for a list of names":    {"im_remove_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":null}}]}`, get, "Attrs", attrs(`{"city":"x"}`)},
		"a name for a list of names":            {"im_remove_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":"sex"}]}`, get, "Attrs", attrs(`{"city":"x"}`)},
		"a flat object, to remove":              {"im_remove_attr", `{"To_Account":"a","Attrs":["sex"]}`, get, "Attrs", attrs(`{"city":"x"}`)},
		"a list for a map of names":             {"im_set_attr_name", `{"AttrNames":["gender",null]}`, "openim/im_get_attr_name", "AttrNames", `{"0":"gender","1":"city"}`},
		"a name null":                           {"im_set_attr_name", `{"AttrNames":{"0":null,"2":"age"}}`, "openim/im_get_attr_name", "AttrNames", `{"0":"sex","1":"city","2":"age"}`},
		"a flat object of tags":                 {"im_add_tag", `{"To_Account":"a","Tags":["y"]}`, getTags, "Tags", tags(`["x","y"]`)},
		"an object for a list of tag entries":   {"im_add_tag", `{"UserTags":{"To_Account":"a","Tags":["y"]}}`, getTags, "Tags", tags(`["x","y"]`)},
		"the short name of the list of tags":    {"im_add_tag", `{"Tags":[{"To_Account":"a","Tags":["y"]}]}`, getTags, "Tags", tags(`["x","y"]`)},
		"flat accounts beside the list of tags": {"im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["y"]}],"To_Account":["a","b"]}`, getTags, "Tags", tags(`["x","y"]`)},
		"a flat entry beside the list of tags":  {"im_remove_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]}],"To_Account":"a","Tags":["z"]}`, getTags, "Tags", tags(`[]`)},
		"a tag for a list of tags":              {"im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":"y"}]}`, getTags, "Tags", tags(`["x","y"]`)},
		"an empty map for an empty list":        {"im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":{}}]}`, getTags, "Tags", tags(`["x"]`)},
		"a flat object of tags, to remove":      {"im_remove_tag", `{"To_Account":"a","Tags":["x"]}`, getTags, "Tags", tags(`[]`)},
		"an account for a list of accounts":     {"im_remove_all_tags", `{"To_Account":"a"}`, getTags, "Tags", tags(`[]`)},
		"unknown fields, null and full of them": {"im_remove_all_tags", `{"To_Account":["a"],"Extra":null,"More":{"To_Account":[1]}}`, getTags, "Tags", tags(`[]`)},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.newTenant(t)
			a.accounts(t, "a")
			a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`)
			a.ok(t, "openim/im_set_attr", `{"To_Account":"a","Attrs":{"sex":"m","city":"x"}}`)
			a.ok(t, "openim/im_add_tag", `{"To_Account":"a","Tags":["x"]}`)
			a.ok(t, "all_member_push/"+c.path, c.body)
			equal(t, a.ok(t, c.get, `{"To_Account":["a"]}`), c.field, c.want)
		})
	}
	a := s.newTenant(t)
	a.accounts(t, "a", "b")
	a.ok(t, "openim/im_add_tag", `{"To_Account":"a","Tags":["x"]}`)
	for name, body := range map[string]string{
		"an element for a list of elements":   `"MsgBody":{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}`,
		"a flat element":                      `"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}`,
		"MsgBody null, and a flat element":    `"MsgBody":null,"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}`,
		"every optional field null":           `"MsgBody":` + hello + `,"MsgLifeTime":null,"From_Account":null,"Condition":null,"OfflinePushInfo":null`,
		"empty lists for empty objects":       `"MsgBody":` + hello + `,"Condition":[],"OfflinePushInfo":[]`,
		"an empty list in Condition":          `"MsgBody":` + hello + `,"Condition":{"TagsOr":[],"AttrsOr":[],"TagsAnd":null}`,
		"an integer with a fraction of 0":     `"MsgBody":` + hello + `,"MsgLifeTime":60.0`,
		"an integer with an exponent":         `"MsgBody":` + hello + `,"MsgLifeTime":6e1`,
		"fields of other calls and of nobody": `"MsgBody":` + hello + `,"To_Account":["nobody"],"SyncOtherMachine":2`,
	} {
		t.Run(name, func(t *testing.T) {
			task, _ := a.ok(t, push, fmt.Sprintf(`{"MsgRandom":%d,%s}`, len(name)*1000+len(body), body))["TaskId"].(string)
			if r := a.done(t, task); r["Total"] != 2.0 {
				t.Errorf("%v, want 2 accounts", r)
			}
		})
	}
}
