package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics is what a node tells of its raft groups.
type metrics struct {
	leaders prometheus.Gauge
	changes prometheus.Counter
	apply   prometheus.Histogram
	repeats prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		leaders: f.NewGauge(prometheus.GaugeOpts{
			Name: "crier_raft_leaders", Help: "Raft groups that this node leads.",
		}),
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
