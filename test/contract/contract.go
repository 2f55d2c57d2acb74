// Package contract checks a live server against the wire contract of the REST
// API: every command, every limit at its edges, every code that can be provoked from outside.
package contract

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/rest"
	"github.com/crier-im/crier/usersig"
)

// Target is the server under test.
type Target struct {
	URL      string // as https://host:port
	Operator string // token of the operator's API
}

// admin is who calls, unless a case says otherwise.
const admin = "administrator"

// Run checks the server. It makes apps of its own, with random ids, and leaves them there.
func Run(t *testing.T, target Target) {
	s := &suite{
		target: target, seen: newRecord(),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test server's own certificate
		}},
	}
	defer s.client.CloseIdleConnections()
	t.Run("cases", func(t *testing.T) {
		for name, f := range map[string]func(*testing.T, *suite){
			"envelope": envelope, "sign-on": signOn, "apps": switches, "names": names, "attributes": attributes, "tags": tags,
			"counts": counts, "push": pushes, "conditions": conditions, "elements": elements, "offline": offline,
			"atomic": atomic, "types": types, "limits": limits, "bad input": badInput, "liberal forms": liberal, "operator": operator, "logins": refusedLogins,
			"reports": reports, "accounts": logins, "presence": presence, "sweep": sweep,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(t, s)
			})
		}
	})
	if !t.Failed() {
		for _, gap := range s.seen.gaps() {
			t.Error(gap)
		}
	}
}

// suite is one run: the server, and what it has answered.
type suite struct {
	target Target
	client *http.Client
	seen   *record
}

// path returns a command with the first of its prefixes.
func (s *suite) path(command string) string {
	for _, c := range rest.Commands() {
		if c.Name == command {
			return c.Services[0] + "/" + command
		}
	}
	panic("no command " + command) // a mistake in a case
}

// tenant is a fresh app and its admin.
type tenant struct {
	*suite
	id  crier.AppID
	key string
}

// reply is the body of an answer.
type reply map[string]any

func (r reply) code() crier.Code {
	n, _ := r["ErrorCode"].(float64)
	return crier.Code(n)
}

// operate calls the operator's API and returns its answer.
func (s *suite) operate(t *testing.T, method, path, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.target.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.target.Operator)
	status, text := s.do(t, req)
	var r reply
	if err := json.Unmarshal(text, &r); err != nil || status >= 300 {
		t.Fatalf("%s %s: %d %s (%v)", method, path, status, text, err)
	}
	return r
}

func (s *suite) do(t *testing.T, req *http.Request) (int, []byte) {
	t.Helper()
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, text
}

// newTenant makes an app without limits on the number of calls and pushes.
func (s *suite) newTenant(t *testing.T) *tenant {
	t.Helper()
	id := crier.AppID(rand.Uint32N(1<<31)) + 1
	r := s.operate(t, http.MethodPost, "/v1/apps", fmt.Sprintf(
		`{"id":%d,"name":"contract","limits":{"push_interval":0,"pushes_per_day":0,"calls_per_second":0}}`, id))
	key, _ := r["key"].(string)
	return &tenant{suite: s, id: id, key: key}
}

// patch changes the app.
func (a *tenant) patch(t *testing.T, body string) {
	t.Helper()
	a.operate(t, http.MethodPatch, "/v1/apps/"+a.id.String(), body)
}

// query returns the parameters of a good call.
func (a *tenant) query(user string) url.Values {
	return url.Values{
		"sdkappid": {a.id.String()}, "identifier": {user}, "random": {"1"}, "contenttype": {"json"},
		"usersig": {usersig.Sign(a.key, a.id, crier.UserID(user), time.Now(), time.Hour, nil)},
	}
}

// call calls a command, given as service/name, as the admin.
func (a *tenant) call(t *testing.T, path, body string) reply {
	t.Helper()
	return a.raw(t, http.MethodPost, path, a.query(admin).Encode(), body, "application/json")
}

// raw makes a call with a body of text, as send.
func (a *tenant) raw(t *testing.T, method, path, query, body, contentType string) reply {
	t.Helper()
	r := a.send(t, method, path, query, strings.NewReader(body), contentType)
	a.seen.call(path, body, r)
	return r
}

// send makes a call, and checks what holds for every answer: status 200, the
// three fields, each coherent with the others.
func (a *tenant) send(t *testing.T, method, path, query string, body io.Reader, contentType string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.target.URL+"/v4/"+path+"?"+query, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	status, text := a.do(t, req)
	var r reply
	if err := json.Unmarshal(text, &r); err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d, %s (%v)", path, status, text, err)
	}
	outcome, isText := r["ActionStatus"].(string)
	info, hasInfo := r["ErrorInfo"].(string)
	_, isNumber := r["ErrorCode"].(float64)
	ok := r.code() == 0
	if !isText || !hasInfo || !isNumber || ok != (outcome == "OK") || !ok != (outcome == "FAIL") || ok != (info == "") {
		t.Errorf("%s: the three fields are not coherent: %s", path, text)
	}
	if bytes.Contains(text, []byte(a.key)) {
		t.Errorf("%s: the answer has the key", path)
	}
	return r
}

// ok makes a call that must succeed.
func (a *tenant) ok(t *testing.T, path, body string) reply {
	t.Helper()
	r := a.call(t, path, body)
	if r.code() != 0 {
		t.Errorf("%s %.100s: %v", path, body, r)
	}
	return r
}

// want makes a call that must end with the code.
func (a *tenant) want(t *testing.T, code crier.Code, path, body string) reply {
	t.Helper()
	r := a.call(t, path, body)
	if r.code() != code {
		t.Errorf("%s %.100s: %v, want %v", path, body, r, code)
	}
	return r
}

// fails makes a call for each value, put in the place of %s in the body; all must end with the code.
func (a *tenant) fails(t *testing.T, code crier.Code, path, body string, values ...string) {
	t.Helper()
	for _, v := range values {
		a.want(t, code, path, strings.Replace(body, "%s", v, 1))
	}
}

// passes makes a call for each value, put in the place of %s in the body; all must succeed.
func (a *tenant) passes(t *testing.T, path, body string, values ...string) {
	t.Helper()
	a.fails(t, 0, path, body, values...)
}

// accounts imports accounts.
func (a *tenant) accounts(t *testing.T, names ...string) {
	t.Helper()
	for len(names) > 0 {
		n := min(len(names), 100)
		a.ok(t, login+"multiaccount_import", `{"Accounts":`+encode(names[:n])+`}`)
		names = names[n:]
	}
}

// equal compares a field of an answer with JSON text.
func equal(t *testing.T, r reply, field, want string) {
	t.Helper()
	if got := encode(r[field]); got != want {
		t.Errorf("%s is %s, want %s (%v)", field, got, want, r)
	}
}

// encode returns the JSON text of a value.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers, maps and lists of them always marshal
	}
	return string(text)
}

// list returns a JSON array of n elements; f gives the JSON text of each.
func list(n int, f func(i int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = f(i)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// numbered returns a JSON array of n strings.
func numbered(prefix string, n int) string {
	return list(n, func(i int) string { return fmt.Sprintf(`"%s%d"`, prefix, i) })
}

// text returns a JSON string of n bytes.
func text(n int) string { return `"` + strings.Repeat("x", n) + `"` }
