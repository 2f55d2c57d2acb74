package contract

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/rest"
	"github.com/crier-im/crier/usersig"
)

// good has a body for every command that must succeed for an app with the
// account a and the attribute sex.
var good = map[string]string{
	"im_get_push_report":  `{"TaskIds":["%task"]}`,
	"im_set_attr_name":    `{"AttrNames":{"0":"sex"}}`,
	"im_get_attr_name":    `{}`,
	"im_set_attr":         `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]}`,
	"im_remove_attr":      `{"UserAttrs":[{"To_Account":"a","Attrs":["sex"]}]}`,
	"im_get_attr":         `{"To_Account":["a"]}`,
	"im_add_tag":          `{"UserTags":[{"To_Account":"a","Tags":["x"]}]}`,
	"im_get_tag":          `{"To_Account":["a"]}`,
	"im_remove_tag":       `{"UserTags":[{"To_Account":"a","Tags":["x"]}]}`,
	"im_remove_all_tags":  `{"To_Account":["a"]}`,
	"querystate":          `{"To_Account":["a"]}`,
	"query_online_status": `{"To_Account":["a"]}`,
	"account_import":      `{"UserID":"a"}`,
	"multiaccount_import": `{"Accounts":["a"]}`,
	"account_check":       `{"CheckItem":[{"UserID":"a"}]}`,
	"account_delete":      `{"DeleteItem":[{"UserID":"b"}]}`,
	"kick":                `{"UserID":"a"}`,
}

// sweep calls every command under every prefix, and has it refuse who is no admin.
func sweep(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a", "b")
	task, _ := a.ok(t, "openim/im_push", `{"MsgRandom":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`)["TaskId"].(string)
	a.ok(t, "openim/im_set_attr_name", good["im_set_attr_name"])
	for _, c := range rest.Commands() {
		for i, service := range c.Services {
			path := service + "/" + c.Name
			body := strings.Replace(good[c.Name], "%task", task, 1)
			if c.Name == "im_push" {
				body = `{"MsgRandom":` + []string{"2", "3"}[i] + `,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`
			}
			if body == "" {
				t.Errorf("no good body for %s", c.Name)
			}
			a.ok(t, path, body)
			if r := a.raw(t, http.MethodPost, path, a.query("a").Encode(), body, ""); r.code() != notAdmin(service) {
				t.Errorf("%s by no admin: %v", path, r)
			}
			a.want(t, crier.CodeUnknownCommand, path+"/", body)
			a.want(t, crier.CodeUnknownCommand, service+"/"+strings.ToUpper(c.Name), body)
			a.want(t, crier.CodeUnknownCommand, strings.ToUpper(service)+"/"+c.Name, body)
		}
		a.want(t, crier.CodeUnknownCommand, "nosuch/"+c.Name, `{}`)
	}
	for _, path := range []string{
		"openim/nosuch", "openim", "openim/", "", "openim/im_push/x", "openim//im_push", "openim/kick", "im_open_login_svc/im_push", "Openim/im_push", "openim/IM_PUSH",
		"all_member_push/querystate", "other/im_push",
	} {
		a.want(t, crier.CodeUnknownCommand, path, `{}`)
	}
}

// notAdmin is the code of an identifier that is no admin.
func notAdmin(service string) crier.Code {
	if service == "im_open_login_svc" {
		return crier.CodeNotAdmin
	}
	return crier.CodeNotAppAdmin
}

// envelope is about methods, headers and the form of bodies.
func envelope(t *testing.T, s *suite) {
	a := s.newTenant(t)
	const path = "openim/im_get_attr_name"
	query := a.query(admin).Encode()
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if r := a.raw(t, method, path, query, `{}`, ""); r.code() != crier.CodeBadRequest {
			t.Errorf("%s: %v", method, r)
		}
	}
	for _, header := range []string{"", "application/x-www-form-urlencoded", "text/plain; charset=gbk", "multipart/form-data", "nonsense", "image/png"} {
		if r := a.raw(t, http.MethodPost, path, query, `{}`, header); r.code() != 0 {
			t.Errorf("Content-Type %q: %v", header, r)
		}
	}
	nested := func(n int) string {
		return `{"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	a.passes(t, path, "%s", "", " \n", "{}", `{"unknown":[1,{"x":null}]}`, " {} \n", nested(30))
	a.fails(t, crier.CodeBadJSON, path, "%s", "{", "[]", "null", "5", `"x"`, "true", "{}{}", "{} x", `{"a":1,"a":2}`, `{"x":{"a":1,"a":1}}`,
		"{\"a\":\"\xff\"}", `{"a":"\ud800"}`, `{"a":01}`, `{'a':1}`, `{"a":1,}`, "\x00", "{\"a\":\"\x00\"}", nested(40), nested(5000),
		strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 100), "{} {}",
		strings.Repeat("[", 100_000), "a=1&b=2", "\xef\xbb\xbf{}")
}

// padded returns the body with spaces after it, n bytes in all.
func padded(body string, n int) string { return body + strings.Repeat(" ", n-len(body)) }

// filled returns the body with letters in the place of %s, n bytes in all.
func filled(body string, n int) string {
	return strings.Replace(body, "%s", strings.Repeat("y", n-len(body)+len("%s")), 1)
}

// signOn is about the URL: the app, the identifier and its UserSig.
func signOn(t *testing.T, s *suite) {
	a, other := s.newTenant(t), s.newTenant(t)
	now, user := time.Now(), crier.UserID(admin)
	sign := func(key string, id crier.AppID, user crier.UserID, at time.Time) string {
		return usersig.Sign(key, id, user, at, time.Hour, nil)
	}
	valid := sign(a.key, a.id, user, now)
	for name, c := range map[string]struct {
		field, value string
		code         crier.Code
	}{
		"app missing":       {"sdkappid", "", crier.CodeMissingSDKAppID},
		"app no number":     {"sdkappid", "x", crier.CodeBadSDKAppID},
		"app zero":          {"sdkappid", "0", crier.CodeBadSDKAppID},
		"app negative":      {"sdkappid", "-1", crier.CodeBadSDKAppID},
		"app too large":     {"sdkappid", "4294967296", crier.CodeBadSDKAppID},
		"app unknown":       {"sdkappid", "4294967295", crier.CodeUnknownApp},
		"sig of letters":    {"usersig", "abc", crier.CodeSigMalformed},
		"other app":         {"sdkappid", other.id.String(), crier.CodeSigSDKAppID},
		"no identifier":     {"identifier", "", crier.CodeBadIdentifier},
		"other identifier":  {"identifier", "someone", crier.CodeSigIdentifier},
		"identifier's case": {"identifier", "Administrator", crier.CodeSigIdentifier},
		"no sig":            {"usersig", "", crier.CodeSigMissing},
		"no base64":         {"usersig", "!!!", crier.CodeSigMalformed},
		"cut":               {"usersig", valid[:len(valid)/2], crier.CodeSigMalformed},
		"long":              {"usersig", strings.Repeat("A", 10_000), crier.CodeSigMalformed},
		"other key":         {"usersig", sign(other.key, a.id, user, now), crier.CodeSigWrong},
		"expired":           {"usersig", sign(a.key, a.id, user, now.Add(-2*time.Hour)), crier.CodeSigExpired},
		"sig of other app":  {"usersig", sign(a.key, other.id, user, now), crier.CodeSigSDKAppID},
	} {
		query := a.query(admin)
		query.Set(c.field, c.value)
		forms := []string{query.Encode()}
		if c.value == "" {
			query.Del(c.field)
			forms = append(forms, query.Encode())
		}
		for _, form := range forms {
			if r := a.raw(t, http.MethodPost, "openim/im_get_attr_name", form, `{}`, ""); r.code() != c.code {
				t.Errorf("%s: %v, want %v", name, r, c.code)
			}
		}
	}
	base := "&identifier=" + admin + "&usersig="
	for name, query := range map[string]string{
		"raw":           "sdkappid=" + a.id.String() + base + valid,
		"escaped":       "sdkappid=" + a.id.String() + base + url.QueryEscape(valid),
		"star escaped":  "sdkappid=" + a.id.String() + base + strings.ReplaceAll(valid, "*", "%2a"),
		"keys' case":    "sdkAppid=" + a.id.String() + "&Identifier=" + admin + "&UserSig=" + valid + "&Random=x",
		"every case":    "SDKAppID=" + a.id.String() + "&IDENTIFIER=" + admin + "&UserSig=" + valid,
		"another order": "usersig=" + valid + "&random=99999999999&identifier=" + admin + "&contenttype=xml&sdkappid=" + a.id.String(),
	} {
		if r := a.raw(t, http.MethodPost, "openim/im_get_attr_name", query, ``, "text/plain"); r.code() != 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
	for _, query := range []string{
		a.query(admin).Encode() + "&sdkappid=" + other.id.String(), a.query(admin).Encode() + "&identifier=other", a.query(admin).Encode() + "&SDKAppID=5", "sdkappid=%zz",
	} {
		if r := a.raw(t, http.MethodPost, "openim/im_get_attr_name", query, `{}`, ""); r.code() != crier.CodeBadRequest {
			t.Errorf("%s: %v", query, r)
		}
	}
	rotated := a.operate(t, http.MethodPost, "/v1/apps/"+a.id.String()+"/rotate-key", `{"grace_seconds":3600}`)
	a.ok(t, "openim/im_get_attr_name", `{}`) // the old key, in its grace
	a.key, _ = rotated["key"].(string)
	a.ok(t, "openim/im_get_attr_name", `{}`)
}

// switches is about what the operator sets of an app.
func switches(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a")
	d := a.connect(t, "a", "Web")
	a.patch(t, `{"disabled":true}`)
	if f, ok := d.next().(*frame.Kicked); !ok || f.Reason != crier.CloseDisabled {
		t.Errorf("a session of the app got %+v", f)
	}
	a.want(t, crier.CodeAppDisabled, "openim/im_get_attr_name", `{}`)
	a.want(t, crier.CodeAppDisabled, "im_open_login_svc/kick", `{"UserID":"a"}`)
	a.patch(t, `{"disabled":false,"admins":["boss"]}`)
	a.want(t, crier.CodeNotAppAdmin, "openim/im_get_attr_name", `{}`)
	a.want(t, crier.CodeNotAdmin, "im_open_login_svc/kick", `{"UserID":"a"}`)
	a.patch(t, `{"admins":["administrator"]}`)
	a.ok(t, "openim/im_get_attr_name", `{}`)
}
