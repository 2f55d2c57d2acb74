package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apnssim"
)

// bundle is the app that the phones have.
const bundle = "com.example.crowd"

// vendor is a simulator in this process that the nodes take for APNs.
type vendor struct {
	sim   *apnssim.Server
	p8    []byte
	flags []string // of the nodes
}

// newVendor starts it at an address that the nodes reach, whatever is broken between them; it ends with the test.
func newVendor(t *testing.T, address string) *vendor {
	t.Helper()
	ca, err := apnssim.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	key, p8, err := apnssim.NewKey("ABCDE12345", "TEAM123456")
	if err != nil {
		t.Fatal(err)
	}
	sim, err := apnssim.Start(apnssim.Options{Listen: address, CA: ca, Keys: []apnssim.Key{key}, NoPrefixes: true, Keep: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	file := filepath.Join(t.TempDir(), "ca.pem")
	text, _ := ca.PEM()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return &vendor{sim, p8, []string{"--vendors-apns-endpoint", sim.URL(), "--vendors-ca-file", file, "--vendors-key", strings.Repeat("5ea1ed00", 8)}}
}

// hasPhone tells whether a member has a device that is notified: those do who come and go.
func (m *member) hasPhone() bool { return !m.stays() }

func (m *member) token() string { return fmt.Sprintf("%064x", m.number) }

// givePhones gives the app a credential, and registers the devices.
func (w *crowd) givePhones(v *vendor) {
	w.c.t.Helper()
	w.vendor = v
	app := fmt.Sprintf("/v1/apps/%d/", crowdApp)
	must := func(method, path string, in any) {
		w.c.t.Helper()
		if err := w.c.operate(0, method, app+path, in, new(json.RawMessage)); err != nil {
			w.c.t.Fatal(err)
		}
	}
	must(http.MethodPut, "credentials", map[string]any{
		"vendor": "apns", "target": bundle, "form": "p8", "params": map[string]string{"key_id": "ABCDE12345", "team_id": "TEAM123456"}, "secret": string(v.p8),
	})
	for _, m := range w.members {
		if m.hasPhone() {
			must(http.MethodPost, "users/"+string(m.user)+"/devices", map[string]any{"vendor": "apns", "token": m.token(), "target": bundle, "platform": crier.IPhone})
		}
	}
}

// funnelOf asks a node what became of a push.
func (w *crowd) funnelOf(node int, p *push) (*crier.Funnel, error) {
	var answer struct{ Funnel *crier.Funnel }
	err := w.c.operate(node, http.MethodGet, "/v1/tasks/"+string(p.task), nil, &answer)
	if err == nil && answer.Funnel == nil {
		err = fmt.Errorf("nothing is known of %s", p)
	}
	return answer.Funnel, err
}

// notified returns which phones show a notification, by what the push says of itself.
func (w *crowd) notified() map[string]map[string]int {
	all := make(map[string]map[string]int)
	for _, n := range w.vendor.sim.Notifications() {
		var payload struct{ Ext string }
		if err := json.Unmarshal(n.Payload, &payload); err != nil {
			w.c.t.Errorf("a notification can't be read: %v: %s", err, n.Payload)
		}
		if all[payload.Ext] == nil {
			all[payload.Ext] = make(map[string]int)
		}
		all[payload.Ext][n.Token]++
	}
	return all
}

// checkPhones checks what was notified: whoever has a phone and has not acknowledged a kept push over a connection, once, and nobody whom it is not for.
func (w *crowd) checkPhones() {
	t := w.c.t
	t.Helper()
	funnels := make(map[*push]*crier.Funnel)
	var open *push
	eventually(t, "vendors have nothing more to do", func() (err error) {
		for _, i := range w.c.alive() {
			for _, p := range w.pushes {
				if !p.kept {
					continue
				}
				f, err := w.funnelOf(i, p)
				if err != nil {
					return err
				}
				if f.Vendor.ToDo > 0 || f.Waiting > 0 {
					open = p
					return fmt.Errorf("node %d says of %s: %+v", i, p, f)
				}
				funnels[p] = f
			}
		}
		return nil
	})
	if t.Failed() {
		var all []crier.UserID
		for _, m := range w.members {
			all = append(all, m.user)
		}
		w.explain(open, all)
		return
	}
	shown := w.notified()
	for p, f := range funnels {
		phones := shown[fmt.Sprint(p.random)]
		v := &f.Vendor
		if f.Matched != p.total || f.Acknowledged+f.Later != p.total || v.NoDevice+v.Accepted+v.NotNeeded != p.total {
			t.Errorf("%s matched %d, and its funnel does not add up: %+v", p, p.total, f)
		}
		if v.Accepted > uint64(len(phones)) {
			t.Errorf("%s: APNs took it for %d, and %d phones show it", p, v.Accepted, len(phones))
		}
		for _, m := range w.members {
			_, may := m.matched(p)
			if n := phones[m.token()]; n > 1 || n > 0 && !(may && m.hasPhone()) {
				t.Errorf("the phone of %s shows %s %d times", m.user, p, n)
			}
		}
	}
	known := make(map[string]bool)
	for _, p := range w.pushes {
		known[fmt.Sprint(p.random)] = p.kept
	}
	for ext, phones := range shown {
		if kept, here := known[ext]; here && !kept {
			t.Errorf("%d phones show a push that was for who is online: %s", len(phones), ext)
		}
	}
	w.c.note("%d notifications", len(w.vendor.sim.Notifications()))
}
