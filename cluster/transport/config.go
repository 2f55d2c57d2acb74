package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
)

// Resolver returns the host:port at which a node listens for the transport, and false while
// that is not known. It is asked at every dial, and must be safe for concurrent use.
type Resolver func(node string) (addr string, ok bool)

// Dialer connects to a node's address. Tests cut, delay and lose traffic here.
type Dialer func(ctx context.Context, node, addr string) (net.Conn, error)

// Config describes a node's transport. Cluster, NodeID, Listen, Resolve and Logger are required.
type Config struct {
	Cluster string // name or id of the cluster; nodes of another are turned away
	NodeID  string // also the raft.ServerAddress of this node's replicas
	Listen  string // host:port; port 0 picks one

	// TLS makes every connection mutual TLS: both ends need a certificate of a CA in RootCAs and ClientCAs that is good for
	// the node's id or, where ServerName is set, for that name. Nil: plain TCP, for tests and clusters of one.
	TLS *tls.Config

	Resolve Resolver
	Dial    Dialer // nil: TCP

	// Refused is called whenever a node that there was a connection to refuses the next one: its process has ended. It must not block; nil:
	// nobody is told.
	Refused func(node string)

	// Silent is called when nothing has come from a node for 1.5 HeartbeatTimeout although its connection stands, so PeerTimeout is
	// longer: if it leads any groups here, their heartbeats are overdue. It is called again only after a frame has come. It must not block; nil: nobody is told.
	Silent func(node string)

	// Elected is called for the first append of a term that comes for a group: by its sender, which a majority has elected. It must not block;
	// nil: nobody is told.
	Elected func(p crier.PartitionID, node string, term uint64)

	// Votes reports whether this node may vote in a group; where it may not, a request for a vote is answered with "not open". It must not block; nil: in all.
	Votes func(p crier.PartitionID) bool

	// HeartbeatTimeout is raft's, by which heartbeats are timed; default 1 s.
	HeartbeatTimeout time.Duration

	// Coalesce is how long an empty append waits for others to the same node, to be written with them; default 1/25 of
	// HeartbeatTimeout, negative: not at all, and heartbeats go by themselves. See DESIGN.md for what it saves.
	Coalesce time.Duration

	// AppendTimeout bounds an append, most of all its wait for a link that is down or a group that is not open there
	// yet; default 30 s. It must outlast a restart: raft pauses up to 10.24 s after appends that failed.
	AppendTimeout time.Duration

	// PeerTimeout is after how long without a sign of life a connection is given up; also the
	// bound of dials, handshakes and the answers to heartbeats and votes. Default 4 s.
	PeerTimeout time.Duration

	// SnapshotStall bounds how long a snapshot may make no progress while its bytes are on their way; default 30 s.
	SnapshotStall time.Duration

	// SnapshotRestore bounds how long the other node may take to restore one that has arrived; default 10 min.
	SnapshotRestore time.Duration

	// SnapshotRate bounds the bytes a second of all snapshots that this node sends, at least 1 MB; default 32 MB. What restores them is slowed down too.
	SnapshotRate int

	Registerer prometheus.Registerer // nil: metrics are counted and not shown
	Logger     *slog.Logger
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.HeartbeatTimeout, time.Second},
		{&c.Coalesce, cmp.Or(c.HeartbeatTimeout, time.Second) / 25},
		{&c.AppendTimeout, 30 * time.Second},
		{&c.PeerTimeout, 4 * time.Second},
		{&c.SnapshotStall, 30 * time.Second},
		{&c.SnapshotRestore, 10 * time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	c.SnapshotRate = cmp.Or(c.SnapshotRate, 32_000_000)
	if c.Dial == nil {
		c.Dial = dialTCP
	}
}

// beat is how often the heartbeats that have gathered are sent.
func (c *Config) beat() time.Duration { return c.HeartbeatTimeout * 3 / 10 }

// dialTCP has the kernel probe an idle connection too, for the case that this process stands still.
func dialTCP(ctx context.Context, _, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	return d.DialContext(ctx, "tcp", addr)
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// Validate returns every problem, with the name of the field and the rule.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for field, name := range map[string]string{"Cluster": c.Cluster, "NodeID": c.NodeID} {
		if name == "" || len(name) > maxName {
			bad("%s is %d bytes long, it must be 1 to %d", field, len(name), maxName)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("Listen must be host:port: %w", err)
	}
	if c.TLS != nil {
		if c.TLS.RootCAs == nil || c.TLS.ClientCAs == nil {
			bad("TLS has no RootCAs or no ClientCAs: those of the system would be trusted")
		}
		if len(c.TLS.Certificates) == 0 && (c.TLS.GetCertificate == nil || c.TLS.GetClientCertificate == nil) {
			bad("TLS has no certificate")
		}
	}
	if c.Resolve == nil {
		bad("Resolve is nil")
	}
	if c.Logger == nil {
		bad("Logger is nil")
	}
	for field, d := range map[string]time.Duration{
		"HeartbeatTimeout": c.HeartbeatTimeout, "AppendTimeout": c.AppendTimeout, "PeerTimeout": c.PeerTimeout,
		"SnapshotStall": c.SnapshotStall, "SnapshotRestore": c.SnapshotRestore,
	} {
		if d < 10*time.Millisecond {
			bad("%s is %v, it must be at least 10ms", field, d)
		}
	}
	if c.SnapshotRate < minSnapshotRate {
		bad("SnapshotRate is %d, it must be at least %d", c.SnapshotRate, minSnapshotRate)
	}
	if c.Coalesce > time.Second {
		bad("Coalesce is %v, it must be at most 1s", c.Coalesce)
	}
	return errors.Join(errs...)
}
