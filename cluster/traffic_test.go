package cluster_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
)

// What the actors of one node send, those of the others receive.
func TestBytesBetweenActorsAreCounted(t *testing.T) {
	c := newNodes(t, 3, 3, func(cfg *cluster.Config) { cfg.Registerer = prometheus.NewRegistry() })
	bytes := func(direction string) (n float64) {
		for i := range c.configs {
			families, err := c.configs[i].Registerer.(*prometheus.Registry).Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					if f.GetName() == "crier_actor_bytes_total" && m.GetLabel()[0].GetValue() == direction {
						n += m.GetCounter().GetValue()
					}
				}
			}
		}
		return n
	}
	before := bytes("sent")
	const rounds = 100
	for range rounds {
		for p := range crier.PartitionID(3) {
			if _, err := c.count((c.leaderOf(p)+1)%3, p); err != nil { // from another node: one may lead all three
				t.Fatal(err)
			}
		}
	}
	if n := bytes("sent") - before; n < rounds {
		t.Errorf("%v bytes were sent", n)
	}
	for deadline := time.Now().Add(time.Minute); bytes("received") != bytes("sent"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v bytes were received of %v", bytes("received"), bytes("sent"))
		}
	}
}
