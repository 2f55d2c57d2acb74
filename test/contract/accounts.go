package contract

import (
	"testing"

	"github.com/crier-im/crier"
)

const login = "im_open_login_svc/"

// logins is about the account commands.
func logins(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.passes(t, login+"account_import", `{%s}`, `"UserID":"new"`, `"Identifier":"old","Type":0`, `"UserID":"new","Nick":"n","FaceUrl":"u"`,
		`"UserID":"new","Nick":null`, `"UserID":`+text(32), `"UserID":"名字"`, `"UserID":"new","Nick":`+text(500))
	for _, path := range []string{"account_import", "kick"} {
		a.fails(t, crier.CodeBadParameter, login+path, `{%s}`, ``, `"UserID":null`, `"UserID":""`, `"UserID":5`, `"UserID":["a"]`, `"UserID":{}`, `"UserID":true`,
			`"UserID":`+text(33), `"UserID":"a\u0000"`, `"Identifier":5`)
		a.want(t, crier.CodeBadParameter, login+path, ``)
	}
	a.fails(t, crier.CodeBadParameter, login+"account_import", `{"UserID":"new",%s}`, `"Nick":5`, `"Nick":["x"]`, `"FaceUrl":{}`, `"Nick":`+text(501), `"FaceUrl":`+text(501))
	a.passes(t, login+"kick", `{%s}`, `"UserID":"new"`, `"Identifier":"old"`)
	a.want(t, crier.CodeAccountMissing, login+"kick", `{"UserID":"ghost"}`)
	a.imports(t)
	a.checks(t)
}

func (a *tenant) imports(t *testing.T) {
	const path = login + "multiaccount_import"
	equal(t, a.ok(t, path, `{"AccountList":[{"UserID":"m1","Nick":"n"},{"UserID":""},{"Identifier":"m2"},{"UserID":`+text(33)+`}]}`),
		"FailAccounts", `["",`+text(33)+`]`)
	equal(t, a.ok(t, path, `{"AccountList":[{"UserID":"m9","Nick":"x"},{"UserID":`+text(33)+`}]}`), "FailAccounts", `[`+text(33)+`]`)
	equal(t, a.ok(t, path, `{"Accounts":["m3","m1"]}`), "FailAccounts", `[]`)
	equal(t, a.ok(t, path, `{"Accounts":["a\u0000"]}`), "FailAccounts", `["a\u0000"]`)
	a.passes(t, path, `{%s}`, `"AccountList":{"UserID":"m4"}`, `"Accounts":"m5"`, `"UserID":"m6"`, `"AccountList":["m7",{"UserID":"m8"}]`)
	for _, field := range []string{"AccountList", "Accounts"} {
		a.fails(t, crier.CodeBadParameter, path, `{"`+field+`":%s}`, `null`, `[]`, `5`, `true`, `{}`, `[5]`, `[null]`, `[{}]`, `[["a"]]`, `[{"UserID":5}]`, `[{"UserID":"late","Nick":5}]`,
			`["late",5]`, numbered("n", 101))
		a.passes(t, path, `{"`+field+`":%s}`, numbered("n", 99), numbered("n", 100))
	}
	a.fails(t, crier.CodeBadParameter, path, `%s`, ``, `{}`, `{"AccountList":["late"],"Accounts":["later"]}`)
	equal(t, a.ok(t, login+"account_check", `{"CheckItem":["late","m1","m2","m3","m4","m5","m6","m7","m8"]}`), "ResultItem",
		`[`+item("late", "NotImported")+`,`+item("m1", "Imported")+`,`+item("m2", "Imported")+`,`+item("m3", "Imported")+`,`+item("m4", "Imported")+
			`,`+item("m5", "Imported")+`,`+item("m6", "Imported")+`,`+item("m7", "Imported")+`,`+item("m8", "Imported")+`]`)
}

// item is an entry of account_check's answer.
func item(user, status string) string {
	return `{"AccountStatus":"` + status + `","ResultCode":0,"ResultInfo":"","UserID":"` + user + `"}`
}

func (a *tenant) checks(t *testing.T) {
	const check, remove = login + "account_check", login + "account_delete"
	a.accounts(t, "d1", "d2")
	const missing = `"ResultCode":70107,"ResultInfo":"Err_TLS_PT_Open_Login_Account_Not_Exist"`
	for path, field := range map[string]string{check: "CheckItem", remove: "DeleteItem"} {
		a.fails(t, crier.CodeBadParameter, path, `{"`+field+`":%s}`, `null`, `[]`, `5`, `true`, `{}`, `[5]`, `[null]`, `[{}]`, `[{"UserID":""}]`, `[{"UserID":5}]`,
			`[{"UserID":"d1"},{"UserID":`+text(33)+`}]`, `["a\u0000"]`, numbered("g", 101))
		a.passes(t, path, `{"`+field+`":%s}`, numbered("g", 99), numbered("g", 100), `"g1"`, `{"UserID":"g1"}`)
		a.fails(t, crier.CodeBadParameter, path, `%s`, ``, `{}`)
		a.ok(t, path, `{"UserID":"g1"}`) // flat
	}
	equal(t, a.ok(t, check, `{"CheckItem":[{"UserID":"d1"},{"UserID":"ghost"},{"UserID":"d1"}]}`), "ResultItem",
		`[`+item("d1", "Imported")+`,`+item("ghost", "NotImported")+`,`+item("d1", "Imported")+`]`)
	equal(t, a.ok(t, remove, `{"DeleteItem":[{"UserID":"d1"},{"UserID":"ghost"},{"UserID":"d1"}]}`), "ResultItem",
		`[{"ResultCode":0,"ResultInfo":"","UserID":"d1"},{`+missing+`,"UserID":"ghost"},{`+missing+`,"UserID":"d1"}]`)
	equal(t, a.ok(t, check, `{"CheckItem":[{"UserID":"d1"},{"UserID":"d2"}]}`), "ResultItem", `[`+item("d1", "NotImported")+`,`+item("d2", "Imported")+`]`)
	a.want(t, crier.CodeUnknownAccount, "openim/im_get_tag", `{"To_Account":["d1"]}`)
}

// presence is about who is connected.
func presence(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a", "b")
	const old, current = "openim/querystate", "openim/query_online_status"
	body := `{"To_Account":["b","ghost","a"]}`
	missing := `[{"ErrorCode":70107,"To_Account":"ghost"}]`
	r := a.ok(t, old, body)
	equal(t, r, "QueryResult", `[{"State":"Offline","To_Account":"b"},{"State":"Offline","To_Account":"a"}]`)
	equal(t, r, "ErrorList", missing)
	r = a.ok(t, current, body)
	equal(t, r, "QueryResult", `[{"Status":"Offline","To_Account":"b"},{"Status":"Offline","To_Account":"a"}]`)
	equal(t, r, "ErrorList", missing)
	for path, field := range map[string]string{old: "State", current: "Status"} {
		r = a.ok(t, path, `{"To_Account":["a","nobody","b"],"IsNeedDetail":1}`)
		equal(t, r, "QueryResult", `[{"Detail":[],"`+field+`":"Offline","To_Account":"a"},{"Detail":[],"`+field+`":"Offline","To_Account":"b"}]`)
		equal(t, r, "ErrorList", `[{"ErrorCode":70107,"To_Account":"nobody"}]`)
	}
	equal(t, a.ok(t, current, `{"To_Account":["a"],"IsNeedDetail":1,"IsReturnInstid":1}`), "QueryResult", `[{"Detail":[],"Status":"Offline","To_Account":"a"}]`)
	for _, path := range []string{old, current} {
		a.fails(t, crier.CodeNoToAccount, path, `%s`, ``, `{}`)
		a.fails(t, crier.CodeNoToAccount, path, `{"To_Account":%s}`, `null`, `[]`, `5`, `true`, `{"a":"b"}`)
		a.passes(t, path, `{"To_Account":%s}`, `"a"`, numbered("g", 499), numbered("g", 500))
		a.fails(t, crier.CodeTooManyPresence, path, `{"To_Account":%s}`, numbered("g", 501))
		a.noAccounts(t, path, `{"To_Account":[%s]}`)
	}
	a.patch(t, `{"limits":{"accounts_per_call":2}}`)
	a.passes(t, old, `{"To_Account":%s}`, numbered("g", 2))
	a.fails(t, crier.CodeTooManyPresence, old, `{"To_Account":%s}`, numbered("g", 3))
}
