package webpush

import (
	"crypto/ecdh"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"

	vapidpush "github.com/SherClockHolmes/webpush-go"
)

const (
	// tokenMost and endpointMost bound a subscription and its endpoint, in bytes: Windows' endpoints have about 600.
	tokenMost    = 4096
	endpointMost = 2048
	// authLen is the length of a subscription's secret (RFC 8291, 3.2).
	authLen = 16
)

// CheckToken checks a subscription as a browser gives it: an https endpoint that is not an internal address, a key
// that is a point of P-256, and a secret of 16 bytes. The error carries CodeBadParameter and shows nothing of the subscription, which is
// a secret itself. A name that leads to an internal address is found when it is sent to.
func CheckToken(token string) error { return Options{}.CheckToken(token) }

// CheckToken is the function of that name with the addresses that the options allow.
func (o Options) CheckToken(token string) error {
	_, err := o.parse(token)
	return err
}

// Origin returns the push service of a subscription, such as https://fcm.googleapis.com; "" where it has none.
func Origin(token string) string {
	var sub vapidpush.Subscription
	if json.Unmarshal([]byte(token), &sub) != nil {
		return ""
	}
	u, err := url.Parse(sub.Endpoint)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// parse returns a subscription in the form that is sent to: keys in base64url, the endpoint's host in lower case and without
// the port that goes without saying, so that the token's aud is the origin of RFC 6454.
func (o Options) parse(token string) (*vapidpush.Subscription, error) {
	if token == "" || len(token) > tokenMost {
		return nil, bad("token", "must be a subscription of 1 to 4096 bytes")
	}
	var sub vapidpush.Subscription
	if json.Unmarshal([]byte(token), &sub) != nil {
		return nil, bad("token", "is not the JSON of a subscription")
	}
	endpoint, err := o.endpoint(sub.Endpoint)
	if err != nil {
		return nil, err
	}
	key, err := decode(sub.Keys.P256dh)
	if _, invalid := ecdh.P256().NewPublicKey(key); err != nil || invalid != nil {
		return nil, bad("token.keys.p256dh", "must be a point of P-256 in 65 bytes as base64url")
	}
	auth, err := decode(sub.Keys.Auth)
	if err != nil || len(auth) != authLen {
		return nil, bad("token.keys.auth", "must be 16 bytes as base64url")
	}
	return &vapidpush.Subscription{Endpoint: endpoint, Keys: vapidpush.Keys{P256dh: encode(key), Auth: encode(auth)}}, nil
}

func (o Options) endpoint(text string) (string, error) {
	const field = "token.endpoint"
	if text == "" || len(text) > endpointMost {
		return "", bad(field, "must have 1 to 2048 bytes")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "", bad(field, "is not a URL with a host")
	case u.Scheme != "https" && (u.Scheme != "http" || !o.AllowHTTP):
		return "", bad(field, "must be https")
	case u.User != nil || u.Fragment != "":
		return "", bad(field, "must not have a user or a fragment")
	case !o.AllowPrivate && isInternalHost(u.Hostname()):
		return "", bad(field, "must not be an internal address")
	}
	u.Host = strings.ToLower(u.Host)
	if port := u.Port(); port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.String(), nil
}

// isInternalHost reports whether a host is an internal address without asking DNS: an IP address, localhost, a name without a dot.
func isInternalHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return !isPublic(ip)
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// special are ranges that are not the Internet beside those that netip knows (IANA's registries of special-purpose
// addresses), and those that carry an IPv4 address to a gateway, which may lead inside.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("3fff::/20"),
}

// global is all that is given out of IPv6; what is within nat64 carries the IPv4 address that it leads to (RFC 6052).
var (
	global = netip.MustParsePrefix("2000::/3")
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
)

// isPublic reports whether an address is one of the Internet.
func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap()
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	if ip.Zone() != "" || !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Is6() && !global.Contains(ip) {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}
