package cluster_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
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

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
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
			mine, theirs := new(lines), new(lines)
			cfg := config(1)
			cfg.Logger = slog.New(slog.NewTextHandler(mine, nil))
			n := open(t, cfg, clustertest.NewStorage())
			defer closeNode(t, n)
			s := clustertest.NewStorage()
			if err := s.SetMembers(c.formed, false); err != nil {
				t.Fatal(err)
			}
			other := cluster.Config{
				NodeID: "stranger", Partitions: c.partitions, Join: []string{n.Members()[0].Address}, Logger: slog.New(slog.NewTextHandler(theirs, nil)),
			}
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
			for deadline := time.Now().Add(30 * time.Second); !mine.has(c.why) || !theirs.has(c.why); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the logs don't say so: %t, %t", mine.has(c.why), theirs.has(c.why))
				}
			}
			if got := n.Members(); len(got) != 1 {
				t.Errorf("the members are %v", got)
			}
		})
	}
}
