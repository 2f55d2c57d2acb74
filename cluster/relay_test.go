package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/clustertest"
)

func TestRequestEachAnswersForEveryPartition(t *testing.T) {
	n := open(t, config(16), clustertest.NewStorage())
	defer closeNode(t, n)
	messages := make(map[crier.PartitionID]any)
	for p := range crier.PartitionID(16) {
		messages[p] = []byte("x")
	}
	messages[3] = []byte("fail")
	took := make(map[crier.PartitionID]error)
	n.RequestEach(t.Context(), messages, func(p crier.PartitionID, answer any, err error) {
		if _, twice := took[p]; twice {
			t.Errorf("partition %s answered twice", p)
		}
		if took[p] = err; err == nil && answer == nil {
			t.Errorf("partition %s: no answer", p)
		}
	})
	for p := range messages {
		err, answered := took[p]
		switch {
		case !answered:
			t.Errorf("partition %s did not answer", p)
		case p == 3 && !errors.Is(err, crier.CodePushOff):
			t.Errorf("the failure came as %v", err)
		case p != 3 && err != nil:
			t.Errorf("partition %s: %v", p, err)
		}
	}
}

func TestRequestEachOfNothing(t *testing.T) {
	n := open(t, config(1), clustertest.NewStorage())
	defer closeNode(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n.RequestEach(ctx, nil, func(crier.PartitionID, any, error) { t.Error("an answer to nothing") })
	if ctx.Err() != nil {
		t.Error("it waited for nothing")
	}
}

// A partition that nobody leads fails by itself, when the time is over.
func TestRequestEachWithoutALeader(t *testing.T) {
	n := open(t, config(2), clustertest.NewStorage())
	defer closeNode(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	took := make(map[crier.PartitionID]error)
	n.RequestEach(ctx, map[crier.PartitionID]any{0: []byte("x"), 7: []byte("x")}, func(p crier.PartitionID, _ any, err error) { took[p] = err })
	if len(took) != 2 || took[0] != nil || !errors.Is(took[7], crier.CodeTimeout) {
		t.Errorf("%v", took)
	}
}

// One partition that does not answer holds nobody up: what the others of its node have answered comes without it.
func TestRequestEachDoesNotWaitForTheSlowest(t *testing.T) {
	const others = 15
	free := make(chan struct{})
	host := clustertest.Host{Mute: func(p crier.PartitionID, _ *cluster.Group, _ []byte) bool {
		if p == 3 {
			<-free
		}
		return false
	}}
	n, err := cluster.Open(t.Context(), config(others+1), clustertest.NewStorage(), host)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.WaitForReady(ctx); err != nil {
		t.Fatal(err)
	}
	messages := make(map[crier.PartitionID]any)
	for p := range crier.PartitionID(others + 1) {
		messages[p] = []byte("x")
	}
	answered := 0
	n.RequestEach(ctx, messages, func(p crier.PartitionID, answer any, err error) {
		if err != nil || answer != 1 {
			t.Errorf("partition %s: %v, %v", p, answer, err)
		}
		if answered++; answered == others { // else this never comes
			close(free)
		}
	})
	if answered != others+1 {
		t.Errorf("%d answers", answered)
	}
}

// What can be had later is asked for again: a leader that steps down says so.
func TestRequestTriesAgain(t *testing.T) {
	n := open(t, config(1), clustertest.NewStorage())
	defer closeNode(t, n)
	tries := 0
	n.RequestEach(t.Context(), map[crier.PartitionID]any{0: []byte("busy")}, func(_ crier.PartitionID, answer any, err error) {
		if tries++; err != nil || answer != 3 {
			t.Errorf("%v, %v", answer, err)
		}
	})
	if tries != 1 {
		t.Errorf("%d answers", tries)
	}
}

func BenchmarkRequestEach(b *testing.B) {
	n := open(b, config(64), clustertest.NewStorage())
	defer closeNode(b, n)
	messages := make(map[crier.PartitionID]any)
	for p := range crier.PartitionID(64) {
		messages[p] = []byte("x")
	}
	b.ReportAllocs()
	for b.Loop() {
		n.RequestEach(context.Background(), messages, func(_ crier.PartitionID, _ any, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
}
