package cluster

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster/transport"
)

// Config describes a node. NodeID, Partitions and Logger are required.
type Config struct {
	Name             string        // of the cluster: nodes of another are turned away; default "crier"
	NodeID           string        // stable, from the data directory
	Partitions       int           // P
	Version          string        // of the binary, for people
	Replicas         int           // of each partition, where there are as many nodes; default 3
	MovesAtOnce      int           // partitions with a replica that is being built, in the cluster; default 1
	SnapshotRate     int           // bytes a second of the replicas that this node sends to others; default 32 MB
	Grace            time.Duration // how long a dead node may take to come back before what it held is rebuilt elsewhere; default 60 s
	BalanceAfter     time.Duration // how long no node must have come or gone before leaders are evened out; default 10 s
	Expect           int           // nodes that form a new cluster together; default 1
	Join             []string      // host or host:port of the gossip of other nodes; without a port, that of GossipListen. With Expect 1, the node joins a cluster that others have formed
	Advertise        string        // name or IP address at which others reach the node, at the ports that it listens on; default: where it listens, which is then not 0.0.0.0 or ::
	GossipListen     string        // host:port of gossip; default 127.0.0.1:0
	ActorListen      string        // host:port of the actor system; default 127.0.0.1:0
	RaftListen       string        // host:port of raft; default 127.0.0.1:0
	GossipKey        []byte        // encrypts gossip: 16, 24 or 32 bytes; nil: in the clear
	TLS              *tls.Config   // of raft and actors, see transport.Config; its ServerName is in every node's certificate. nil: plain TCP
	HeartbeatTimeout time.Duration // of raft, also its election timeout; default 1 s
	CommitTimeout    time.Duration // of raft; default 500 ms
	Compaction       Compaction    // when logs are cut
	Dial             transport.Dialer
	Codec            Codec                 // nil: messages do not leave the node
	Registerer       prometheus.Registerer // nil: metrics are counted and not shown
	Logger           *slog.Logger
}

// reached returns the address at which others reach what listens on one.
func (c *Config) reached(address string) string {
	_, port, err := net.SplitHostPort(address)
	if c.Advertise == "" || err != nil {
		return address
	}
	return net.JoinHostPort(c.Advertise, port)
}

// Compaction is when the log of a group is cut: once in the time, if it has as many entries as the threshold since it was cut last. As many as trailing stay:
// a node that lacks more gets the whole state.
type Compaction struct {
	Every     time.Duration // default 30 s
	Threshold uint64        // default 8,192
	Trailing  uint64        // default 10,000
}

func (c *Config) setDefaults() {
	c.Name = cmp.Or(c.Name, "crier")
	c.Replicas = cmp.Or(c.Replicas, 3)
	c.MovesAtOnce = cmp.Or(c.MovesAtOnce, 1)
	c.Grace = cmp.Or(c.Grace, time.Minute)
	c.BalanceAfter = cmp.Or(c.BalanceAfter, 10*time.Second)
	c.Expect = cmp.Or(c.Expect, 1)
	c.GossipListen = cmp.Or(c.GossipListen, "127.0.0.1:0")
	c.ActorListen = cmp.Or(c.ActorListen, "127.0.0.1:0")
	c.RaftListen = cmp.Or(c.RaftListen, "127.0.0.1:0")
	c.HeartbeatTimeout = cmp.Or(c.HeartbeatTimeout, time.Second)
	c.CommitTimeout = cmp.Or(c.CommitTimeout, 500*time.Millisecond)
	c.Compaction.Every = cmp.Or(c.Compaction.Every, 30*time.Second)
	c.Compaction.Threshold = cmp.Or(c.Compaction.Threshold, 8192)
	c.Compaction.Trailing = cmp.Or(c.Compaction.Trailing, 10_000)
}

// expectMost bounds Expect: gossip carries the names of the nodes that formed the cluster in the 512 bytes that it has for a node.
const expectMost = 7

// Validate returns every problem, with the name of the field and the rule.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.NodeID == "" {
		bad("NodeID is empty")
	}
	if c.Partitions < 1 || c.Partitions > crier.MaxPartitions {
		bad("Partitions is %d, it must be 1..%d", c.Partitions, crier.MaxPartitions)
	}
	if c.Replicas < 1 {
		bad("Replicas is %d, it must be at least 1", c.Replicas)
	}
	if c.MovesAtOnce < 1 {
		bad("MovesAtOnce is %d, it must be at least 1", c.MovesAtOnce)
	}
	if c.Grace < 0 {
		bad("Grace is %v, it must not be negative", c.Grace)
	}
	if c.BalanceAfter < 0 {
		bad("BalanceAfter is %v, it must not be negative", c.BalanceAfter)
	}
	if c.Expect < 1 || c.Expect > expectMost {
		bad("Expect is %d, it must be 1..%d", c.Expect, expectMost)
	}
	if slices.Contains(c.Join, "") {
		bad("Join must have hosts, with a port or without")
	}
	if c.TLS != nil && c.TLS.ServerName == "" {
		bad("TLS has no ServerName, the name that the certificates of all nodes share")
	}
	if n := len(c.GossipKey); n != 0 && n != 16 && n != 24 && n != 32 {
		bad("GossipKey has %d bytes, it must have 16, 24 or 32", n)
	}
	for name, address := range map[string]string{"GossipListen": c.GossipListen, "ActorListen": c.ActorListen, "RaftListen": c.RaftListen} {
		host, port, err := net.SplitHostPort(address)
		switch ip := net.ParseIP(host); {
		case err != nil:
			bad("%s must be host:port: %w", name, err)
		case c.Advertise == "" && (host == "" || ip != nil && ip.IsUnspecified()):
			bad("%s is %s, which no other node can reach: set Advertise", name, address)
		case c.Advertise != "" && port == "0":
			bad("%s must have a port, as Advertise is set", name)
		}
	}
	if c.HeartbeatTimeout < 50*time.Millisecond {
		bad("HeartbeatTimeout is %v, it must be at least 50ms", c.HeartbeatTimeout)
	}
	if c.CommitTimeout < time.Millisecond {
		bad("CommitTimeout is %v, it must be at least 1ms", c.CommitTimeout)
	}
	if c.Logger == nil {
		bad("Logger is nil")
	}
	return errors.Join(errs...)
}
