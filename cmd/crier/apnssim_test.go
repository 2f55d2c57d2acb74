package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/apnssim"
)

// What apns-sim prints and writes is enough to send a push to it and to see it on the page; the next start takes the same key.
func TestApnsSim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		out := startSim(t, "--dir", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", filepath.Join(dir, "log"))
		sendToSim(t, out, dir)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || strings.Count(string(log), `"status":200`) != 2 {
		t.Errorf("%v\n%s", err, log)
	}
}

// startSim runs the command until the test ends and returns what it printed.
func startSim(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	root := newRoot()
	root.SetOut(write)
	root.SetArgs(append([]string{"apns-sim"}, args...))
	done := make(chan error, 1)
	go func() {
		done <- root.ExecuteContext(ctx)
		_ = write.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var out strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(out.String(), "devices "); {
		n, err := read.Read(buffer)
		out.Write(buffer[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, out.String())
		}
	}
	go io.Copy(io.Discard, read)
	return out.String()
}

func sendToSim(t *testing.T, out, dir string) {
	t.Helper()
	urls := regexp.MustCompile(`https?://\S+`).FindAllString(out, -1)
	p8, err := os.ReadFile(filepath.Join(dir, simKey))
	if err != nil || len(urls) != 2 {
		t.Fatalf("%v, %v", urls, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, simCAKey))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := apnssim.ReadCA(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := apns.New(crier.Credential{
		Vendor: crier.APNs, Target: "com.example.app", Form: apns.FormKey, Secret: p8, Params: map[string]string{"key_id": simKeyID, "team_id": simTeamID},
	}, apns.Options{Endpoint: urls[0], RootCAs: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := s.Send(ctx, &crier.DevicePush{
		Task: "1_1_1_1", Device: &crier.Device{Vendor: crier.APNs, Token: strings.Repeat("ab", 32)},
		Message: &crier.Message{Offline: crier.OfflinePush{Title: "News", Desc: "it works"}},
	})
	if o.Class != crier.OutcomeAccepted {
		t.Fatalf("%+v", o)
	}
	resp, err := http.Get(urls[1])
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(page), "it works") {
		t.Errorf("%v\n%s", err, page)
	}
}

func TestApnsSimRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--fault", "NoSuchReason"},
		{"--fault", "goaway=2"},
		{"--fault", "cut=x"},
		{"--fault", "=1"},
		{"--key", "no-such-file"},
		{"--listen", "nowhere"},
		{"--admin", "nowhere"},
	} {
		all := append([]string{"apns-sim", "--dir", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", ""}, args...)
		if _, err := run(t, all...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	faults, err := parseFaults([]string{"ServiceUnavailable=0.05", "goaway", "reset", "cut", "silent"})
	if err != nil || len(faults) != 5 || faults[0].Share != 0.05 || !faults[1].GoAway || !faults[2].Reset || !faults[3].Cut || !faults[4].Silent {
		t.Errorf("%+v, %v", faults, err)
	}
}
