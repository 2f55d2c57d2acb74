package operator_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/crier-im/crier"
)

// FuzzBody sends a body to whatever takes one: no panic, always JSON, and what is refused changes no app.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"id":1400000002,"name":"x","admins":["a"],"limits":{"push_interval":1.5,"pushes_per_day":7}}`, `{"push_enabled":false,"admins":null}`, `{"limits":{"push_interval":"1.5s"}}`,
		`{"vendor":"apns","target":"com.example.app","secret":{"key":"x"}}`, `{"vendor":"fcm","token":"x","target":"p"}`, `{"partitions":[{"partition":"0","node":"a"}],"lost":["b"]}`,
		"", "null", "[]", `{"id":1,"id":2}`, "{\"name\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	routes := []struct{ method, path string }{
		{http.MethodPost, "/v1/apps"},
		{http.MethodPatch, "/v1/apps/1400000001"},
		{http.MethodPut, "/v1/apps/1400000001/credentials"},
		{http.MethodPost, "/v1/apps/1400000001/users/a/devices"},
		{http.MethodPost, "/v1/cluster/recovery"},
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, r := range routes {
			s := newServer()
			s.apps[1400000001] = &crier.App{ID: 1400000001, Key: "key", Admins: []crier.UserID{"admin"}}
			before := dump(t, s)
			status, answer := send(s.handler, "Bearer "+token, r.method, r.path, body)
			switch {
			case !json.Valid([]byte(answer)) || status >= http.StatusInternalServerError:
				t.Fatalf("%s %s %q: %d %s", r.method, r.path, body, status, answer)
			case status >= http.StatusBadRequest && dump(t, s) != before:
				t.Fatalf("%s %s %q was refused with %d, and has changed %s to %s", r.method, r.path, body, status, before, dump(t, s))
			}
		}
	})
}

// dump returns the apps as text.
func dump(t *testing.T, s *server) string {
	t.Helper()
	text, err := json.Marshal(s.apps)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
