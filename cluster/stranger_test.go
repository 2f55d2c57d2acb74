package cluster_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
	"github.com/crier-im/crier/internal/freeport/freeporttest"
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has reports whether one line has all words.
func (l *lines) has(words ...string) bool {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return true
		}
	}
	return false
}

// A node of another cluster, or with another number of partitions, is turned away, and both logs say why.
func TestStrangersAreTurnedAway(t *testing.T) {
	if underRace {
		t.Skip("protoactor and gRPC have a race of their own with several nodes in one process: see underRace")
	}
	for name, c := range map[string]struct {
		partitions int
		formed     []string
		why        string
	}{
		"of another cluster":        {1, []string{"stranger"}, "other nodes have formed"},
		"of another division":       {2, nil, "another number of partitions"},
		"with neither in common":    {2, []string{"stranger"}, "another number of partitions"},
		"that thinks it is of ours": {1, []string{"node-1", "stranger"}, "other nodes have formed"},
	} {
		t.Run(name, func(t *testing.T) {
			meetStranger(t, config(1), cluster.Config{Partitions: c.partitions}, c.formed, []string{c.why}, []string{c.why})
		})
	}
}

// A node with another gossip key, or with none, or with another cluster's name, is turned away, and both logs say what to look at.
func TestStrangersByKeyOrNameAreTurnedAway(t *testing.T) {
	if underRace {
		t.Skip("protoactor and gRPC have a race of their own with several nodes in one process: see underRace")
	}
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	const (
		turnsAway = "a node with another gossip key, or without one, was turned away"
		nobody    = "no other node answers yet"
	)
	for name, c := range map[string]struct {
		ours, theirs  cluster.Config
		mine, another []string
	}{
		"with another key": {
			cluster.Config{GossipKey: key(1)},
			cluster.Config{GossipKey: key(2)},
			[]string{turnsAway, "no installed keys could decrypt"},
			[]string{nobody, "cluster.gossip_key"},
		},
		"without a key": {
			cluster.Config{GossipKey: key(1)},
			cluster.Config{},
			[]string{turnsAway, "encryption is configured but remote state is not encrypted"},
			[]string{nobody, "cluster.gossip_key"},
		},
		"with a key": {
			cluster.Config{},
			cluster.Config{GossipKey: key(2)},
			[]string{turnsAway, "remote state is encrypted and encryption is not configured"},
			[]string{nobody, "cluster.gossip_key"},
		},
		"with another name": {
			cluster.Config{Name: "ours"},
			cluster.Config{Name: "theirs"},
			[]string{"a node of a cluster with another name was turned away", "theirs"},
			[]string{nobody, "cluster.name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours := config(1)
			ours.Name, ours.GossipKey = c.ours.Name, c.ours.GossipKey
			c.theirs.Partitions = 1
			meetStranger(t, ours, c.theirs, nil, c.mine, c.another)
		})
	}
}

// meetStranger starts a node, and another that wants to join it and knows already who formed its own cluster, and waits until their logs have these words.
func meetStranger(t *testing.T, cfg, other cluster.Config, formed, mine, theirs []string) {
	t.Helper()
	log, otherLog := new(lines), new(lines)
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	n := open(t, cfg, clustertest.NewStorage())
	defer closeNode(t, n)
	s := clustertest.NewStorage()
	if err := s.SetMembers(formed, false); err != nil {
		t.Fatal(err)
	}
	other.NodeID, other.GossipListen, other.Logger = "stranger", freeporttest.Address(t), slog.New(slog.NewTextHandler(otherLog, nil))
	other.Join = []string{other.GossipListen, n.Members()[0].Address} // as a list that is the same on all nodes
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if stranger, err := cluster.Open(ctx, other, s, clustertest.Host{}); err == nil {
			<-ctx.Done()
			closeNode(t, stranger)
		}
	})
	defer wg.Wait()
	defer cancel()
	for deadline := time.Now().Add(30 * time.Second); !log.has(mine...) || !otherLog.has(theirs...); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the logs don't say so: %t, %t\n%s\n%s", log.has(mine...), otherLog.has(theirs...), log, otherLog)
		}
	}
	if got := n.Members(); len(got) != 1 {
		t.Errorf("the members are %v", got)
	}
}
