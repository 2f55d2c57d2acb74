package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/fcm"
	"github.com/crier-im/crier/vendors/webpush"
)

// runSim runs a simulator until it has said what to do, calls use with its address, and stops it.
func runSim(t *testing.T, use func(url string), args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	root := newRoot()
	root.SetOut(w)
	root.SetArgs(args)
	ended := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(ctx)
		w.CloseWithError(io.EOF)
		ended <- err
	}()
	url := ""
	for lines := bufio.NewScanner(r); url == "" && lines.Scan(); {
		if _, after, ok := strings.Cut(lines.Text(), "curl -s "); ok {
			url = strings.TrimSuffix(after, "/messages")
		}
	}
	if url == "" {
		t.Fatal(<-ended)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	use(url)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readCredential(t *testing.T, dir string) (c crier.Credential) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, simCredential))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func demoPush(d *crier.Device) *crier.DevicePush {
	return &crier.DevicePush{Task: "1_2_3_4", Device: d, Message: &crier.Message{Offline: crier.OfflinePush{Desc: "hello"}}}
}

// The credential that a simulator writes works, and after a restart too.
func TestFCMSim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var first crier.Credential
	for range 2 {
		runSim(t, func(url string) {
			c := readCredential(t, dir)
			if first.Secret == nil {
				first = c
			}
			sender, err := fcm.New(first, fcm.Options{Endpoint: url, TokenURL: url + "/token"})
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			if o := sender.Send(t.Context(), demoPush(&crier.Device{Token: "phone"})); o.Class != crier.OutcomeAccepted {
				t.Errorf("%+v", o)
			}
			if got := get(t, url+"/messages"); !strings.Contains(got, `"body":"hello"`) {
				t.Error(got)
			}
		}, "fcm-sim", "--listen", "127.0.0.1:0", "--dir", dir)
	}
}

func TestWebPushSim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runSim(t, func(url string) {
		sender, err := webpush.New(readCredential(t, dir), webpush.Options{AllowHTTP: true, AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer sender.Close()
		for id, want := range map[string]crier.OutcomeClass{"phone": crier.OutcomeAccepted, "410-gone": crier.OutcomeGone} {
			token, err := os.ReadFile(filepath.Join(dir, "subscription-"+id+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if o := sender.Send(t.Context(), demoPush(&crier.Device{Token: string(token)})); o.Class != want {
				t.Errorf("%s: %+v", id, o)
			}
		}
		if got := get(t, url+"/messages"); !strings.Contains(got, `"body":"hello"`) {
			t.Error(got)
		}
	}, "webpush-sim", "--listen", "127.0.0.1:0", "--dir", dir)
	if _, err := run(t, "webpush-sim", "--listen", "127.0.0.1:0", "--dir", dir, "--subscriptions", "a/b"); err == nil {
		t.Error("an id with a slash was taken")
	}
}
