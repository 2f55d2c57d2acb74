package contract

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/rest"
	"github.com/crier-im/crier/usersig"
)

// ofNothing is the code of a body without fields, 0 where that is a good call.
var ofNothing = map[string]crier.Code{
	"im_push": crier.CodeBadMsgRandom, "im_get_push_report": crier.CodeNoTasks, "im_set_attr_name": crier.CodeBadAttr, "im_get_attr_name": 0,
	"im_set_attr": crier.CodeBadAccountCount, "im_remove_attr": crier.CodeBadAccountCount, "im_get_attr": crier.CodeBadAccountCount,
	"im_add_tag": crier.CodeBadAccountCount, "im_get_tag": crier.CodeBadAccountCount, "im_remove_tag": crier.CodeBadAccountCount,
	"im_remove_all_tags": crier.CodeBadAccountCount, "querystate": crier.CodeNoToAccount, "query_online_status": crier.CodeNoToAccount,
	"account_import": crier.CodeBadParameter, "multiaccount_import": crier.CodeBadParameter, "account_check": crier.CodeBadParameter,
	"account_delete": crier.CodeBadParameter, "kick": crier.CodeBadParameter,
}

// badInput gives every command, under every prefix, what no command takes, and every field with
// a name what no name is; at the end nothing has changed.
func badInput(t *testing.T, s *suite) {
	a, other := s.newTenant(t), s.newTenant(t)
	a.accounts(t, "a", "b")
	a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
	a.ok(t, "openim/im_set_attr", `{"To_Account":"a","Attrs":{"sex":"m"}}`)
	a.ok(t, "openim/im_add_tag", `{"To_Account":"a","Tags":["x"]}`)
	a.limit(t, "body_bytes", 11<<10)
	state := func() string {
		return encode([]any{
			a.ok(t, "openim/im_get_attr_name", `{}`), a.ok(t, "openim/im_get_attr", `{"To_Account":["a","b"]}`), a.ok(t, "openim/im_get_tag", `{"To_Account":["a","b"]}`),
			a.ok(t, login+"account_check", `{"CheckItem":["a","b","a\u0301","A","x"]}`),
		})
	}
	before := state()
	for _, c := range rest.Commands() {
		for _, service := range c.Services {
			path := service + "/" + c.Name
			t.Run(path, func(t *testing.T) {
				a.badBodies(t, path, c.Name)
				a.badCallers(t, path, other)
			})
		}
	}
	a.badNames(t)
	a.bombs(t)
	if after := state(); after != before {
		t.Errorf("bad input has changed\n%s to\n%s", before, after)
	}
}

// badBodies are about the body and the method.
func (a *tenant) badBodies(t *testing.T, path, command string) {
	query := a.query(admin).Encode()
	nothing, known := ofNothing[command]
	if !known {
		t.Fatalf("what a body without fields means to %s is not written down", command)
	}
	for name, body := range map[string]io.Reader{
		"no body": nil, "empty body": strings.NewReader(""), "empty body in chunks": io.MultiReader(strings.NewReader("")), "body of spaces": strings.NewReader(" \r\n\t"),
		"no fields": strings.NewReader("{}"), "unknown field": strings.NewReader(`{"unknown":{"MsgRandom":1}}`), "unknown field null": strings.NewReader(`{"unknown":null}`),
	} {
		t.Run(name, func(t *testing.T) {
			if r := a.send(t, http.MethodPost, path, query, body, "application/json"); r.code() != nothing {
				t.Errorf("%v, want %v", r, nothing)
			}
		})
	}
	deep := func(n int) string { return strings.Repeat(`{"a":[`, n) + strings.Repeat("]}", n) }
	for name, body := range map[string]string{
		"broken off": `{"To_Account":["a"`, "no JSON": "To_Account=a", "a list": `[{"To_Account":"a"}]`, "null": "null", "a string": `"a"`, "a number": "1",
		"two objects": "{}{}", "duplicate keys": `{"To_Account":["a"],"To_Account":["b"]}`, "duplicate keys, one null": `{"To_Account":["a"],"To_Account":null}`,
		"duplicate keys, one escaped": `{"To_Account":["a"],"To_\u0041ccount":["b"]}`, "duplicate keys within": `{"x":[{"y":1,"y":1}]}`,
		"nested 34 deep": deep(17), "nested 2000 deep": deep(1000), "opened 10000 times": strings.Repeat("[", 10_000),
		"invalid UTF-8 in a value": "{\"To_Account\":[\"\xff\"]}", "invalid UTF-8 in a key": "{\"\xc3\x28\":1}", "half a surrogate pair": `{"x":"\ud83d"}`,
		"overlong UTF-8": "{\"x\":\"\xc0\xaf\"}", "NUL between": "{\x00}", "NUL in a string": "{\"x\":\"\x00\"}", "a byte order mark": "\xef\xbb\xbf{}", "UTF-16": "{\x00}\x00",
		"a comment": "{/* */}", "a trailing comma": `{"x":1,}`, "NaN": `{"x":NaN}`, "single quotes": `{'x':1}`,
	} {
		t.Run(name, func(t *testing.T) { a.want(t, crier.CodeBadJSON, path, body) })
	}
	t.Run("11 KB and a byte", func(t *testing.T) {
		code := crier.CodeBodyTooLarge
		if command == "im_push" {
			code = crier.CodePushBodyTooLarge
		}
		a.want(t, code, path, filled(`{"x":"%s"}`, 11<<10+1))
	})
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		t.Run(method, func(t *testing.T) {
			if r := a.raw(t, method, path, query, `{}`, ""); r.code() != crier.CodeBadRequest {
				t.Errorf("%v", r)
			}
		})
	}
}

// badCallers are about who calls.
func (a *tenant) badCallers(t *testing.T, path string, other *tenant) {
	now, user := time.Now(), crier.UserID(admin)
	sign := func(key string, id crier.AppID, user crier.UserID, at time.Time) string {
		return usersig.Sign(key, id, user, at, time.Hour, nil)
	}
	for name, c := range map[string]struct {
		change func(url.Values)
		code   crier.Code
	}{
		"no app":           {func(q url.Values) { q.Del("sdkappid") }, crier.CodeMissingSDKAppID},
		"app no number":    {func(q url.Values) { q.Set("sdkappid", "1e3") }, crier.CodeBadSDKAppID},
		"unknown app":      {func(q url.Values) { q.Set("sdkappid", "4294967295") }, crier.CodeUnknownApp},
		"other app":        {func(q url.Values) { q.Set("sdkappid", other.id.String()) }, crier.CodeSigSDKAppID},
		"other app's sig":  {func(q url.Values) { q.Set("usersig", sign(other.key, other.id, user, now)) }, crier.CodeSigSDKAppID},
		"no sig":           {func(q url.Values) { q.Del("usersig") }, crier.CodeSigMissing},
		"malformed sig":    {func(q url.Values) { q.Set("usersig", "eJw!") }, crier.CodeSigMalformed},
		"wrong key":        {func(q url.Values) { q.Set("usersig", sign(other.key, a.id, user, now)) }, crier.CodeSigWrong},
		"expired":          {func(q url.Values) { q.Set("usersig", sign(a.key, a.id, user, now.Add(-time.Hour-time.Second))) }, crier.CodeSigExpired},
		"other identifier": {func(q url.Values) { q.Set("identifier", "a") }, crier.CodeSigIdentifier},
		"no identifier":    {func(q url.Values) { q.Del("identifier") }, crier.CodeBadIdentifier},
		"parameter twice":  {func(q url.Values) { q.Add("usersig", q.Get("usersig")) }, crier.CodeBadRequest},
		"no admin": {func(q url.Values) {
			q.Set("identifier", "a")
			q.Set("usersig", sign(a.key, a.id, "a", now))
		}, notAdmin(path[:strings.Index(path, "/")])},
	} {
		t.Run(name, func(t *testing.T) {
			query := a.query(admin)
			c.change(query)
			if r := a.raw(t, http.MethodPost, path, query.Encode(), `{}`, ""); r.code() != c.code {
				t.Errorf("%v, want %v", r, c.code)
			}
		})
	}
}

// badNames puts NUL and the like where names stand.
func (a *tenant) badNames(t *testing.T) {
	for name, of := range map[string]struct {
		path, body string // %s stands for a name
		nul        crier.Code
	}{
		"From_Account":              {push, `{"MsgRandom":1,"MsgBody":` + hello + `,"From_Account":%s}`, crier.CodeBadAccount},
		"a tag of TagsOr":           {push, `{"MsgRandom":1,"MsgBody":` + hello + `,"Condition":{"TagsOr":[%s]}}`, crier.CodeTagBadValue},
		"a tag of TagsAnd":          {push, `{"MsgRandom":1,"MsgBody":` + hello + `,"Condition":{"TagsAnd":[%s]}}`, crier.CodeTagBadValue},
		"a tag of TagsNot":          {push, `{"MsgRandom":1,"MsgBody":` + hello + `,"Condition":{"TagsNot":[%s]}}`, crier.CodeTagBadValue},
		"a name of AttrsOr":         {push, `{"MsgRandom":1,"MsgBody":` + hello + `,"Condition":{"AttrsOr":{%s:"m"}}}`, crier.CodeBadAttr},
		"a value of AttrsAnd":       {push, `{"MsgRandom":1,"MsgBody":` + hello + `,"Condition":{"AttrsAnd":{"sex":%s}}}`, crier.CodeBadAttr},
		"MsgType":                   {push, `{"MsgRandom":1,"MsgBody":[{"MsgType":%s,"MsgContent":{}}]}`, crier.CodeBadElement},
		"a TaskId":                  {"openim/im_get_push_report", `{"TaskIds":[%s]}`, crier.CodeUnknownTask},
		"an attribute name":         {"openim/im_set_attr_name", `{"AttrNames":{"1":%s}}`, crier.CodeBadAttr},
		"a slot":                    {"openim/im_set_attr_name", `{"AttrNames":{%s:"x"}}`, crier.CodeBadAttr},
		"im_set_attr's account":     {"openim/im_set_attr", `{"UserAttrs":[{"To_Account":%s,"Attrs":{"sex":"f"}}]}`, crier.CodeBadAccount},
		"im_set_attr's name":        {"openim/im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{%s:"f"}}]}`, crier.CodeBadAttr},
		"im_set_attr's value":       {"openim/im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":%s}}]}`, crier.CodeBadAttr},
		"im_remove_attr's account":  {"openim/im_remove_attr", `{"UserAttrs":[{"To_Account":%s,"Attrs":["sex"]}]}`, crier.CodeBadAccount},
		"im_remove_attr's name":     {"openim/im_remove_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":["sex",%s]}]}`, crier.CodeBadAttr},
		"im_get_attr's account":     {"openim/im_get_attr", `{"To_Account":[%s]}`, crier.CodeBadAccount},
		"im_add_tag's account":      {"openim/im_add_tag", `{"UserTags":[{"To_Account":%s,"Tags":["y"]}]}`, crier.CodeBadAccount},
		"im_add_tag's tag":          {"openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["y",%s]}]}`, crier.CodeTagBadValue},
		"im_get_tag's account":      {"openim/im_get_tag", `{"To_Account":[%s]}`, crier.CodeBadAccount},
		"im_remove_tag's account":   {"openim/im_remove_tag", `{"UserTags":[{"To_Account":%s,"Tags":["x"]}]}`, crier.CodeBadAccount},
		"im_remove_tag's tag":       {"openim/im_remove_tag", `{"UserTags":[{"To_Account":"a","Tags":["x",%s]}]}`, crier.CodeTagBadValue},
		"im_remove_all_tags":        {"openim/im_remove_all_tags", `{"To_Account":["a",%s]}`, crier.CodeBadAccount},
		"querystate":                {"openim/querystate", `{"To_Account":[%s]}`, crier.CodeBadAccount},
		"query_online_status":       {"openim/query_online_status", `{"To_Account":[%s]}`, crier.CodeBadAccount},
		"account_import":            {login + "account_import", `{"UserID":%s}`, crier.CodeBadParameter},
		"account_check":             {login + "account_check", `{"CheckItem":[{"UserID":%s}]}`, crier.CodeBadParameter},
		"account_delete":            {login + "account_delete", `{"DeleteItem":[{"UserID":"a"},{"UserID":%s}]}`, crier.CodeBadParameter},
		"kick":                      {login + "kick", `{"UserID":%s}`, crier.CodeBadParameter},
		"multiaccount_import's own": {login + "multiaccount_import", `{"Accounts":["late",%s,5]}`, crier.CodeBadParameter},
	} {
		for what, value := range map[string]string{"NUL": `"a\u0000b"`, "NUL alone": `"\u0000"`} {
			t.Run(what+" in "+name, func(t *testing.T) { a.fails(t, of.nul, of.path, of.body, value) })
		}
	}
	for name, condition := range map[string]string{
		"TagsOr and AttrsOr": `{"TagsOr":["x"],"AttrsOr":{"sex":"m"}}`, "TagsOr and AttrsAnd": `{"TagsOr":["x"],"AttrsAnd":{"sex":"m"}}`,
		"TagsAnd and AttrsOr": `{"TagsAnd":["x"],"AttrsOr":{"sex":"m"}}`, "TagsAnd and AttrsAnd": `{"TagsAnd":["x"],"AttrsAnd":{"sex":"m"}}`,
		"TagsNot and AttrsOr": `{"TagsNot":["x"],"AttrsOr":{"sex":"m"}}`, "TagsNot and AttrsAnd": `{"TagsNot":["x"],"AttrsAnd":{"sex":"m"}}`,
	} {
		t.Run("a condition that mixes "+name, func(t *testing.T) {
			a.want(t, crier.CodeMixedCondition, push, `{"MsgRandom":1,"MsgBody":`+hello+`,"Condition":`+condition+`}`)
		})
	}
}

// bomb returns a UserSig whose content inflates to so many megabytes of zeros. The stream is one block
// of a megabyte again and again, so that making it takes no time.
func bomb(t *testing.T, megabytes int) string {
	t.Helper()
	var block bytes.Buffer
	w, err := flate.NewWriter(&block, flate.BestCompression)
	if err == nil {
		_, err = w.Write(make([]byte, 1<<20))
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	stream := append([]byte{0x78, 0xda}, bytes.Repeat(block.Bytes(), megabytes)...)
	return strings.NewReplacer("+", "*", "/", "-", "=", "_").Replace(base64.StdEncoding.EncodeToString(stream))
}

// bombs sends UserSigs that inflate to megabytes and to a gigabyte. They are refused at once: within a second
// or two, and usersig has a test of the memory.
func (a *tenant) bombs(t *testing.T) {
	started := time.Now()
	t.Run("a UserSig that inflates to 5 MB", func(t *testing.T) {
		sig := bomb(t, 5)
		if len(sig) > usersig.MaxText {
			t.Fatalf("it has %d bytes", len(sig))
		}
		for range 100 {
			query := a.query(admin)
			query.Set("usersig", sig)
			if r := a.raw(t, http.MethodPost, "openim/im_get_attr_name", query.Encode(), `{}`, ""); r.code() != crier.CodeSigMalformed {
				t.Fatalf("%v", r)
			}
		}
	})
	t.Run("a UserSig that inflates to a gigabyte", func(t *testing.T) {
		query := a.query(admin)
		query.Set("usersig", bomb(t, 1024))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.target.URL+"/v4/openim/im_get_attr_name?"+query.Encode(), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := a.client.Do(req) // the URL has over a megabyte: HTTP refuses it, and may hang up before it is sent
		if err != nil {
			t.Logf("hung up: %v", err)
			return
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge && res.StatusCode != http.StatusRequestURITooLong {
			t.Errorf("status %d", res.StatusCode)
		}
	})
	if d := time.Since(started); d > 20*time.Second {
		t.Errorf("refusing bombs took %v", d)
	}
	a.ok(t, "openim/im_get_attr_name", `{}`) // and it goes on
}
