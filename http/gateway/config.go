package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Path is where the gateway is mounted.
const Path = "/v1/connect"

const (
	// maxLoginFrame and maxFrame bound a frame of a client, in bytes, before and after its login.
	maxLoginFrame = 4 << 10
	maxFrame      = 16 << 10
	// heartbeats is how many of them may pass in silence before a connection is given up.
	heartbeats = 2.5
)

// Config is the settings of a Gateway. Hub, Logger and Registerer are
// required. A duration of zero stands for its default.
type Config struct {
	Hub        Hub
	Clock      func() time.Time // nil: time.Now. It judges UserSigs; deadlines of sockets go by the real clock
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	LoginTimeout   time.Duration // from the upgrade to the login frame; 10 s
	ConnectTimeout time.Duration // for Hub.Connect; 5 s
	// RegisterTimeout is how long a session may take to register a device; 10 s.
	RegisterTimeout time.Duration
	Heartbeat       time.Duration // within which clients are to send something, whole seconds; 60 s
	WriteTimeout    time.Duration // for one write to a socket; 10 s
	DrainSpread     time.Duration // over which Drain spreads the closes; 5 s

	Limits         Limits
	Origins        []string // the Origins that browsers may connect from, such as https://example.com; none: any
	TrustedProxies []string // addresses or CIDRs whose X-Forwarded-For is believed
	Compress       bool     // offer permessage-deflate, without context takeover
}

// Limits bound what clients may take. Zero means unlimited, but for
// QueueFrames and QueueBytes, where it stands for the default: queues are always bounded.
type Limits struct {
	Connections     int // live connections of this node
	LoginsPerIP     int // connections of one address that have not logged in
	FailuresPerIP   int // refused logins of one address within a minute
	FramesPerSecond int // frames of one connection; more are read later, and none is lost
	QueueFrames     int // frames that wait to be written to one connection
	QueueBytes      int // their bytes
}

// DefaultLimits are generous: a thousand devices behind one address can come back at once.
func DefaultLimits() Limits {
	return Limits{
		Connections: 100_000, LoginsPerIP: 1000, FailuresPerIP: 300, FramesPerSecond: 200,
		QueueFrames: 512, QueueBytes: 1 << 20,
	}
}

// withDefaults fills in what is zero and checks the rest. Errors name the field.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Hub == nil || cfg.Logger == nil || cfg.Registerer == nil {
		return cfg, errors.New("gateway: Hub, Logger and Registerer are required")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{
		{"LoginTimeout", &cfg.LoginTimeout, 10 * time.Second},
		{"ConnectTimeout", &cfg.ConnectTimeout, 5 * time.Second},
		{"RegisterTimeout", &cfg.RegisterTimeout, 10 * time.Second},
		{"Heartbeat", &cfg.Heartbeat, time.Minute},
		{"WriteTimeout", &cfg.WriteTimeout, 10 * time.Second},
		{"DrainSpread", &cfg.DrainSpread, 5 * time.Second},
	} {
		if *d.value < 0 {
			return cfg, fmt.Errorf("gateway: %s must not be negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	if cfg.Heartbeat%time.Second != 0 {
		return cfg, errors.New("gateway: Heartbeat must be whole seconds")
	}
	l := &cfg.Limits
	if min(l.Connections, l.LoginsPerIP, l.FailuresPerIP, l.FramesPerSecond, l.QueueFrames, l.QueueBytes) < 0 {
		return cfg, errors.New("gateway: Limits must not be negative")
	}
	if l.QueueFrames == 0 {
		l.QueueFrames = DefaultLimits().QueueFrames
	}
	if l.QueueBytes == 0 {
		l.QueueBytes = DefaultLimits().QueueBytes
	}
	return cfg, nil
}

// parsePrefixes reads addresses and CIDRs.
func parsePrefixes(texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for i, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("gateway: TrustedProxies[%d] %q is neither an address nor a CIDR", i, text)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// originAllowed reports whether a request with this Origin may connect. Clients that are no
// browsers send none, and nothing could be gained by refusing them.
func (cfg *Config) originAllowed(origin string) bool {
	if origin == "" || len(cfg.Origins) == 0 {
		return true
	}
	for _, o := range cfg.Origins {
		if strings.EqualFold(o, origin) {
			return true
		}
	}
	return false
}
