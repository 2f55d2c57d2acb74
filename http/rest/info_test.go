package rest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// In a call with many accounts, ErrorInfo says which of them, and which field.
func TestErrorInfoSaysWhere(t *testing.T) {
	t.Parallel()
	h, query := handler()
	long := strings.Repeat("x", 501)
	for _, c := range []struct {
		path, body, info string
	}{
		{"openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]},{"To_Account":"b","Tags":["x",""]}]}`, `entry 1, account "b": Tags[1]: a tag is empty`},
		{"openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]},{"To_Account":"b","Tags":5}]}`, `entry 1, account "b": Tags is not an array of strings`},
		{"openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]},{"Tags":["x"]}]}`, `entry 1: To_Account is missing`},
		{"openim/im_add_tag", `{"UserTags":[{"To_Account":"a","Tags":["x"]},{"To_Account":"","Tags":["x"]}]}`, `entry 1: To_Account: an account name is empty`},
		{"openim/im_remove_tag", `{"UserTags":[{"To_Account":"b"}]}`, `entry 0, account "b": Tags is missing`},
		{"openim/im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{}},{"To_Account":"b","Attrs":{"sex":""}}]}`, `entry 1, account "b": the value of attribute "sex" is empty`},
		{"openim/im_set_attr", `{"UserAttrs":[{"To_Account":"a","Attrs":{}},{"To_Account":"b","Attrs":{"sexx":"m"}}]}`, `entry 1, account "b": the app has not set an attribute "sexx"`},
		{"openim/im_remove_attr", `{"UserAttrs":[{"To_Account":"b","Attrs":["sexx"]}]}`, `entry 0, account "b": the app has not set an attribute "sexx"`},
		{"openim/im_get_tag", `{"To_Account":["a",""]}`, `To_Account[1]: an account name is empty`},
		{"openim/im_get_attr", `{"To_Account":["a",5]}`, `To_Account[1] is not a string`},
		{"openim/im_push", `{"MsgRandom":1,"MsgType":"TIMTextElem","MsgContent":{"Text":"x"},"From_Account":""}`, `From_Account: an account name is empty`},
		{"im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"a"},{"UserID":5}]}`, `CheckItem[1]: UserID is missing or not a string`},
		{"im_open_login_svc/account_delete", `{"DeleteItem":[{"UserID":"a"},{"UserID":""}]}`, `DeleteItem[1]: UserID: an account name is empty`},
		{"im_open_login_svc/multiaccount_import", `{"Accounts":["a",5]}`, `Accounts[1] is neither a name nor an object with a UserID`},
		{"im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"a"},{"UserID":"b","Nick":"` + long + `"}]}`, `AccountList[1]: Nick is not a string of at most 500 bytes`},
		{"im_open_login_svc/multiaccount_import", `{"Accounts":[]}`, `Accounts has no account or too many, it must have 1 to 100`},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/"+c.path+"?"+query, strings.NewReader(c.body)))
		var answer struct {
			ErrorCode crier.Code
			ErrorInfo string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.ErrorCode == 0 || answer.ErrorInfo != c.info {
			t.Errorf("%s %.100s: %s, want %s", c.path, c.body, w.Body, c.info)
		}
	}
}
