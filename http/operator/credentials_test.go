package operator_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

// cover is Credentials that take every secret but "bad", and seal by reversing.
type cover struct{}

func (cover) CheckCredential(c crier.Credential) (map[string]string, error) {
	if string(c.Secret) == "bad" || !c.Vendor.Valid() {
		return nil, crier.Errorf(crier.CodeBadParameter, "secret or vendor is wrong")
	}
	return map[string]string{"kind": c.Form, "key_id": c.Params["key_id"]}, nil
}

func (cover) Seal(_ crier.AppID, c crier.Credential) (crier.Credential, error) {
	c.Secret = slices.Clone(c.Secret)
	slices.Reverse(c.Secret)
	return c, nil
}

const (
	credentials = "/v1/apps/1/credentials"
	secretText  = "-----BEGIN PRIVATE KEY-----\\nabcdefg\\n-----END PRIVATE KEY-----\\n"
)

// hides fails where a text has a secret, sealed or not, in any form.
func hides(t *testing.T, text string, c crier.Credential) {
	t.Helper()
	for _, secret := range []string{"abcdefg", "gfedcba", "the-password", base64.StdEncoding.EncodeToString(c.Secret), `"secret"`} {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows in %s", secret, text)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1,"name":"shop"}`)
	if got := s.want(t, http.StatusOK, http.MethodGet, credentials, ""); got != `{"credentials":[]}` {
		t.Error(got)
	}
	put := `{"vendor":"apns","target":"com.example","form":"p8","params":{"key_id":"K1","password":"the-password"},"secret":"` + secretText + `"}`
	shown := s.want(t, http.StatusOK, http.MethodPut, credentials, put)
	c := s.apps[1].Credentials[0]
	if !strings.Contains(string(c.Secret), "gfedcba") || c.Params["kind"] != "p8" || c.Params["password"] != "" || time.Since(c.Added) > time.Minute {
		t.Errorf("kept %+v", c)
	}
	if !strings.HasPrefix(shown, `{"vendor":"apns","target":"com.example","form":"p8","params":{"key_id":"K1","kind":"p8"},"added":"20`) {
		t.Error(shown)
	}
	for _, text := range []string{
		shown, s.want(t, http.StatusOK, http.MethodGet, credentials, ""), s.want(t, http.StatusOK, http.MethodGet, "/v1/apps", ""),
		s.want(t, http.StatusOK, http.MethodGet, "/v1/apps/1", ""), s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"name":"store"}`),
		s.want(t, http.StatusOK, http.MethodPost, "/v1/apps/1/rotate-key", ``), s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"credentials":null}`),
	} {
		hides(t, text, c)
	}
	if kept := s.apps[1].Credentials; len(kept) != 1 || string(kept[0].Secret) != string(c.Secret) {
		t.Errorf("other changes made it %+v", kept)
	}
	// The same place is replaced, and looks later even where the clock stands; another one is added.
	s.want(t, http.StatusOK, http.MethodPut, credentials, strings.Replace(put, "K1", "K2", 1))
	s.want(t, http.StatusOK, http.MethodPut, credentials, strings.Replace(put, `"form"`, `"sandbox":true,"form"`, 1))
	kept := s.apps[1].Credentials
	if len(kept) != 2 || kept[0].Params["key_id"] != "K2" || !kept[0].Added.After(c.Added) || !kept[1].Sandbox {
		t.Errorf("kept %+v", kept)
	}
	if c.Params["key_id"] != "K1" {
		t.Error("the old value, which others read, was written to")
	}
	for query, status := range map[string]int{
		"vendor=apns&target=com.example&sandbox=yes": 400, "vendor=apns": 404, "vendor=fcm&target=com.example": 404, "": 404,
		"vendor=apns&target=com.example": 200,
	} {
		hides(t, s.want(t, status, http.MethodDelete, credentials+"?"+query, ""), c)
	}
	if left := s.apps[1].Credentials; len(left) != 1 || !left[0].Sandbox || len(kept) != 2 || kept[1].Vendor == "" {
		t.Errorf("left %+v of %+v", left, kept)
	}
	if got := s.want(t, http.StatusOK, http.MethodDelete, credentials+"?vendor=apns&target=com.example&sandbox=true", ""); got != `{"credentials":[]}` {
		t.Error(got)
	}
}

func TestCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	for body, what := range map[string]string{
		`{"vendor":"apns","secret":"bad"}`: "secret", `{"vendor":"huawei","secret":"x"}`: "vendor", `{}`: "vendor", ``: "vendor", `{"vendor":"fcm","added":"x"}`: "added",
		`{"vendor":"fcm","secret":5}`: "secret", `{"vendor":"fcm","secret":"` + strings.Repeat("x", 70_000) + `"}`: "65536",
	} {
		s.says(t, http.MethodPut, credentials, body, what)
	}
	given := `"credentials":[{"vendor":"fcm","form":"x","secret":"YWJjZGVmZw=="}]`
	s.says(t, http.MethodPost, "/v1/apps", `{"id":2,`+given+`}`, "credentials")
	s.says(t, http.MethodPatch, "/v1/apps/1", `{`+given+`}`, "credentials")
	if len(s.apps) != 1 || s.apps[1].Credentials != nil {
		t.Errorf("%+v", s.apps)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		s.want(t, http.StatusNotFound, method, "/v1/apps/9/credentials", `{"vendor":"fcm","secret":"x"}`)
	}
	for i := range 51 {
		status := http.StatusOK
		if i == 50 {
			status = http.StatusBadRequest
		}
		s.want(t, status, http.MethodPut, credentials, fmt.Sprintf(`{"vendor":"fcm","target":"p%d","secret":"x"}`, i))
	}
	s.err = crier.Errorf(crier.CodeTimeout, "the partition is busy")
	s.want(t, http.StatusServiceUnavailable, http.MethodPut, credentials, `{"vendor":"fcm","target":"p1","secret":"x"}`)
	s.want(t, http.StatusServiceUnavailable, http.MethodDelete, credentials+"?vendor=fcm&target=p1", "")
}

// A document that was read can be sent back with a change, as can its credentials; a change of those can't, nor
// does one that is refused write into what others read.
func TestDocumentOfCredentialsGoesBack(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	s.want(t, http.StatusOK, http.MethodPut, credentials, `{"vendor":"fcm","target":"p","form":"f","params":{"key_id":"K1"},"secret":"x"}`)
	var doc struct {
		Credentials json.RawMessage `json:"credentials"`
	}
	if err := json.Unmarshal([]byte(s.want(t, http.StatusOK, http.MethodGet, "/v1/apps/1", "")), &doc); err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusOK, http.MethodPatch, "/v1/apps/1", `{"name":"new","credentials":`+string(doc.Credentials)+`}`)
	for _, change := range [][2]string{{`"K1"`, `"K2"`}, {`"p"`, `"q"`}, {`"form"`, `"sandbox":true,"form"`}, {`"added":"2`, `"added":"3`}, {`"form"`, `"secret":"eA==","form"`}} {
		body := `{"credentials":` + strings.Replace(string(doc.Credentials), change[0], change[1], 1) + `}`
		s.says(t, http.MethodPatch, "/v1/apps/1", body, "credentials")
	}
	s.says(t, http.MethodPatch, "/v1/apps/1", `{"credentials":[]}`, "credentials")
	if c := s.apps[1].Credentials[0]; c.Params["key_id"] != "K1" || string(c.Secret) != "x" || s.apps[1].Name != "new" {
		t.Errorf("%+v", c)
	}
}

// The secret is base64, or the text itself.
func TestSecretForms(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":1}`)
	for given, want := range map[string]string{"YWJj": "cba", "{ab": "ba{", "q1-_w": "w_-1q", "-----BEGIN": "NIGEB-----"} {
		s.want(t, http.StatusOK, http.MethodPut, credentials, `{"vendor":"fcm","secret":"`+given+`"}`)
		if got := string(s.apps[1].Credentials[0].Secret); got != want {
			t.Errorf("%s: %s", given, got)
		}
	}
}
