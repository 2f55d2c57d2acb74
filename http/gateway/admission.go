package gateway

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// admission counts what one address may take. Safe for concurrent use. Its
// maps hold one entry for an address that is logging in or has failed to within the last
// minute, so their size is bounded by what those addresses did.
type admission struct {
	trusted       []netip.Prefix
	loginsPerIP   int // 0: unlimited
	failuresPerIP int // 0: unlimited

	mu       sync.Mutex
	logins   map[netip.Addr]int // connections without a login
	failures map[netip.Addr]int // refused logins since the window began
	window   time.Time          // when failures was last emptied
}

func newAdmission(trusted []netip.Prefix, l Limits) *admission {
	return &admission{
		trusted: trusted, loginsPerIP: l.LoginsPerIP, failuresPerIP: l.FailuresPerIP,
		logins: make(map[netip.Addr]int), failures: make(map[netip.Addr]int),
	}
}

// begin counts a connection that has yet to log in; false: the address has too many, or has
// failed too often. Each begin that returned true needs one end.
func (a *admission) begin(ip netip.Addr, now time.Time) bool {
	ip = counted(ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roll(now)
	if a.loginsPerIP > 0 && a.logins[ip] >= a.loginsPerIP || a.failuresPerIP > 0 && a.failures[ip] >= a.failuresPerIP {
		return false
	}
	a.logins[ip]++
	return true
}

// end takes back a begin, when the connection has logged in or has ended.
func (a *admission) end(ip netip.Addr) {
	ip = counted(ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logins[ip]--; a.logins[ip] <= 0 {
		delete(a.logins, ip)
	}
}

// failed counts a refused login.
func (a *admission) failed(ip netip.Addr, now time.Time) {
	ip = counted(ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roll(now)
	a.failures[ip]++
}

// counted returns what is counted as one address: of IPv6 the network of 64 bits, since one host has all of it.
func counted(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

func (a *admission) roll(now time.Time) {
	if d := now.Sub(a.window); d >= time.Minute || d < 0 {
		a.window = now
		clear(a.failures)
	}
}

// clientIP returns whom a request comes from: the peer or, where that is a trusted proxy, the
// last address in X-Forwarded-For that is not one. What stands before that anyone can write.
func (a *admission) clientIP(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !a.isTrusted(ip) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		ip = next.Unmap()
	}
	return ip
}

func (a *admission) isTrusted(ip netip.Addr) bool {
	return slices.ContainsFunc(a.trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}
