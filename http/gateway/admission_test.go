package gateway

import (
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestAdmissionCounts(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	a := newAdmission(nil, Limits{LoginsPerIP: 2, FailuresPerIP: 1})
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i, want := range []bool{true, true, false} {
		if got := a.begin(one, now); got != want {
			t.Errorf("login %d: %v", i, got)
		}
	}
	if !a.begin(other, now) {
		t.Error("another address is bound too")
	}
	a.end(one)
	if !a.begin(one, now) {
		t.Error("a login that has ended counts")
	}
	a.end(one)
	a.end(one)
	a.end(other)
	if len(a.logins) != 0 {
		t.Errorf("%v is left", a.logins)
	}
	a.failed(one, now)
	if a.begin(one, now.Add(59*time.Second)) || !a.begin(other, now) {
		t.Error("failures are not counted by address")
	}
	if !a.begin(one, now.Add(time.Minute)) || len(a.failures) != 0 {
		t.Error("failures count for over a minute")
	}

	six, neighbour := netip.MustParseAddr("2001:db8:0:1::1"), netip.MustParseAddr("2001:db8:0:1:2::3")
	a.failed(six, now.Add(2*time.Minute))
	if a.begin(neighbour, now.Add(2*time.Minute)) || !a.begin(netip.MustParseAddr("2001:db8:0:2::1"), now.Add(2*time.Minute)) {
		t.Error("IPv6 is not counted by networks of 64 bits")
	}
	unlimited := newAdmission(nil, Limits{})
	for range 5000 {
		unlimited.failed(one, now)
		if !unlimited.begin(one, now) {
			t.Fatal("0 is a limit")
		}
	}
}

func TestClientIP(t *testing.T) {
	t.Parallel()
	trusted, err := parsePrefixes([]string{"10.0.0.0/8", "2001:db8::1"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAdmission(trusted, Limits{})
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                     {"192.0.2.1:5", nil, "192.0.2.1"},
		"not a proxy of ours":          {"192.0.2.1:5", []string{"198.51.100.1"}, "192.0.2.1"},
		"a proxy":                      {"10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy, mapped":              {"[::ffff:10.0.0.1]:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"two proxies":                  {"10.0.0.1:5", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"two headers":                  {"10.0.0.1:5", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		"what the client wrote itself": {"10.0.0.1:5", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		"nonsense":                     {"10.0.0.1:5", []string{"203.0.113.9, what"}, "10.0.0.1"},
		"a proxy without the header":   {"10.0.0.1:5", nil, "10.0.0.1"},
		"IPv6":                         {"[2001:db8::1]:5", []string{"2001:db8::5"}, "2001:db8::5"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := a.clientIP(r); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
