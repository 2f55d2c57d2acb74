package contract

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

const (
	push  = "openim/im_push"
	hello = `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello"}}]`
)

// pusher makes bodies of im_push with a MsgRandom each.
type pusher struct{ random int }

// body returns a push with more fields, "" or from a comma on.
func (p *pusher) body(more string) string {
	p.random++
	return fmt.Sprintf(`{"MsgRandom":%d,"MsgBody":%s%s}`, p.random, hello, more)
}

// each makes a push for each value, put in the place of %s; all must end with the code.
func (p *pusher) each(t *testing.T, a *tenant, code crier.Code, more string, values ...string) {
	t.Helper()
	for _, v := range values {
		r := a.want(t, code, push, p.body(strings.Replace(more, "%s", v, 1)))
		if task, ok := r["TaskId"].(string); (code == 0) != (ok && task != "") {
			t.Errorf("%s: TaskId %v", v, r)
		}
	}
}

// pushes is about the fields of im_push beside the condition.
func pushes(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a")
	a.fails(t, crier.CodeBadMsgRandom, push, `{"MsgBody":`+hello+`%s}`, ``, `,"MsgRandom":null`, `,"MsgRandom":"5"`, `,"MsgRandom":-1`, `,"MsgRandom":1.5`,
		`,"MsgRandom":4294967296`, `,"MsgRandom":1e300`, `,"MsgRandom":true`, `,"MsgRandom":[1]`, `,"MsgRandom":{}`, `,"MsgRandom":99999999999999999999`)
	a.fails(t, crier.CodeBadMsgRandom, push, `%s`, ``, `{}`)
	a.passes(t, push, `{"MsgBody":`+hello+`,"MsgRandom":%s}`, `0`, `4294967294`, `4294967295`, `7.0`, `1e3`)
	p := &pusher{random: 100}
	p.each(t, a, 0, `,"MsgLifeTime":%s`, `null`, `0`, `1`, `604799`, `604800`, `60.0`)
	p.each(t, a, crier.CodeLifeTimeTooLong, `,"MsgLifeTime":%s`, `604801`, `9007199254740992`, `99999999999999999999`, `1e20`, `1e999`)
	p.each(t, a, crier.CodeBadLifeTime, `,"MsgLifeTime":%s`, `-1`, `-1e20`, `"1e20"`, `"60"`, `1.5`, `true`, `[]`, `{}`)
	p.each(t, a, 0, `,"From_Account":%s`, `null`, `"a"`, `"administrator"`)
	p.each(t, a, crier.CodeUnknownAccount, `,"From_Account":%s`, `"ghost"`)
	p.each(t, a, crier.CodeBadAccount, `,"From_Account":%s`, `""`, text(33), `"a\u0000"`)
	p.each(t, a, crier.CodeBadIdentifier, `,"From_Account":%s`, `5`, `true`, `["a"]`, `{}`)
	p.each(t, a, 0, `,"Unknown":%s`, `[1]`, `null`)
	a.patch(t, `{"push_enabled":false}`)
	p.each(t, a, crier.CodePushOff, ``, ``)
	a.patch(t, `{"push_enabled":true}`)
	p.each(t, a, 0, ``, ``)
	a.ok(t, push, `{"MsgRandom":4000,"MsgType":"TIMTextElem","MsgContent":{"Text":"flat"}}`)
	a.ok(t, push, `{"MsgRandom":4001,"MsgBody":{"MsgType":"TIMTextElem","MsgContent":{"Text":"single"}}}`)
}

// elements is about MsgBody.
func elements(t *testing.T, s *suite) {
	a := s.newTenant(t)
	random := 0
	try := func(code crier.Code, bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			random++
			a.want(t, code, push, fmt.Sprintf(`{"MsgRandom":%d%s}`, random, body))
		}
	}
	of := func(code crier.Code, elements ...string) {
		t.Helper()
		for _, e := range elements {
			try(code, `,"MsgBody":[`+e+`]`)
		}
	}
	custom := `{"MsgType":"TIMCustomElem","MsgContent":{"Data":"d","Desc":"e","Ext":"f","Sound":"g"}}`
	of(0,
		custom, `{"MsgType":"TIMLocationElem","MsgContent":{"Desc":"x","Latitude":1.5,"Longitude":-2}}`,
		`{"MsgType":"TIMFaceElem","MsgContent":{"Index":1,"Data":"x"}}`, `{"MsgType":"TIMSoundElem","MsgContent":{"any":[1]}}`,
		`{"MsgType":"TIMImageElem","MsgContent":{}}`, `{"MsgType":"TIMImageElem","MsgContent":[]}`, `{"MsgType":"TIMFileElem","MsgContent":{}}`, `{"MsgType":"TIMVideoFileElem","MsgContent":{}}`,
		hello[1:len(hello)-1]+","+custom, `{"MsgType":"TIMCustomElem","MsgContent":{"Data":null}}`,
		`{"MsgType":"TIMTextElem","MsgContent":{"Text":""}}`, `{"MsgType":"TIMImageElem","MsgContent":{"x":[1]}}`,
		`{"MsgType":"TIMSoundElem","MsgContent":{}},{"MsgType":"TIMImageElem","MsgContent":{"x":[1]}},{"MsgType":"TIMFileElem","MsgContent":{}},{"MsgType":"TIMVideoFileElem","MsgContent":{}}`)
	of(crier.CodeBadElement,
		`null`, `5`, `"x"`, `[]`, `{}`, `{"MsgType":5,"MsgContent":{}}`, `{"MsgType":"nosuch","MsgContent":{}}`, `{"MsgType":5}`, `{"MsgType":"timtextelem","MsgContent":{"Text":"x"}}`,
		`{"MsgType":"TIMTextElem"}`, `{"MsgType":"TIMTextElem","MsgContent":null}`, `{"MsgType":"TIMTextElem","MsgContent":"x"}`, `{"MsgType":"TIMTextElem","MsgContent":["x"]}`,
		`{"MsgType":"TIMTextElem","MsgContent":{}}`, `{"MsgType":"TIMTextElem","MsgContent":{"Text":5}}`, `{"MsgType":"TIMTextElem","MsgContent":{"Text":["x"]}}`,
		`{"MsgType":"TIMLocationElem","MsgContent":{"Latitude":"1"}}`, `{"MsgType":"TIMLocationElem","MsgContent":{"Longitude":true}}`, `{"MsgType":"TIMLocationElem","MsgContent":{"Desc":1}}`,
		`{"MsgType":"TIMFaceElem","MsgContent":{"Index":"1"}}`, `{"MsgType":"TIMFaceElem","MsgContent":{"Data":1}}`,
		`{"MsgType":"TIMCustomElem","MsgContent":{"Data":{}}}`, `{"MsgType":"TIMCustomElem","MsgContent":{"Desc":1}}`, `{"MsgType":"TIMCustomElem","MsgContent":{"Ext":1}}`,
		`{"MsgType":"TIMCustomElem","MsgContent":{"Sound":1}}`, custom+","+custom, `{"MsgType":"TIMImageElem","MsgContent":["x"]}`, `{"MsgType":"TIMTextElem","MsgContent":[]}`)
	try(0, `,"MsgBody":`+custom)
	try(crier.CodeNoMsgBody, ``, `,"MsgBody":null`, `,"MsgBody":[]`)
	try(crier.CodeMsgBodyNotArray, `,"MsgBody":5`, `,"MsgBody":"x"`, `,"MsgBody":true`, `,"MsgBody":{}`, `,"MsgBody":{"Text":"x"}`)
}

// conditions is about Condition.
func conditions(t *testing.T, s *suite) {
	a := s.newTenant(t)
	a.accounts(t, "a", "b", "c")
	a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`)
	a.ok(t, "openim/im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m","city":"x"}},{"To_Account":"b","Attrs":{"sex":5}}]}`)
	a.ok(t, "openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["x","y"]},{"To_Account":"b","Tags":["x"]}]}`)
	p := new(pusher)
	for condition, total := range map[string]int{
		`null`: 3, `{}`: 3, `[]`: 3, `{"TagsOr":[]}`: 3, `{"TagsOr":null,"AttrsAnd":{}}`: 3, `{"AttrsOr":[]}`: 3, `{"TagsOr":{}}`: 3,
		`{"TagsOr":["x","nosuch"]}`: 2, `{"TagsAnd":["x","y"]}`: 1, `{"TagsOr":["x"],"TagsAnd":["y"]}`: 1, `{"TagsNot":["y"]}`: 2, `{"TagsNot":["x"]}`: 1,
		`{"TagsOr":["x"],"TagsNot":["y"]}`: 1, `{"TagsOr":["nosuch"]}`: 0, `{"TagsOr":["X"]}`: 0, `{"TagsOr":["x","x"]}`: 2,
		`{"AttrsOr":{"sex":"m"}}`: 1, `{"AttrsAnd":{"sex":5}}`: 1, `{"AttrsAnd":{"sex":"M"}}`: 0, `{"AttrsOr":{"sex":"m"},"AttrsAnd":{"sex":"5"}}`: 0,
		`{"AttrsOr":{"sex":"m"},"TagsOr":[]}`: 1, `{"AttrsAnd":{"sex":"m","city":"x"}}`: 1, `{"AttrsOr":{"sex":5,"city":"x"}}`: 2, `{"AttrsOr":{"sex":1}}`: 0,
	} {
		task, _ := a.ok(t, push, p.body(`,"Condition":`+condition))["TaskId"].(string)
		if r := a.done(t, task); r["Total"] != float64(total) || r["Finished"] != r["Total"] {
			t.Errorf("%s: %v, want %d accounts", condition, r, total)
		}
	}
	for _, field := range []string{"TagsOr", "TagsAnd", "TagsNot"} {
		of := `,"Condition":{"` + field + `":%s}`
		p.each(t, a, 0, of, numbered("t", 9), numbered("t", 10), `[`+text(49)+`]`, `[`+text(50)+`]`)
		p.each(t, a, crier.CodeTooManyTags, of, numbered("t", 11), list(11, func(int) string { return `"same"` }))
		p.each(t, a, crier.CodeTagTooLong, of, `[`+text(51)+`]`, `["`+strings.Repeat("é", 25)+`x"]`)
		p.each(t, a, crier.CodeTagEmpty, of, `[""]`)
		p.each(t, a, crier.CodeTagBadValue, of, `["a\u0000"]`)
		p.each(t, a, crier.CodeBadCondition, of, `"x"`, `5`, `true`, `{"x":"y"}`, `{"x":1}`, `{"x":null}`, `[5]`, `[null]`, `[["x"]]`, `[{}]`)
		p.each(t, a, crier.CodeMixedCondition, `,"Condition":{"AttrsOr":{"sex":"m"},"`+field+`":%s}`, `["x"]`)
	}
	p.each(t, a, crier.CodeMixedCondition, `,"Condition":%s`, `{"TagsOr":["x"],"AttrsOr":{"sex":"m"}}`, `{"TagsNot":["x"],"AttrsAnd":{"sex":"m"}}`)
	p.each(t, a, crier.CodeTagTwice, `,"Condition":%s`, `{"TagsOr":["x","y"],"TagsAnd":["y"]}`, `{"TagsOr":["x"],"TagsAnd":["x"]}`)
	for _, field := range []string{"AttrsOr", "AttrsAnd"} {
		of := `,"Condition":{"` + field + `":%s}`
		p.each(t, a, 0, of, `{"sex":`+text(49)+`}`, `{"sex":`+text(50)+`}`, `{"sex":true}`)
		p.each(t, a, crier.CodeBadAttr, of, `{"sex":""}`, `{"sex":`+text(51)+`}`, `{"nosuch":"x"}`, `{"":"x"}`, `{"sex":"a\u0000"}`, `{"sex":null}`, `{"sex":"m","city":null}`, `{"nosuch":null}`)
		p.each(t, a, crier.CodeBadCondition, of, `"sex"`, `5`, `true`, `["sex"]`, `{"sex":["m"]}`, `{"sex":{"x":"m"}}`)
		p.each(t, a, crier.CodeMixedCondition, `,"Condition":{"TagsAnd":["x"],"`+field+`":%s}`, `{"sex":"m"}`, `{"sex":null}`)
	}
	p.each(t, a, crier.CodeBadCondition, `,"Condition":%s`, `"x"`, `5`, `true`, `["x"]`, `{"Foo":1}`, `{"nosuch":["x"]}`, `{"tagsor":["x"]}`, `{"TagsOr":["x"],"Extra":1}`)
}

// offline is about OfflinePushInfo.
func offline(t *testing.T, s *suite) {
	a := s.newTenant(t)
	p := new(pusher)
	p.each(t, a, 0, `,"OfflinePushInfo":%s`, `null`, `{}`, `[]`, `{"PushFlag":0,"Title":"t","Desc":"d","Ext":"e"}`, `{"PushFlag":1}`, `{"PushFlag":null,"unknown":5}`, `{"Unknown":[1]}`,
		`{"ApnsInfo":{"BadgeMode":1,"Sound":"s","MutableContent":1}}`,
		`{"AndroidInfo":{"Sound":"s","OPPONotifyLevel":2,"unknown":[1]},"ApnsInfo":{"BadgeMode":1,"Title":"t","MutableContent":1},"HarmonyInfo":{"Sound":"x"}}`)
	p.each(t, a, 0, `,"OfflinePushInfo":%s`, `{"BadgeAddNum":99}`, `{"BadgeSetNum":0}`, `{"BadgeSetNum":999}`,
		`{"MultiLanguageContent":[]}`, `{"MultiLanguageContent":[{"Language":"zh","Title":"t","Desc":"d"}]}`, `{"ApnsInfo":{"BadgeMode":0,"InterruptionLevel":"critical"}}`, `{"ApnsInfo":{"BadgeMode":1,"InterruptionLevel":"time-sensitive"}}`)
	p.each(t, a, 0, `,"OfflinePushInfo":%s`, `{"ApnsInfo":[]}`, `{"AndroidInfo":[],"HarmonyInfo":[],"PushTemplateParam":[]}`, `{"ApnsInfo":{"LiveActivity":[]}}`,
		`{"AndroidInfo":{"OPPOPrivateTitleParameters":[],"OPPOPrivateContentParameters":[]}}`, `{"BadgeAddNum":1.0,"BadgeSetNum":5e0,"ApnsInfo":{"BadgeMode":1.0,"MutableContent":1e0}}`,
		`{"MultiLanguageContent":{"Language":"zh","Title":"t","Desc":"d"}}`, `{"badgemode":7,"BADGEADDNUM":"x","apnsinfo":5,"ApnsInfo":{"badgemode":7,"BadgeMode":1}}`)
	p.each(t, a, crier.CodeBadOfflinePush, `,"OfflinePushInfo":%s`, `{"BadgeAddNum":100}`, `{"BadgeAddNum":-1}`, `{"BadgeSetNum":1000}`, `{"BadgeSetNum":-1}`,
		`{"ApnsInfo":{"BadgeMode":2}}`, `{"ApnsInfo":{"InterruptionLevel":"loud"}}`)
	p.each(t, a, crier.CodeBadOfflinePush, `,"OfflinePushInfo":%s`, `5`, `"x"`, `true`, `["x"]`, `[1]`, `{"PushFlag":2}`, `{"PushFlag":-1}`, `{"PushFlag":"1"}`, `{"PushFlag":0.5}`,
		`{"Title":5}`, `{"Desc":["x"]}`, `{"Desc":[]}`, `{"Ext":{}}`, `{"AndroidInfo":"x"}`, `{"AndroidInfo":{"Sound":1}}`, `{"AndroidInfo":{"OPPONotifyLevel":"2"}}`,
		`{"ApnsInfo":["x"]}`, `{"AndroidInfo":[{}]}`, `{"MultiLanguageContent":["zh"]}`, `{"MultiLanguageContent":[{"Title":5}]}`, `{"MultiLanguageContent":{"Language":["zh"]}}`, `{"ApnsInfo":{"BadgeMode":"1"}}`, `{"HarmonyInfo":{"SoundDuration":1.5}}`)
}

// done waits until the push is done, and returns its report.
func (a *tenant) done(t *testing.T, task string) map[string]any {
	t.Helper()
	var last any
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		list, _ := a.ok(t, "openim/im_get_push_report", `{"TaskIds":["`+task+`"]}`)["Reports"].([]any)
		if len(list) != 1 {
			t.Fatalf("%d reports", len(list))
		}
		last = list[0]
		if r, ok := last.(map[string]any); ok && r["Status"] == float64(crier.StatusDone) {
			return r
		}
	}
	t.Fatalf("the push is not done: %v", last)
	return nil
}

// reports is about im_get_push_report.
func reports(t *testing.T, s *suite) {
	a, other := s.newTenant(t), s.newTenant(t)
	a.accounts(t, "a", "b")
	const get = "all_member_push/im_get_push_report"
	p := new(pusher)
	var tasks []string
	for range 3 {
		task, _ := a.ok(t, push, p.body(``))["TaskId"].(string)
		tasks = append(tasks, task)
	}
	foreign, _ := other.ok(t, push, p.body(``))["TaskId"].(string)
	for _, task := range tasks {
		r := a.done(t, task)
		start, err := time.ParseInLocation(time.DateTime, fmt.Sprint(r["StartTime"]), time.FixedZone("", 8*60*60))
		if age := time.Since(start); err != nil || age < -time.Minute || age > 5*time.Minute || len(r) != 5 || r["Total"] != 2.0 || r["Finished"] != 2.0 {
			t.Errorf("%v: %v", r, err)
		}
		status := a.operate(t, http.MethodGet, "/v1/tasks/"+task, "")
		if status["status"] != "done" || status["task"] != task || status["total"] != r["Total"] {
			t.Errorf("the operator's API says %v", status)
		}
	}
	order := []string{tasks[2], tasks[0], tasks[2], tasks[1]}
	list, _ := a.ok(t, get, `{"TaskIds":`+encode(order)+`}`)["Reports"].([]any)
	for i, r := range list {
		if m, ok := r.(map[string]any); !ok || len(list) != len(order) || m["TaskId"] != order[i] {
			t.Errorf("report %d is %v", i, r)
		}
	}
	a.ok(t, get, `{"TaskIds":"`+tasks[0]+`"}`)
	of := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = tasks[i%len(tasks)]
		}
		return encode(all)
	}
	a.passes(t, get, `{"TaskIds":%s}`, of(499), of(500))
	a.fails(t, crier.CodeTooManyTasks, get, `{"TaskIds":%s}`, of(501))
	if r := other.want(t, crier.CodeUnknownTask, get, `{"TaskIds":`+encode(tasks)+`}`); r["Reports"] != nil {
		t.Errorf("another app's reports: %v", r)
	}
	a.fails(t, crier.CodeNoTasks, get, `%s`, ``, `{}`, `{"TaskIds":null}`, `{"TaskIds":[]}`)
	a.fails(t, crier.CodeUnknownTask, get, `{"TaskIds":%s}`, `["nosuch"]`, `[""]`, encode([]string{tasks[0], foreign}), encode([]string{tasks[0] + "0"}),
		`5`, `true`, `{"x":"y"}`, `[5]`, `[null]`, `["a\u0000"]`)
}
