package cluster

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
)

// The coordinator's metrics show what it has seen, and nothing once another node is the coordinator.
func TestMetricsShowTheStatus(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	m.show(&crier.ClusterStatus{
		Moving: 1,
		Nodes: []crier.NodeStatus{
			{Node: crier.Node{ID: "a", State: crier.NodeMember}, Alive: true},
			{Node: crier.Node{ID: "b", State: crier.NodeMember}},
			{Node: crier.Node{ID: "c", State: crier.NodeDraining}, Alive: true},
			{Node: crier.Node{ID: "d", State: crier.NodeRemoved}},
		},
		Partitions: []crier.PartitionStatus{
			{Partition: "0", Leader: "a", Replicas: []crier.ReplicaStatus{
				{Node: "a", Votes: true, Alive: true}, {Node: "b", Votes: true, Lag: 100_000}, {Node: "c", Votes: true, Alive: true, Lag: 7},
			}},
			{Partition: "1", Leader: "c", Replicas: []crier.ReplicaStatus{
				{Node: "a", Alive: true, Lag: 12_000, Stuck: true}, {Node: "c", Votes: true, Alive: true},
			}},
			{Partition: "2", Replicas: []crier.ReplicaStatus{{Node: "b", Votes: true}}},
		},
	}, 3)
	for name, want := range map[string]float64{
		"coordinator": 1, "settled": 0, "partitions_moving": 1, "partitions_without_leader": 1, "replicas_missing": 3, "replicas_stuck": 1, "replica_lag": 12_000,
	} {
		if got := value(t, r, "crier_cluster_"+name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	for state, n := range map[string]float64{"alive": 1, "away": 1, "draining": 1} {
		if got := value(t, r, "crier_cluster_nodes", state); got != n {
			t.Errorf("%v nodes are %s", got, state)
		}
	}
	m.noCoordinator()
	for _, name := range []string{"coordinator", "partitions_moving", "partitions_without_leader", "replicas_missing", "replicas_stuck", "replica_lag"} {
		if got := value(t, r, "crier_cluster_"+name); got != 0 {
			t.Errorf("%s is %v on one that is not the coordinator", name, got)
		}
	}
}

// value returns a gauge, of one with a label the one with that value.
func value(t *testing.T, r prometheus.Gatherer, name string, label ...string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (len(label) == 0 || slices.Contains(label, m.GetLabel()[0].GetValue())) {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s %v", name, label)
	return 0
}
