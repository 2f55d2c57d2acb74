package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// atomic is about calls that fail for one of many accounts, which are in many partitions:
// nothing of them is applied, and the answer names the account.
func atomic(t *testing.T, s *suite) {
	a := s.newTenant(t)
	var users []string
	for i := range 20 {
		users = append(users, fmt.Sprint("user", i))
	}
	a.accounts(t, users...)
	a.ok(t, "openim/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`)
	all := `{"To_Account":` + encode(users) + `}`
	read := func() string {
		return encode([]any{a.ok(t, "openim/im_get_tag", all)["UserTags"], a.ok(t, "openim/im_get_attr", all)["UserAttrs"]})
	}
	for i, u := range users {
		a.ok(t, "openim/im_add_tag", `{"To_Account":"`+u+`","Tags":["old"]}`)
		if i%2 == 0 {
			a.ok(t, "openim/im_set_attr", `{"To_Account":"`+u+`","Attrs":{"sex":"m"}}`)
		}
	}
	before := read()
	for path, c := range map[string]struct{ field, entry string }{
		"openim/im_add_tag":         {"UserTags", `{"To_Account":"%s","Tags":["new"]}`},
		"openim/im_remove_tag":      {"UserTags", `{"To_Account":"%s","Tags":["old"]}`},
		"openim/im_remove_all_tags": {"To_Account", `"%s"`},
		"openim/im_set_attr":        {"UserAttrs", `{"To_Account":"%s","Attrs":{"sex":"f"}}`},
		"openim/im_remove_attr":     {"UserAttrs", `{"To_Account":"%s","Attrs":["sex"]}`},
		"openim/im_get_tag":         {"To_Account", `"%s"`},
		"openim/im_get_attr":        {"To_Account", `"%s"`},
	} {
		for place, at := range map[string]int{"first": 0, "middle": 10, "last": 20} {
			t.Run("unknown account "+place+" in "+path, func(t *testing.T) {
				entries := list(21, func(i int) string {
					name := "nobody"
					if i < at {
						name = users[i]
					} else if i > at {
						name = users[i-1]
					}
					return fmt.Sprintf(c.entry, name)
				})
				r := a.want(t, crier.CodeUnknownAccount, path, `{"`+c.field+`":`+entries+`}`)
				if !strings.Contains(fmt.Sprint(r["ErrorInfo"]), "nobody") {
					t.Errorf("the account is not named: %v", r)
				}
			})
		}
	}
	if after := read(); after != before {
		t.Errorf("calls that failed changed\n%s to\n%s", before, after)
	}
}
