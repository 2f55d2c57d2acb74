package contract

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

// limitCases has a case for each setting of crier.Limits, by its name: one under the limit and at the
// limit pass, one over is refused with its code, and 0 is no limit.
var limitCases = map[string]func(*testing.T, *tenant){
	"push_interval":     pushInterval,
	"pushes_per_day":    pushesPerDay,
	"kept_pushes":       keptPushes,
	"msg_random_window": randomWindow,
	"calls_per_second":  callsPerSecond,
	"push_body_bytes":   pushBodyBytes,
	"body_bytes":        bodyBytes,
	"accounts_per_call": func(t *testing.T, a *tenant) {
		for path, c := range accountCalls {
			if path != "openim/im_add_tag" {
				a.counted(t, "accounts_per_call", c.code, path, c.body)
			}
		}
	},
	"add_tag_accounts": func(t *testing.T, a *tenant) {
		a.counted(t, "add_tag_accounts", crier.CodeBadAccountCount, "openim/im_add_tag", accountCalls["openim/im_add_tag"].body)
	},
	"imports_per_call": func(t *testing.T, a *tenant) {
		for _, c := range [][2]string{
			{"multiaccount_import", "Accounts"},
			{"multiaccount_import", "AccountList"},
			{"account_check", "CheckItem"},
			{"account_delete", "DeleteItem"},
		} {
			a.counted(t, "imports_per_call", crier.CodeBadParameter, login+c[0], func(n int) string { return `{"` + c[1] + `":` + numbered("u", n) + `}` })
		}
	},
	"tags_per_call": func(t *testing.T, a *tenant) {
		for _, path := range []string{"openim/im_add_tag", "openim/im_remove_tag"} {
			a.counted(t, "tags_per_call", crier.CodeTooManyTags, path, func(n int) string { return `{"To_Account":"u0","Tags":` + numbered("x", n) + `}` })
		}
	},
	"tags_per_account": func(t *testing.T, a *tenant) {
		a.counted(t, "tags_per_account", crier.CodeAccountTagsFull, "openim/im_add_tag", func(n int) string { return `{"To_Account":"u0","Tags":` + numbered("x", n) + `}` })
	},
	"sessions_per_user":  sessionsPerUser,
	"in_flight_messages": inFlightMessages,
	"devices_per_user":   devicesPerUser,
	"fallback_after":     fallbackAfter,
}

// defaults are what an app has that was made without limits of its own.
const defaults = `{"accounts_per_call":500,"add_tag_accounts":100,"body_bytes":1048576,"calls_per_second":100,"devices_per_user":10,"fallback_after":10,"imports_per_call":100,"in_flight_messages":32,` +
	`"kept_pushes":1000,"msg_random_window":604800,"push_body_bytes":10240,"push_interval":1,"pushes_per_day":100,"sessions_per_user":10,"tags_per_account":100,"tags_per_call":10}`

// limits is about the settings of an app that bound what its back end may do.
func limits(t *testing.T, s *suite) {
	names := reflect.TypeFor[crier.Limits]()
	for i := range names.NumField() {
		name := names.Field(i).Tag.Get("json")
		f := limitCases[name]
		if f == nil {
			t.Errorf("no case for the limit %s", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			a := s.newTenant(t)
			a.accounts(t, "u0", "u1", "u2", "u3")
			a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
			f(t, a)
		})
	}
	t.Run("defaults", func(t *testing.T) {
		a := s.newTenant(t)
		made := s.operate(t, http.MethodPost, "/v1/apps", fmt.Sprintf(`{"id":%d}`, a.id^1<<31))
		equal(t, made, "limits", defaults)
		a.patch(t, `{"limits":{"pushes_per_day":100}}`)
		p := new(pusher)
		for range 100 {
			a.ok(t, push, p.body(``))
		}
		a.want(t, crier.CodePushQuota, push, p.body(``))
	})
}

// limit sets a limit.
func (a *tenant) limit(t *testing.T, name string, value any) {
	t.Helper()
	a.patch(t, fmt.Sprintf(`{"limits":{"%s":%v}}`, name, value))
}

// counted makes calls with 2, 3 and 4 of what a limit of 3 counts, and with 4 under no limit.
func (a *tenant) counted(t *testing.T, name string, code crier.Code, path string, body func(n int) string) {
	t.Helper()
	a.limit(t, name, 3)
	a.passes(t, path, `%s`, body(2), body(3))
	a.want(t, code, path, body(4))
	a.limit(t, name, 0)
	a.ok(t, path, body(4))
}

// accountCall is a command that takes a number of accounts, u0 on.
type accountCall struct {
	body func(n int) string
	code crier.Code // of one account too many
	most int        // by default
}

func accountBody(field, entry string) func(n int) string {
	return func(n int) string {
		return `{"` + field + `":` + list(n, func(i int) string { return fmt.Sprintf(entry, i) }) + `}`
	}
}

var accountCalls = map[string]accountCall{
	"openim/im_set_attr":         {accountBody("UserAttrs", `{"To_Account":"u%d","Attrs":{"sex":"m"}}`), crier.CodeBadAccountCount, 500},
	"openim/im_remove_attr":      {accountBody("UserAttrs", `{"To_Account":"u%d","Attrs":["sex"]}`), crier.CodeBadAccountCount, 500},
	"openim/im_get_attr":         {accountBody("To_Account", `"u%d"`), crier.CodeBadAccountCount, 500},
	"openim/im_add_tag":          {accountBody("UserTags", `{"To_Account":"u%d","Tags":["x"]}`), crier.CodeBadAccountCount, 100},
	"openim/im_remove_tag":       {accountBody("UserTags", `{"To_Account":"u%d","Tags":["x"]}`), crier.CodeBadAccountCount, 500},
	"openim/im_get_tag":          {accountBody("To_Account", `"u%d"`), crier.CodeBadAccountCount, 500},
	"openim/im_remove_all_tags":  {accountBody("To_Account", `"u%d"`), crier.CodeBadAccountCount, 500},
	"openim/querystate":          {accountBody("To_Account", `"u%d"`), crier.CodeTooManyPresence, 500},
	"openim/query_online_status": {accountBody("To_Account", `"u%d"`), crier.CodeTooManyPresence, 500},
}

// counts is about how many accounts a call takes by default: 501 of them are too many.
func counts(t *testing.T, s *suite) {
	a := s.newTenant(t)
	var users []string
	for i := range 501 {
		users = append(users, fmt.Sprint("u", i))
	}
	a.accounts(t, users...)
	a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
	for path, c := range accountCalls {
		t.Run(path, func(t *testing.T) {
			a.passes(t, path, `%s`, c.body(1), c.body(c.most-1), c.body(c.most))
			a.want(t, c.code, path, c.body(c.most+1))
			none := c.code
			if none == crier.CodeTooManyPresence {
				none = crier.CodeNoToAccount
			}
			field, _, _ := strings.Cut(c.body(0), ":")
			a.fails(t, none, path, `%s`, ``, `{}`, field+`:null}`, c.body(0))
		})
	}
}

func pushInterval(t *testing.T, a *tenant) {
	p := new(pusher)
	a.ok(t, push, p.body(``))
	a.limit(t, "push_interval", 3600)
	p.each(t, a, crier.CodePushTooSoon, ``, ``)
	a.limit(t, "push_interval", 0.05)
	time.Sleep(60 * time.Millisecond) // the interval itself
	p.each(t, a, 0, ``, ``)
	a.limit(t, "push_interval", `"1h"`)
	p.each(t, a, crier.CodePushTooSoon, ``, ``)
	a.limit(t, "push_interval", 0)
	p.each(t, a, 0, ``, ``, ``)
}

func pushesPerDay(t *testing.T, a *tenant) {
	p := new(pusher)
	a.limit(t, "pushes_per_day", 3)
	p.each(t, a, 0, ``, ``, ``, ``)
	p.each(t, a, crier.CodePushQuota, ``, ``)
	failed := p.body(``)
	a.want(t, crier.CodePushQuota, push, failed)
	a.patch(t, `{"limits":{"pushes_per_day":4,"push_interval":3600}}`)
	a.want(t, crier.CodePushTooSoon, push, failed)
	a.limit(t, "push_interval", 0)
	a.ok(t, push, failed) // its MsgRandom was not used up
	p.each(t, a, crier.CodePushQuota, ``, ``)
	a.limit(t, "pushes_per_day", 0)
	p.each(t, a, 0, ``, ``)
}

func keptPushes(t *testing.T, a *tenant) {
	p := new(pusher)
	a.limit(t, "kept_pushes", 3)
	p.each(t, a, 0, `,"MsgLifeTime":60`, ``, ``, ``)
	p.each(t, a, crier.CodePushQuota, `,"MsgLifeTime":60`, ``)
	p.each(t, a, 0, ``, ``) // not kept
	a.limit(t, "kept_pushes", 0)
	p.each(t, a, 0, `,"MsgLifeTime":60`, ``)
}

func randomWindow(t *testing.T, a *tenant) {
	body := `{"MsgRandom":77,"MsgBody":` + hello + `%s}`
	a.want(t, crier.CodeBadLifeTime, push, strings.Replace(body, "%s", `,"MsgLifeTime":-1`, 1))
	first := a.ok(t, push, strings.Replace(body, "%s", ``, 1)) // a failed call has not used it
	for _, more := range []string{``, `,"MsgLifeTime":5`} {
		if again := a.want(t, crier.CodePushRepeated, push, strings.Replace(body, "%s", more, 1)); again["TaskId"] != first["TaskId"] {
			t.Errorf("the repeated push has TaskId %v, the first one %v", again["TaskId"], first["TaskId"])
		}
	}
	a.limit(t, "msg_random_window", 0)
	a.passes(t, push, body, ``, ``)
	a.limit(t, "msg_random_window", 1)
	a.ok(t, push, `{"MsgRandom":78,"MsgBody":`+hello+`}`)
	time.Sleep(1100 * time.Millisecond) // the window itself
	a.ok(t, push, `{"MsgRandom":78,"MsgBody":`+hello+`}`)
}

func callsPerSecond(t *testing.T, a *tenant) {
	const path = "openim/im_get_attr_name"
	a.limit(t, "calls_per_second", 2)
	a.passes(t, path, `%s`, `{}`, `{}`)
	var limited bool
	for range 20 {
		limited = limited || a.call(t, path, `{}`).code() == crier.CodeRateLimited
	}
	if !limited {
		t.Error("22 calls in a row were within 2 a second")
	}
	a.ok(t, "openim/im_get_attr", `{"To_Account":["u0"]}`) // each command has a limit of its own
	p := new(pusher)
	p.each(t, a, 0, ``, ``, ``, ``, ``) // im_push has none, but its interval
	a.limit(t, "calls_per_second", 0)
	for range 20 {
		a.ok(t, path, `{}`)
	}
}

func pushBodyBytes(t *testing.T, a *tenant) {
	p := new(pusher)
	for _, most := range []int{10 << 10, 1000} { // the default, and another
		a.limit(t, "push_body_bytes", most)
		full := func(n int) string { return filled(p.body(`,"x":"%s"`), n) }
		a.passes(t, push, `%s`, padded(p.body(``), most-1), padded(p.body(``), most), full(most-1), full(most))
		a.fails(t, crier.CodePushBodyTooLarge, push, `%s`, padded(p.body(``), most+1), full(most+1), full(11<<10))
	}
	a.limit(t, "push_body_bytes", 0)
	a.ok(t, push, padded(p.body(``), 100<<10))
}

func bodyBytes(t *testing.T, a *tenant) {
	const path = "openim/im_get_attr_name"
	for _, most := range []int{1 << 20, 1000} { // the default, and another
		a.limit(t, "body_bytes", most)
		a.passes(t, path, "%s", padded("{}", most-1), padded("{}", most), filled(`{"x":"%s"}`, most))
		a.fails(t, crier.CodeBodyTooLarge, path, "%s", padded("{}", most+1), filled(`{"x":"%s"}`, most+1))
	}
	a.limit(t, "body_bytes", 0)
	a.ok(t, path, padded("{}", 2<<20))
}
