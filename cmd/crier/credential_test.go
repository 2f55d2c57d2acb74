package main

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/webpush"
)

// What is uploaded of each kind of file.
func TestCredentialAdd(t *testing.T) {
	t.Setenv(passwordEnv, "of-the-environment")
	var got crier.Credential
	listed := `[]`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"credentials":`+listed+`}`)
			return
		}
		got = crier.Credential{}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPut || r.URL.Path != "/v1/apps/5/credentials" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		shown := got
		shown.Secret = nil
		_ = json.NewEncoder(w).Encode(shown)
	}))
	defer server.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const pem = "-----BEGIN PRIVATE KEY-----\nabc\n"
	p8, p12, password := file("AuthKey_KEY1234567.p8", pem), file("push.p12", "\x30\x82"), file("password.txt", "of-the-file\n")
	account := file("account.json", `{"project_id":"shop"}`)
	vapid := file("vapid.txt", base64.RawURLEncoding.EncodeToString(append(make([]byte, 31), 1))+"\n")
	add := func(args ...string) (string, error) {
		return run(t, append([]string{"app", "credential", "add", "5", "--url", server.URL, "--token", "secret"}, args...)...)
	}
	for _, c := range []struct {
		args []string
		want crier.Credential
	}{
		{
			[]string{"apns", "--file", p8, "--team-id", "TEAM123456", "--target", "com.example"},
			crier.Credential{Vendor: crier.APNs, Target: "com.example", Form: "p8", Params: map[string]string{"key_id": "KEY1234567", "team_id": "TEAM123456"}, Secret: []byte(pem)},
		},
		{
			[]string{"apns", "--file", p8, "--key-id", "K", "--team-id", "T", "--sandbox"},
			crier.Credential{Vendor: crier.APNs, Sandbox: true, Form: "p8", Params: map[string]string{"key_id": "K", "team_id": "T"}, Secret: []byte(pem)},
		},
		{
			[]string{"apns", "--file", p12},
			crier.Credential{Vendor: crier.APNs, Form: "p12", Params: map[string]string{"password": "of-the-environment"}, Secret: []byte("\x30\x82")},
		},
		{
			[]string{"apns", "--file", p12, "--password-file", password},
			crier.Credential{Vendor: crier.APNs, Form: "p12", Params: map[string]string{"password": "of-the-file"}, Secret: []byte("\x30\x82")},
		},
		{
			[]string{"fcm", "--file", account},
			crier.Credential{Vendor: crier.FCM, Target: "shop", Form: "service-account", Secret: []byte(`{"project_id":"shop"}`)},
		},
		{
			[]string{"webpush", "--file", vapid, "--subject", "mailto:a@example.com"},
			crier.Credential{Vendor: crier.WebPush, Form: "vapid", Params: map[string]string{"public_key": publicKey(t), "subject": "mailto:a@example.com"}, Secret: []byte(base64.RawURLEncoding.EncodeToString(append(make([]byte, 31), 1)))},
		},
	} {
		if _, err := add(c.args...); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %v\n got %+v\nwant %+v", c.args, err, got, c.want)
		}
	}
	out, err := add("webpush", "--generate", "--subject", "mailto:a@example.com")
	if _, bad := webpush.Check(got); err != nil || bad != nil || !strings.Contains(out, got.Params["public_key"]) || strings.Contains(out, string(got.Secret)) {
		t.Errorf("%v, %v\n%s", err, bad, out)
	}
	got, listed = crier.Credential{}, `[{"vendor":"webpush"}]`
	for _, args := range [][]string{
		{"huawei", "--file", p8},
		{"apns"},
		{"apns", "--generate"},
		{"webpush", "--generate", "--file", vapid},
		{"webpush", "--generate", "--subject", "mailto:a@example.com"},
		{"fcm", "--file", p8 + ".no"},
		{"webpush", "--file", account},
		{"apns", "--file", p12, "--password-file", password + ".no"},
	} {
		if out, err := add(args...); err == nil || got.Vendor != "" || strings.Contains(err.Error(), "shop") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// publicKey is that of the private key 1.
func publicKey(t *testing.T) string {
	t.Helper()
	key, err := ecdh.P256().NewPrivateKey(append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
}

func TestCredentialListAndRemove(t *testing.T) {
	t.Parallel()
	var removed string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			removed = r.URL.RequestURI()
		}
		_, _ = io.WriteString(w, `{"credentials":[{"vendor":"apns","target":"com.example","sandbox":true,"form":"p12","params":{"kind":"certificate","subject":"Push","expires":"2027-01-01T00:00:00Z"},"added":"2026-11-24T01:02:03Z"},
			{"vendor":"webpush","form":"vapid","params":{"kind":"vapid"},"added":"2026-11-24T01:02:03Z"}]}`)
	}))
	defer server.Close()
	at := []string{"--url", server.URL, "--token", "secret"}
	out, err := run(t, append([]string{"app", "credential", "list", "5"}, at...)...)
	const table = "VENDOR   TARGET       SANDBOX  KIND         KEY OR SUBJECT  EXPIRES               ADDED\n" +
		"apns     com.example  true     certificate  Push            2027-01-01T00:00:00Z  2026-11-24\n" +
		"webpush  -            false    vapid        -               -                     2026-11-24\n"
	if err != nil || out != table {
		t.Errorf("%v\n%s", err, out)
	}
	_, err = run(t, append([]string{"app", "credential", "remove", "5", "apns", "--target", "com.example", "--sandbox"}, at...)...)
	if err != nil || removed != "/v1/apps/5/credentials?sandbox=true&target=com.example&vendor=apns" {
		t.Errorf("%v, %s", err, removed)
	}
}

func TestDevicesList(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)
	url := answers(t, map[string]any{"/v1/apps/5/users/hua/devices": map[string]any{"devices": []map[string]any{{
		"vendor": "fcm", "token": "89abcdef", "platform": "Android", "registered": at, "last_seen": at.Add(time.Hour),
	}}}})
	out, err := run(t, "app", "devices", "5", "hua", "--url", url, "--token", "secret")
	const table = "VENDOR  TARGET  SANDBOX  PLATFORM  TOKEN      REGISTERED            LAST SEEN\n" +
		"fcm     -       false    Android   …89abcdef  2026-11-24T01:02:03Z  2026-11-24T02:02:03Z\n"
	if err != nil || out != table {
		t.Errorf("%v\n%s", err, out)
	}
}
