package cluster

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/crier-im/crier"
	clusterv1 "github.com/crier-im/crier/proto/crier/cluster/v1"
)

// metrics is what a node tells of its raft groups, and the coordinator of the cluster.
type metrics struct {
	leaders  prometheus.Gauge
	replicas prometheus.Gauge
	changes  prometheus.Counter
	apply    prometheus.Histogram
	repeats  prometheus.Counter
	traffic  traffic

	coordinator prometheus.Gauge
	nodes       *prometheus.GaugeVec
	settled     prometheus.Gauge
	moving      prometheus.Gauge
	leaderless  prometheus.Gauge
	missing     prometheus.Gauge
	stuck       prometheus.Gauge
	lag         prometheus.Gauge
	steps       *prometheus.CounterVec
	recoveries  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	bytes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "crier_actor_bytes_total", Help: "Bytes of the messages between actors of this node and of others.",
	}, []string{"direction"})
	return &metrics{
		traffic: traffic{sent: bytes.WithLabelValues("sent"), received: bytes.WithLabelValues("received")},
		leaders: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_raft_leaders", Help: "Raft groups that this node leads.",
		}),
		replicas: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_raft_replicas", Help: "Raft groups that this node has a replica of.",
		}),
		coordinator: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_coordinator", Help: "1 on the node that moves replicas. The other crier_cluster metrics are there only; elsewhere they are 0.",
		}),
		nodes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crier_cluster_nodes", Help: "Nodes that belong to the cluster: alive, away, draining.",
		}, []string{"state"}),
		settled: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_settled", Help: "1 while every partition has its replicas where they are wanted and nothing moves.",
		}),
		moving: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_partitions_moving", Help: "Partitions with a replica that is being built.",
		}),
		leaderless: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_partitions_without_leader", Help: "Partitions that have no leader, and refuse what is asked of them.",
		}),
		missing: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_replicas_missing", Help: "Replicas that are wanted and not there or not alive, of all partitions.",
		}),
		stuck: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_replicas_stuck", Help: "Replicas that are being built and have come no further for ten minutes. They hold up no others.",
		}),
		lag: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_cluster_replica_lag", Help: "The most entries of the log that a living replica has yet to apply, of all partitions that have a leader.",
		}),
		steps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crier_cluster_steps_total", Help: "Steps of moves that this node has ordered, by kind and result.",
		}, []string{"step", "result"}),
		recoveries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crier_cluster_recoveries_total", Help: "Recoveries of partitions without a majority that this node was asked for, by result: done, refused or failed.",
		}, []string{"result"}),
		changes: f.NewCounter(prometheus.CounterOpts{
			Name: "crier_raft_leadership_changes_total", Help: "Times that this node won or lost the leadership of a group.",
		}),
		apply: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crier_raft_apply_seconds", Help: "Seconds from a command to its commit and application.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15),
		}),
		repeats: f.NewCounter(prometheus.CounterOpts{
			Name: "crier_cluster_repeats_total", Help: "Messages that were sent again to the actor of a partition, since their answer did not come or was to try again.",
		}),
	}
}

// step counts a step of a move.
func (m *metrics) step(kind clusterv1.StepKind, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.steps.WithLabelValues(strings.ToLower(strings.TrimPrefix(kind.String(), "STEP_KIND_")), result).Inc()
}

// show shows what the coordinator has seen.
func (m *metrics) show(s *crier.ClusterStatus, replicas int) {
	m.coordinator.Set(1)
	m.moving.Set(float64(s.Moving))
	m.settled.Set(0)
	if s.Settled {
		m.settled.Set(1)
	}
	counts := map[string]int{"alive": 0, "away": 0, "draining": 0}
	for _, n := range s.Nodes {
		switch {
		case n.State == crier.NodeDraining:
			counts["draining"]++
		case n.State.Gone():
		case n.Alive:
			counts["alive"]++
		default:
			counts["away"]++
		}
	}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		m.nodes.WithLabelValues(state).Set(float64(counts[state]))
	}
	leaderless, missing, stuck, lag := 0, 0, 0, uint64(0)
	for _, p := range s.Partitions {
		if p.Leader == "" {
			leaderless++
			continue
		}
		there := 0
		for _, r := range p.Replicas {
			if r.Votes && r.Alive {
				there++
			}
			if r.Stuck {
				stuck++
			}
			if r.Alive {
				lag = max(lag, r.Lag)
			}
		}
		missing += max(0, replicas-there)
	}
	m.leaderless.Set(float64(leaderless))
	m.missing.Set(float64(missing))
	m.stuck.Set(float64(stuck))
	m.lag.Set(float64(lag))
}

// noCoordinator tells that another node sees to the cluster now.
func (m *metrics) noCoordinator() {
	for _, g := range []prometheus.Gauge{m.coordinator, m.settled, m.moving, m.leaderless, m.missing, m.stuck, m.lag} {
		g.Set(0)
	}
	m.nodes.Reset()
}
