// Package contract_test holds a whole node to the wire contract of the REST API:
// every command, its forms, its limits one under, at and one over, and its codes.
package contract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/rest"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/usersig"
)

// target is a running node, and what was seen of it.
type target struct {
	url, token string
	nextApp    crier.AppID
	codes      map[crier.Code]bool
	commands   map[string]bool
}

// start runs a node until the test ends.
func start(t *testing.T) *target {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.HTTP.Listen, cfg.Cluster.Partitions, cfg.Storage.MinFreeDisk = t.TempDir(), "127.0.0.1:0", 4, 1
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan app.Info, 1), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, cfg, app.Options{
			Logger: slog.New(slog.DiscardHandler), OnReady: func(_ context.Context, i app.Info) error { ready <- i; return nil },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	select {
	case i := <-ready:
		return &target{url: i.URL, token: i.OperatorToken, nextApp: 1400000100, codes: make(map[crier.Code]bool), commands: make(map[string]bool)}
	case err := <-ended:
		ended <- err
		t.Fatalf("the node did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the node was not ready within a minute")
	}
	return nil
}

// tenant is a fresh app of the node.
type tenant struct {
	t   *testing.T
	to  *target
	id  crier.AppID
	key string
}

// newApp makes an app without limits on how often it calls and pushes.
func (to *target) newApp(t *testing.T, settings string) *tenant {
	t.Helper()
	to.nextApp++
	body := fmt.Sprintf(`{"id":%d,"admins":["admin"]}`, to.nextApp)
	var made struct{ Key string }
	to.operator(t, http.MethodPost, "/v1/apps", body, &made)
	a := &tenant{t, to, to.nextApp, made.Key}
	a.set(`{"limits":{"push_interval":0,"pushes_per_day":0,"calls_per_second":0}}`)
	if settings != "" {
		a.set(settings)
	}
	return a
}

func (a *tenant) set(settings string) {
	a.t.Helper()
	a.to.operator(a.t, http.MethodPatch, fmt.Sprintf("/v1/apps/%d", a.id), settings, nil)
}

func (to *target) operator(t *testing.T, method, path, body string, out any) {
	t.Helper()
	req, err := http.NewRequest(method, to.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+to.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, text, err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *tenant) sig(user crier.UserID) string {
	return usersig.Sign(a.key, a.id, user, time.Now(), time.Hour, nil)
}

func (a *tenant) query() url.Values {
	return url.Values{
		"sdkappid": {a.id.String()}, "identifier": {"admin"}, "usersig": {a.sig("admin")}, "random": {"1"}, "contenttype": {"json"},
	}
}

// send makes one request and checks what every answer has.
func (a *tenant) send(method, path, query string, body []byte, contentType string) map[string]any {
	a.t.Helper()
	req, err := http.NewRequest(method, a.to.url+"/v4/"+path+"?"+query, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	d := json.NewDecoder(resp.Body)
	if err := d.Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	code, isNumber := answer["ErrorCode"].(float64)
	info, isText := answer["ErrorInfo"].(string)
	status := answer["ActionStatus"]
	if !isNumber || !isText || (code == 0) != (status == "OK") || (code != 0) != (status == "FAIL") || (code != 0) != (info != "") {
		a.t.Errorf("%s: the three fields are %v", path, answer)
	}
	a.to.codes[crier.Code(code)] = true
	_, command, _ := strings.Cut(path, "/")
	a.to.commands[command] = true
	return answer
}

func (a *tenant) call(path, body string) map[string]any {
	a.t.Helper()
	return a.send(http.MethodPost, path, a.query().Encode(), []byte(body), "")
}

// want makes a call and checks its code; 0 is success.
func (a *tenant) want(code crier.Code, path, body string) map[string]any {
	a.t.Helper()
	answer := a.call(path, body)
	if got := crier.Code(answer["ErrorCode"].(float64)); got != code {
		if len(body) > 300 {
			body = body[:300] + "..."
		}
		a.t.Errorf("%s %s: got %d %q, want %d", path, body, int(got), answer["ErrorInfo"], int(code))
	}
	return answer
}

// accounts makes accounts.
func (a *tenant) accounts(names ...string) {
	a.t.Helper()
	for chunk := range slices.Chunk(names, 100) {
		a.want(0, "im_open_login_svc/multiaccount_import", fmt.Sprintf(`{"Accounts":%s}`, list(chunk)))
	}
}

func list(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i)
	}
	return all
}

var random = uint32(time.Now().UnixNano())

// push returns the body of an im_push with other fields.
func push(fields string) string {
	random++
	if fields != "" {
		fields = "," + fields
	}
	return fmt.Sprintf(`{"MsgRandom":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]%s}`, random, fields)
}

func TestContract(t *testing.T) {
	to := start(t)
	for name, test := range map[string]func(*tenant){
		"envelope": envelope, "push": pushes, "conditions": conditions, "elements": elements, "offline push info": offline,
		"limits of pushes": pushLimits, "reports": reports, "attribute names": attributeNames, "attributes": attributes, "tags": tags,
		"accounts of calls": accountLists, "account commands": accountCommands, "presence": presence, "liberal forms": liberal, "nothing half done": atomic,
	} {
		t.Run(name, func(t *testing.T) { test(to.newApp(t, "")) })
	}
	unreachable := map[crier.Code]string{
		crier.CodeTimeout:       "a partition without a leader",
		crier.CodeInternal:      "a full disk; persistence tests it",
		crier.CodeAppWithoutKey: "the operator's API refuses an app without a key",
	}
	for _, c := range rest.Commands() {
		if !to.commands[c.Name] {
			t.Errorf("command %s was never called", c.Name)
		}
		for _, code := range c.Codes {
			if !to.codes[code] && unreachable[code] == "" {
				t.Errorf("code %d of %s was never seen", int(code), c.Name)
			}
		}
	}
	documented := slices.Collect(maps.Keys(to.codes))
	for _, code := range documented {
		if code != 0 && code.Text() == "" {
			t.Errorf("code %d is in no table", int(code))
		}
	}
}

func envelope(a *tenant) {
	t := a.t
	wantCode := func(what string, code crier.Code, answer map[string]any) {
		t.Helper()
		if got := crier.Code(answer["ErrorCode"].(float64)); got != code {
			t.Errorf("%s: got %d %q, want %d", what, int(got), answer["ErrorInfo"], int(code))
		}
	}
	const path = "openim/im_get_attr_name"
	with := func(change func(url.Values)) map[string]any {
		t.Helper()
		q := a.query()
		change(q)
		return a.send(http.MethodPost, path, q.Encode(), []byte("{}"), "")
	}
	sign := func(key string, id crier.AppID, user crier.UserID, at time.Time) func(url.Values) {
		return func(q url.Values) { q.Set("usersig", usersig.Sign(key, id, user, at, time.Hour, nil)) }
	}
	now := time.Now()
	for what, c := range map[string]struct {
		change func(url.Values)
		code   crier.Code
	}{
		"as it should be":    {func(url.Values) {}, 0},
		"no random":          {func(q url.Values) { q.Del("random"); q.Del("contenttype") }, 0},
		"no sdkappid":        {func(q url.Values) { q.Del("sdkappid") }, crier.CodeMissingSDKAppID},
		"sdkappid x":         {func(q url.Values) { q.Set("sdkappid", "x") }, crier.CodeBadSDKAppID},
		"unknown app":        {func(q url.Values) { q.Set("sdkappid", "77") }, crier.CodeUnknownApp},
		"no identifier":      {func(q url.Values) { q.Del("identifier") }, crier.CodeBadIdentifier},
		"no usersig":         {func(q url.Values) { q.Del("usersig") }, crier.CodeSigMissing},
		"usersig of letters": {func(q url.Values) { q.Set("usersig", "abc") }, crier.CodeSigMalformed},
		"other key":          {sign("another key", a.id, "admin", now), crier.CodeSigWrong},
		"other app":          {sign(a.key, a.id+1, "admin", now), crier.CodeSigSDKAppID},
		"other identifier":   {sign(a.key, a.id, "other", now), crier.CodeSigIdentifier},
		"expired":            {sign(a.key, a.id, "admin", now.Add(-2*time.Hour)), crier.CodeSigExpired},
		"two identifiers":    {func(q url.Values) { q.Add("identifier", "other") }, crier.CodeBadRequest},
		"not an admin":       {func(q url.Values) { q.Set("identifier", "bob"); q.Set("usersig", a.sig("bob")) }, crier.CodeNotAppAdmin},
	} {
		wantCode(what, c.code, with(c.change))
	}
	q := a.query()
	q.Set("identifier", "bob")
	q.Set("usersig", a.sig("bob"))
	wantCode("not an admin of accounts", crier.CodeNotAdmin, a.send(http.MethodPost, "im_open_login_svc/account_check", q.Encode(), []byte("{}"), ""))
	raw := fmt.Sprintf("SDKAppID=%d&IDENTIFIER=admin&UserSig=%s", a.id, a.sig("admin"))
	wantCode("keys in any case, * raw", 0, a.send(http.MethodPost, path, raw, nil, "text/plain"))
	wantCode("GET", crier.CodeBadRequest, a.send(http.MethodGet, path, a.query().Encode(), nil, ""))
	wantCode("a broken URL", crier.CodeBadRequest, a.send(http.MethodPost, path, "sdkappid=%zz", nil, ""))
	for _, unknown := range []string{"openim/no_such", "Openim/im_push", "openim/IM_PUSH", "other/im_push", "openim", "openim/im_push/x", "openim/kick"} {
		a.want(crier.CodeUnknownCommand, unknown, "{}")
	}
	for _, service := range []string{"openim", "all_member_push"} {
		a.want(0, service+"/im_get_attr_name", "")
	}
	for what, body := range map[string]string{
		"not JSON": "{", "an array": "[]", "a string": `"x"`, "null": "null", "two values": "{} {}", "duplicate keys": `{"a":1,"a":2}`,
		"invalid UTF-8": "{\"a\":\"\xff\"}", "deep": strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), "a trailing comma": `{"a":1,}`,
	} {
		wantCode(what, crier.CodeBadJSON, a.send(http.MethodPost, path, a.query().Encode(), []byte(body), "application/x-www-form-urlencoded"))
	}
	a.set(`{"limits":{"body_bytes":100}}`)
	a.want(0, path, `{"x":"`+strings.Repeat("y", 92)+`"}`)
	a.want(crier.CodeBodyTooLarge, path, `{"x":"`+strings.Repeat("y", 93)+`"}`)
	a.set(`{"limits":{"calls_per_second":1}}`)
	limited := false
	for range 5 {
		limited = limited || crier.Code(a.call(path, "{}")["ErrorCode"].(float64)) == crier.CodeRateLimited
	}
	if !limited {
		t.Error("five calls at once were within one a second")
	}
	a.set(`{"disabled":true}`)
	a.want(crier.CodeAppDisabled, path, "{}")
}

const imPush = "openim/im_push"

func pushes(a *tenant) {
	a.accounts("sender")
	for _, service := range []string{"openim", "all_member_push"} {
		if task, _ := a.want(0, service+"/im_push", push(""))["TaskId"].(string); task == "" {
			a.t.Error("no TaskId")
		}
	}
	body := `{"MsgRandom":%s,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`
	for value, code := range map[string]crier.Code{
		"0": 0, "4294967295": 0, "4294967296": crier.CodeBadMsgRandom, "-1": crier.CodeBadMsgRandom, "1.5": crier.CodeBadMsgRandom,
		`"7"`: crier.CodeBadMsgRandom, "null": crier.CodeBadMsgRandom, "[7]": crier.CodeBadMsgRandom, "true": crier.CodeBadMsgRandom, "8.0": 0,
	} {
		a.want(code, imPush, fmt.Sprintf(body, value))
	}
	for field, code := range map[string]crier.Code{
		`"MsgLifeTime":0`: 0, `"MsgLifeTime":604800`: 0, `"MsgLifeTime":null`: 0, `"MsgLifeTime":604801`: crier.CodeLifeTimeTooLong,
		`"MsgLifeTime":-1`: crier.CodeBadLifeTime, `"MsgLifeTime":"5"`: crier.CodeBadLifeTime, `"MsgLifeTime":1.5`: crier.CodeBadLifeTime,
		`"From_Account":"sender"`: 0, `"From_Account":"admin"`: 0, `"From_Account":"nobody"`: crier.CodeUnknownAccount, `"From_Account":5`: crier.CodeBadIdentifier,
		`"From_Account":""`: crier.CodeBadAccount, `"From_Account":"` + strings.Repeat("x", 33) + `"`: crier.CodeBadAccount, `"Unknown":[1]`: 0,
	} {
		a.want(code, imPush, push(field))
	}
	filler := func(size int) string {
		b := push(`"x":""`)
		return strings.Replace(b, `"x":""`, `"x":"`+strings.Repeat("y", size-len(b))+`"`, 1)
	}
	a.want(0, imPush, filler(10<<10))
	a.want(crier.CodePushBodyTooLarge, imPush, filler(10<<10+1))
	a.want(crier.CodePushBodyTooLarge, imPush, filler(11<<10))
	a.set(`{"push_enabled":false}`)
	a.want(crier.CodePushOff, imPush, push(""))
}

func conditions(a *tenant) {
	a.want(0, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`)
	long := strings.Repeat("x", 51)
	for cond, code := range map[string]crier.Code{
		`{}`: 0, `[]`: 0, `null`: 0, `{"TagsOr":[]}`: 0, `{"TagsOr":["a"]}`: 0, `{"TagsOr":["a"],"TagsNot":["b"]}`: 0,
		`{"TagsOr":["a"],"TagsAnd":["b"]}`: 0, `{"TagsOr":["a"],"TagsAnd":["a"]}`: crier.CodeTagTwice,
		`{"TagsOr":` + list(names("t", 10)) + `}`: 0, `{"TagsOr":` + list(names("t", 11)) + `}`: crier.CodeTooManyTags,
		`{"TagsAnd":` + list(names("t", 10)) + `}`: 0, `{"TagsAnd":` + list(names("t", 11)) + `}`: crier.CodeTooManyTags,
		`{"TagsOr":["` + long[:49] + `"]}`: 0, `{"TagsOr":["` + long[:50] + `"]}`: 0, `{"TagsOr":["` + long + `"]}`: crier.CodeTagTooLong,
		`{"TagsOr":[""]}`: crier.CodeTagEmpty, `{"TagsOr":["a\u0000"]}`: crier.CodeTagBadValue,
		`{"TagsOr":"a"}`: crier.CodeBadCondition, `{"TagsOr":[1]}`: crier.CodeBadCondition, `{"TagsOr":[null]}`: crier.CodeBadCondition,
		`{"TagsOr":{"a":1}}`: crier.CodeBadCondition, `{"Foo":1}`: crier.CodeBadCondition, `5`: crier.CodeBadCondition, `"x"`: crier.CodeBadCondition, `["a"]`: crier.CodeBadCondition,
		`{"AttrsOr":{"sex":"m"}}`: 0, `{"AttrsAnd":{"sex":"m","city":"x"}}`: 0, `{"AttrsOr":{"sex":1}}`: 0, `{"AttrsOr":[]}`: 0,
		`{"AttrsOr":{"level":"1"}}`: crier.CodeBadAttr, `{"AttrsOr":{"sex":""}}`: crier.CodeBadAttr, `{"AttrsOr":{"sex":"` + long[:50] + `"}}`: 0,
		`{"AttrsOr":{"sex":"` + long + `"}}`: crier.CodeBadAttr, `{"AttrsOr":{"sex":{"a":1}}}`: crier.CodeBadCondition, `{"AttrsOr":["sex"]}`: crier.CodeBadCondition,
		`{"AttrsOr":"sex"}`: crier.CodeBadCondition, `{"TagsOr":["a"],"AttrsOr":{"sex":"m"}}`: crier.CodeMixedCondition, `{"TagsNot":["a"],"AttrsAnd":{"sex":"m"}}`: crier.CodeMixedCondition,
	} {
		a.want(code, imPush, push(`"Condition":`+cond))
	}
}

func elements(a *tenant) {
	body := func(v string) string { random++; return fmt.Sprintf(`{"MsgRandom":%d,"MsgBody":%s}`, random, v) }
	custom := `{"MsgType":"TIMCustomElem","MsgContent":{"Data":"d","Desc":"x","Ext":"e","Sound":"s"}}`
	for v, code := range map[string]crier.Code{
		"null": crier.CodeNoMsgBody, "[]": crier.CodeNoMsgBody, `"x"`: crier.CodeMsgBodyNotArray, "5": crier.CodeMsgBodyNotArray, "{}": crier.CodeMsgBodyNotArray,
		`[5]`: crier.CodeBadElement, `[null]`: crier.CodeBadElement, `[{}]`: crier.CodeBadElement, `[{"MsgType":5}]`: crier.CodeBadElement,
		`[{"MsgType":"TIMTextElem"}]`: crier.CodeBadElement, `[{"MsgType":"TIMTextElem","MsgContent":[]}]`: crier.CodeBadElement,
		`[{"MsgType":"TIMTextElem","MsgContent":{"Text":5}}]`: crier.CodeBadElement, `[{"MsgType":"TIMTextElem","MsgContent":{}}]`: crier.CodeBadElement,
		`[{"MsgType":"TIMOther","MsgContent":{}}]`: crier.CodeBadElement, `[{"MsgType":"TIMTextElem","MsgContent":{"Text":""}}]`: 0,
		`[{"MsgType":"TIMLocationElem","MsgContent":{"Desc":"d","Latitude":1.5,"Longitude":-2}}]`: 0, `[{"MsgType":"TIMLocationElem","MsgContent":{"Latitude":"1"}}]`: crier.CodeBadElement,
		`[{"MsgType":"TIMFaceElem","MsgContent":{"Index":1,"Data":"x"}}]`: 0, `[{"MsgType":"TIMFaceElem","MsgContent":{"Index":"1"}}]`: crier.CodeBadElement,
		"[" + custom + "]": 0, "[" + custom + "," + custom + "]": crier.CodeBadElement, custom: 0,
		`[{"MsgType":"TIMSoundElem","MsgContent":{}},{"MsgType":"TIMImageElem","MsgContent":{"x":[1]}},{"MsgType":"TIMFileElem","MsgContent":{}},{"MsgType":"TIMVideoFileElem","MsgContent":{}}]`: 0,
	} {
		a.want(code, imPush, body(v))
	}
	random++
	a.want(crier.CodeNoMsgBody, imPush, fmt.Sprintf(`{"MsgRandom":%d}`, random))
}

func offline(a *tenant) {
	for info, code := range map[string]crier.Code{
		`{}`: 0, `null`: 0, `[]`: 0, `{"PushFlag":0}`: 0, `{"PushFlag":1}`: 0, `{"PushFlag":2}`: crier.CodeBadOfflinePush, `{"PushFlag":"1"}`: crier.CodeBadOfflinePush,
		`"x"`: crier.CodeBadOfflinePush, `[1]`: crier.CodeBadOfflinePush, `{"Title":5}`: crier.CodeBadOfflinePush, `{"Title":"t","Desc":"d","Ext":"e"}`: 0,
		`{"Desc":[]}`: crier.CodeBadOfflinePush, `{"Ext":{}}`: crier.CodeBadOfflinePush, `{"ApnsInfo":{"BadgeMode":1,"Sound":"s","MutableContent":1}}`: 0,
		`{"ApnsInfo":{"BadgeMode":"1"}}`: crier.CodeBadOfflinePush, `{"ApnsInfo":[]}`: crier.CodeBadOfflinePush, `{"AndroidInfo":{"Sound":5}}`: crier.CodeBadOfflinePush,
		`{"HarmonyInfo":{"SoundDuration":1.5}}`: crier.CodeBadOfflinePush, `{"Unknown":[1]}`: 0,
	} {
		a.want(code, imPush, push(`"OfflinePushInfo":`+info))
	}
}

func pushLimits(a *tenant) {
	body := push("")
	task := a.want(0, imPush, body)["TaskId"]
	if again := a.want(crier.CodePushRepeated, imPush, body); again["TaskId"] != task || task == "" {
		a.t.Errorf("the repeat names %v, not %v", again["TaskId"], task)
	}
	a.set(`{"limits":{"pushes_per_day":2}}`)
	a.want(0, imPush, push(""))
	failed := push("")
	a.want(crier.CodePushQuota, imPush, failed)
	a.set(`{"limits":{"pushes_per_day":3,"push_interval":3600000000000}}`)
	a.want(crier.CodePushTooSoon, imPush, failed)
	a.set(`{"limits":{"push_interval":0,"kept_pushes":1}}`)
	a.want(0, imPush, failed) // its MsgRandom was not used up
	a.set(`{"limits":{"pushes_per_day":0}}`)
	a.want(0, imPush, push(`"MsgLifeTime":60`))
	a.want(crier.CodePushQuota, imPush, push(`"MsgLifeTime":60`))
	a.want(0, imPush, push(""))
}

func reports(a *tenant) {
	a.accounts("a", "b")
	var tasks []string
	for range 3 {
		tasks = append(tasks, a.want(0, imPush, push(""))["TaskId"].(string))
	}
	const path = "openim/im_get_push_report"
	slices.Reverse(tasks)
	var got []map[string]any
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		got = nil
		done := true
		for _, r := range a.want(0, path, `{"TaskIds":`+list(tasks)+`}`)["Reports"].([]any) {
			m := r.(map[string]any)
			got = append(got, m)
			done = done && m["Status"] == float64(2)
		}
		if done {
			break
		}
	}
	for i, r := range got {
		started, err := time.ParseInLocation(time.DateTime, fmt.Sprint(r["StartTime"]), time.FixedZone("", 8*3600))
		if r["TaskId"] != tasks[i] || r["Status"] != float64(2) || r["Total"] != float64(2) || r["Finished"] != float64(2) || err != nil || time.Since(started).Abs() > time.Minute {
			a.t.Errorf("report %d is %v, %v", i, r, err)
		}
	}
	full := slices.Repeat(tasks[:1], 500)
	a.want(0, path, `{"TaskIds":`+list(full)+`}`)
	a.want(crier.CodeTooManyTasks, path, `{"TaskIds":`+list(append(full, "x"))+`}`)
	a.want(0, path, `{"TaskIds":`+list(tasks[0])+`}`)
	other := a.to.newApp(a.t, "")
	other.want(crier.CodeUnknownTask, path, `{"TaskIds":`+list(tasks)+`}`)
	for body, code := range map[string]crier.Code{
		`{}`: crier.CodeNoTasks, `{"TaskIds":[]}`: crier.CodeNoTasks, `{"TaskIds":["x"]}`: crier.CodeUnknownTask, `{"TaskIds":[5]}`: crier.CodeUnknownTask, `{"TaskIds":5}`: crier.CodeUnknownTask,
	} {
		a.want(code, path, body)
	}
}

func attributeNames(a *tenant) {
	const set, get = "openim/im_set_attr_name", "openim/im_get_attr_name"
	for body, code := range map[string]crier.Code{
		`{}`: crier.CodeBadAttr, `{"AttrNames":5}`: crier.CodeBadAttr, `{"AttrNames":{"10":"x"}}`: crier.CodeBadAttr, `{"AttrNames":{"-1":"x"}}`: crier.CodeBadAttr,
		`{"AttrNames":{"01":"x"}}`: crier.CodeBadAttr, `{"AttrNames":{"a":"x"}}`: crier.CodeBadAttr, `{"AttrNames":{"0":5}}`: crier.CodeBadAttr, `{"AttrNames":{"0":""}}`: crier.CodeBadAttr,
		`{"AttrNames":{"0":"x","1":"x"}}`: crier.CodeBadAttr, `{"AttrNames":{"0":"` + strings.Repeat("x", 51) + `"}}`: crier.CodeBadAttr, `{"AttrNames":{"0":"a\u0000"}}`: crier.CodeBadAttr,
	} {
		a.want(code, set, body)
	}
	if got := fmt.Sprint(a.want(0, get, "{}")["AttrNames"]); got != "map[]" {
		a.t.Errorf("refused calls named %s", got)
	}
	a.want(0, set, `{"AttrNames":{"0":"sex","9":"`+strings.Repeat("x", 50)+`"}}`)
	a.want(0, "all_member_push/im_set_attr_name", `{"AttrNames":["gender","city"]}`)
	if got := a.want(0, get, "{}")["AttrNames"].(map[string]any); got["0"] != "gender" || got["1"] != "city" || len(got) != 3 {
		a.t.Errorf("names %v", got)
	}
	a.want(crier.CodeBadAttr, set, `{"AttrNames":{"2":"city"}}`)
}

func attributes(a *tenant) {
	a.accounts("a", "b")
	a.want(0, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`)
	const set, remove, get = "openim/im_set_attr", "openim/im_remove_attr", "openim/im_get_attr"
	entry := func(attrs string) string { return `{"UserAttrs":[{"To_Account":"a","Attrs":` + attrs + `}]}` }
	long := strings.Repeat("x", 51)
	for body, code := range map[string]crier.Code{
		entry(`{"sex":"` + long[:50] + `"}`): 0, entry(`{"sex":"` + long + `"}`): crier.CodeBadAttr, entry(`{"sex":""}`): crier.CodeBadAttr, entry(`{"level":"1"}`): crier.CodeBadAttr,
		entry(`{"sex":{}}`): crier.CodeBadSetAttr, entry(`["sex"]`): crier.CodeBadSetAttr, entry(`"sex"`): crier.CodeBadSetAttr, entry(`null`): crier.CodeBadSetAttr,
		`{"UserAttrs":[5]}`: crier.CodeBadSetAttr, entry(`{"sex":"a\u0000"}`): crier.CodeBadAttr,
	} {
		a.want(code, set, body)
	}
	for body, code := range map[string]crier.Code{
		entry(`["sex"]`): 0, entry(`["city"]`): 0, entry(`["level"]`): crier.CodeBadAttr, entry(`[5]`): crier.CodeBadRemoveAttr, entry(`5`): crier.CodeBadRemoveAttr, `{"UserAttrs":["x"]}`: crier.CodeBadRemoveAttr,
	} {
		a.want(code, remove, body)
	}
	a.want(0, set, `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}},{"To_Account":"b","Attrs":{"city":7}},{"To_Account":"a","Attrs":{"sex":"f","city":true}}]}`)
	a.want(0, "all_member_push/im_remove_attr", `{"Attrs":[{"To_Account":"a","Attrs":{"city":""}}]}`)
	got := a.want(0, get, `{"To_Account":["b","a"]}`)
	want := `[map[Attrs:map[city:7] To_Account:b] map[Attrs:map[sex:f] To_Account:a]]`
	if fmt.Sprint(got["UserAttrs"]) != want || fmt.Sprint(got["Attrs"]) != want {
		a.t.Errorf("attributes %v", got)
	}
	a.want(0, remove, entry(`["sex"]`))
	if got := fmt.Sprint(a.want(0, get, `{"To_Account":"a"}`)["UserAttrs"]); got != `[map[Attrs:map[] To_Account:a]]` {
		a.t.Errorf("an account without any: %s", got)
	}
	a.want(crier.CodeBadGetAttr, get, `{"To_Account":{}}`)
}

func tags(a *tenant) {
	a.accounts("a", "b")
	const add, remove, get, clear = "openim/im_add_tag", "openim/im_remove_tag", "openim/im_get_tag", "openim/im_remove_all_tags"
	entry := func(tags string) string { return `{"UserTags":[{"To_Account":"a","Tags":` + tags + `}]}` }
	long := strings.Repeat("x", 51)
	for _, path := range []string{remove, add} {
		for body, code := range map[string]crier.Code{
			entry(list(names("t", 10))): 0, entry(list(names("t", 11))): crier.CodeTooManyTags, entry(`["` + long[:50] + `"]`): 0, entry(`["` + long + `"]`): crier.CodeTagTooLong,
			entry(`[""]`): crier.CodeTagEmpty, entry(`[5]`): crier.CodeTagBadValue, entry(`5`): crier.CodeTagBadValue, entry(`null`): crier.CodeTagBadValue, entry(`["a\u0000"]`): crier.CodeTagBadValue,
			`{"UserTags":["x"]}`: crier.CodeTagBadValue,
		} {
			a.want(code, path, body)
		}
	}
	for i := 0; i < 90; i += 10 {
		a.want(0, add, entry(list(names(fmt.Sprint("n", i, "-"), 10)[:9])))
	}
	a.want(0, add, entry(list(names("last", 7))))
	a.want(crier.CodeAccountTagsFull, add, entry(`["one","two"]`))
	a.want(0, add, entry(`["one"]`))
	a.want(crier.CodeAccountTagsFull, add, entry(`["onemore"]`))
	a.want(0, add, entry(`["one","last1"]`))
	a.want(0, "all_member_push/im_remove_all_tags", `{"To_Account":["a"]}`)
	a.want(0, add, `{"Tags":[{"To_Account":"a","Tags":["z","y"]},{"To_Account":"b","Tags":["x"]}]}`)
	a.want(0, remove, `{"To_Account":"a","Tags":["z","not there"]}`)
	got := a.want(0, get, `{"To_Account":["a","b"]}`)
	want := `[map[Tags:[y] To_Account:a] map[Tags:[x] To_Account:b]]`
	if fmt.Sprint(got["UserTags"]) != want || fmt.Sprint(got["Tags"]) != want {
		a.t.Errorf("tags %v", got)
	}
	a.want(crier.CodeNoToAccount, get, `{"To_Account":5}`)
	a.want(crier.CodeNoToAccount, clear, `{"To_Account":5}`)
}

// accountLists: the number of accounts of a call, and what is no account.
func accountLists(a *tenant) {
	all := names("user", 501)
	a.accounts(all...)
	a.want(0, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
	entries := func(n int, rest string) string {
		list := make([]string, n)
		for i := range list {
			list[i] = `{"To_Account":"` + all[i] + `",` + rest + `}`
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	for path, c := range map[string]struct {
		most int
		body func(int) string
		one  string // an entry with %s for the account
	}{
		"openim/im_set_attr":        {500, func(n int) string { return `{"UserAttrs":` + entries(n, `"Attrs":{"sex":"m"}`) + `}` }, `{"UserAttrs":[{"To_Account":%s,"Attrs":{"sex":"m"}}]}`},
		"openim/im_remove_attr":     {500, func(n int) string { return `{"UserAttrs":` + entries(n, `"Attrs":["sex"]`) + `}` }, `{"UserAttrs":[{"To_Account":%s,"Attrs":["sex"]}]}`},
		"openim/im_add_tag":         {100, func(n int) string { return `{"UserTags":` + entries(n, `"Tags":["x"]`) + `}` }, `{"UserTags":[{"To_Account":%s,"Tags":["x"]}]}`},
		"openim/im_remove_tag":      {500, func(n int) string { return `{"UserTags":` + entries(n, `"Tags":["x"]`) + `}` }, `{"UserTags":[{"To_Account":%s,"Tags":["x"]}]}`},
		"openim/im_get_attr":        {500, func(n int) string { return `{"To_Account":` + list(all[:n]) + `}` }, `{"To_Account":[%s]}`},
		"openim/im_get_tag":         {500, func(n int) string { return `{"To_Account":` + list(all[:n]) + `}` }, `{"To_Account":[%s]}`},
		"openim/im_remove_all_tags": {500, func(n int) string { return `{"To_Account":` + list(all[:n]) + `}` }, `{"To_Account":[%s]}`},
	} {
		a.want(0, path, c.body(c.most-1))
		a.want(0, path, c.body(c.most))
		a.want(crier.CodeBadAccountCount, path, c.body(c.most+1))
		a.want(crier.CodeBadAccountCount, path, c.body(0))
		a.want(crier.CodeBadAccountCount, path, `{}`)
		for name, code := range map[string]crier.Code{
			`"user0"`: 0, `""`: crier.CodeBadAccount, `"` + strings.Repeat("x", 33) + `"`: crier.CodeBadAccount, `"` + strings.Repeat("x", 32) + `"`: crier.CodeUnknownAccount,
			`"a\u0000b"`: crier.CodeBadAccount, `5`: crier.CodeBadIdentifier, `{"a":1}`: crier.CodeBadIdentifier, `"nobody"`: crier.CodeUnknownAccount,
		} {
			a.want(code, path, fmt.Sprintf(c.one, name))
		}
	}
}

func accountCommands(a *tenant) {
	const svc = "im_open_login_svc/"
	for body, code := range map[string]crier.Code{
		`{"UserID":"a","Nick":"n","FaceUrl":"f"}`: 0, `{"Identifier":"b","Type":0}`: 0, `{"UserID":"` + strings.Repeat("x", 32) + `"}`: 0,
		`{"UserID":"` + strings.Repeat("x", 33) + `"}`: crier.CodeBadParameter, `{}`: crier.CodeBadParameter, `{"UserID":5}`: crier.CodeBadParameter, `{"UserID":"a","Nick":5}`: crier.CodeBadParameter,
	} {
		a.want(code, svc+"account_import", body)
	}
	if got := fmt.Sprint(a.want(0, svc+"multiaccount_import", `{"AccountList":[{"UserID":"c","Nick":"x"},{"UserID":"`+strings.Repeat("x", 33)+`"}]}`)["FailAccounts"]); got != "["+strings.Repeat("x", 33)+"]" {
		a.t.Errorf("FailAccounts %s", got)
	}
	a.want(0, svc+"multiaccount_import", `{"Accounts":`+list(names("m", 100))+`}`)
	a.want(crier.CodeBadParameter, svc+"multiaccount_import", `{"Accounts":`+list(names("m", 101))+`}`)
	a.want(crier.CodeBadParameter, svc+"multiaccount_import", `{"Accounts":[5]}`)
	a.want(crier.CodeBadParameter, svc+"multiaccount_import", `{}`)
	check := func() string {
		return fmt.Sprint(a.want(0, svc+"account_check", `{"CheckItem":[{"UserID":"a"},{"UserID":"nobody"},{"UserID":"c"}]}`)["ResultItem"])
	}
	item := func(user, status string) string {
		return "map[AccountStatus:" + status + " ResultCode:0 ResultInfo: UserID:" + user + "]"
	}
	if got, want := check(), "["+item("a", "Imported")+" "+item("nobody", "NotImported")+" "+item("c", "Imported")+"]"; got != want {
		a.t.Errorf("account_check %s", got)
	}
	a.want(crier.CodeBadParameter, svc+"account_check", `{"CheckItem":[{"UserID":""}]}`)
	a.want(0, svc+"kick", `{"Identifier":"a"}`)
	a.want(0, svc+"kick", `{"UserID":"a"}`)
	a.want(crier.CodeAccountMissing, svc+"kick", `{"UserID":"nobody"}`)
	a.want(crier.CodeBadParameter, svc+"kick", `{}`)
	got := fmt.Sprint(a.want(0, svc+"account_delete", `{"DeleteItem":[{"UserID":"a"},{"UserID":"nobody"}]}`)["ResultItem"])
	if want := "[map[ResultCode:0 ResultInfo: UserID:a] map[ResultCode:70107 ResultInfo:Err_TLS_PT_Open_Login_Account_Not_Exist UserID:nobody]]"; got != want {
		a.t.Errorf("account_delete %s", got)
	}
	if got, want := check(), "["+item("a", "NotImported")+" "+item("nobody", "NotImported")+" "+item("c", "Imported")+"]"; got != want {
		a.t.Errorf("after the deletion %s", got)
	}
	a.want(crier.CodeBadParameter, svc+"account_delete", `{"DeleteItem":[]}`)
}

func presence(a *tenant) {
	a.accounts("a", "b")
	for path, field := range map[string]string{"openim/querystate": "State", "openim/query_online_status": "Status"} {
		got := a.want(0, path, `{"To_Account":["a","nobody","b"],"IsNeedDetail":1}`)
		want := "[map[Detail:[] Status:Offline To_Account:a] map[Detail:[] Status:Offline To_Account:b]]"
		if field == "State" {
			want = "[map[Detail:[] State:Offline To_Account:a] map[Detail:[] State:Offline To_Account:b]]"
		}
		if fmt.Sprint(got["QueryResult"]) != want {
			a.t.Errorf("%s: %v", path, got["QueryResult"])
		}
		if got := fmt.Sprint(got["ErrorList"]); got != "[map[ErrorCode:70107 To_Account:nobody]]" {
			a.t.Errorf("%s: %s", path, got)
		}
		a.want(0, path, `{"To_Account":`+list(names("u", 500))+`}`)
		a.want(crier.CodeTooManyPresence, path, `{"To_Account":`+list(names("u", 501))+`}`)
		a.want(crier.CodeNoToAccount, path, `{}`)
		a.want(crier.CodeNoToAccount, path, `{"To_Account":5}`)
		a.want(crier.CodeBadIdentifier, path, `{"To_Account":[5]}`)
		a.want(crier.CodeBadAccount, path, `{"To_Account":[""]}`)
	}
}

func liberal(a *tenant) {
	a.accounts("a")
	a.want(0, "openim/im_set_attr_name", `{"AttrNames":["sex","city"],"Extra":null}`)
	for path, bodies := range map[string][]string{
		"openim/im_set_attr": {
			`{"UserAttrs":{"To_Account":"a","Attrs":{"sex":1}}}`, `{"To_Account":"a","Attrs":{"sex":true}}`, `{"Attrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]}`,
			`{"UserAttrs":[{"To_Account":"a","Attrs":[]}]}`, `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":null}}]}`,
		},
		"openim/im_remove_attr": {`{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}}]}`, `{"To_Account":"a","Attrs":["sex"]}`},
		"openim/im_add_tag":     {`{"Tags":[{"To_Account":"a","Tags":["x"]}]}`, `{"UserTags":{"To_Account":"a","Tags":["x"]}}`, `{"To_Account":"a","Tags":["x"]}`},
		"openim/im_get_tag":     {`{"To_Account":"a"}`},
	} {
		for _, body := range bodies {
			a.want(0, path, body)
		}
	}
	random++
	a.want(0, imPush, fmt.Sprintf(`{"MsgRandom":%d,"MsgType":"TIMTextElem","MsgContent":{"Text":"flat"}}`, random))
	random++
	a.want(0, imPush, fmt.Sprintf(`{"MsgRandom":%d,"MsgBody":{"MsgType":"TIMTextElem","MsgContent":{"Text":"one"}},"Condition":null,"From_Account":null}`, random))
}

// atomic: a call that fails has changed nothing.
func atomic(a *tenant) {
	users := names("user", 20)
	a.accounts(users...)
	a.want(0, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
	var tagged, set []string
	for _, u := range append(users, "nobody") {
		tagged = append(tagged, `{"To_Account":"`+u+`","Tags":["x"]}`)
		set = append(set, `{"To_Account":"`+u+`","Attrs":{"sex":"m"}}`)
	}
	if got := a.want(crier.CodeUnknownAccount, "openim/im_add_tag", `{"UserTags":[`+strings.Join(tagged, ",")+`]}`); !strings.Contains(fmt.Sprint(got["ErrorInfo"]), "nobody") {
		a.t.Errorf("the account is not named: %v", got)
	}
	a.want(crier.CodeUnknownAccount, "openim/im_set_attr", `{"UserAttrs":[`+strings.Join(set, ",")+`]}`)
	a.want(crier.CodeUnknownAccount, "openim/im_get_tag", `{"To_Account":["user0","nobody"]}`)
	for _, r := range a.want(0, "openim/im_get_tag", `{"To_Account":`+list(users)+`}`)["UserTags"].([]any) {
		if m := r.(map[string]any); fmt.Sprint(m["Tags"]) != "[]" {
			a.t.Errorf("changed: %v", m)
		}
	}
	for _, r := range a.want(0, "openim/im_get_attr", `{"To_Account":`+list(users)+`}`)["UserAttrs"].([]any) {
		if m := r.(map[string]any); fmt.Sprint(m["Attrs"]) != "map[]" {
			a.t.Errorf("changed: %v", m)
		}
	}
}
