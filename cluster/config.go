package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
)

// TransportFactory makes the transport of one raft group, and the address by
// which the group's other replicas reach it.
type TransportFactory func(p crier.PartitionID) (raft.ServerAddress, raft.Transport)

// Config describes a node. NodeID, Partitions and Logger are required.
type Config struct {
	NodeID           string        // stable, from the data directory
	Partitions       int           // P
	GossipListen     string        // host:port of gossip; default 127.0.0.1:0
	ActorListen      string        // host:port of the actor system; default 127.0.0.1:0
	HeartbeatTimeout time.Duration // of raft, also its election timeout; default 1 s
	CommitTimeout    time.Duration // of raft; default 500 ms
	Transport        TransportFactory
	Registerer       prometheus.Registerer // nil: metrics are counted and not shown
	Logger           *slog.Logger
}

func (c *Config) setDefaults() {
	if c.GossipListen == "" {
		c.GossipListen = "127.0.0.1:0"
	}
	if c.ActorListen == "" {
		c.ActorListen = "127.0.0.1:0"
	}
	if c.HeartbeatTimeout == 0 {
		c.HeartbeatTimeout = time.Second
	}
	if c.CommitTimeout == 0 {
		c.CommitTimeout = 500 * time.Millisecond
	}
	if c.Transport == nil {
		c.Transport = loopback(c.NodeID)
	}
}

// loopback is the transport of a cluster of one: nothing leaves the node.
func loopback(node string) TransportFactory {
	return func(crier.PartitionID) (raft.ServerAddress, raft.Transport) {
		return raft.NewInmemTransport(raft.ServerAddress(node))
	}
}

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
	for name, address := range map[string]string{"GossipListen": c.GossipListen, "ActorListen": c.ActorListen} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			bad("%s must be host:port: %w", name, err)
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
