package actors_test

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors/actorstest"
)

// metric returns a metric without labels.
func metric(t testing.TB, n *actorstest.Node, name string) *dto.Metric {
	t.Helper()
	families, err := n.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0]
		}
	}
	t.Fatalf("there is no metric %s", name)
	return nil
}

// userActors returns how many accounts have an actor.
func userActors(t testing.TB, n *actorstest.Node) int {
	t.Helper()
	return int(metric(t, n, "crier_user_actors").GetGauge().GetValue())
}

// The latency of online pushes counts what comes live, kept or not, and not what waited in the mailbox.
func TestLatencyIsOfLiveDeliveries(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	observed := func() uint64 {
		return metric(t, n, "crier_online_latency_seconds").GetHistogram().GetSampleCount()
	}
	change(t, n, imports(1)...)
	waitDone(t, n, push(t, n, time.Hour), 1)
	d := dial(t, n, "user0", crier.Android)
	eventually(t, "the mailbox comes", func() bool { return len(d.Seqs()) == 1 })
	if got := observed(); got != 0 {
		t.Errorf("%d observations of the mailbox", got)
	}
	for i, life := range []time.Duration{time.Hour, 0} {
		push(t, n, life)
		eventually(t, "a live message comes", func() bool { return len(d.Seqs()) == i+2 })
		eventually(t, "it is observed", func() bool { return observed() == uint64(i+1) })
	}
}
