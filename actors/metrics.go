package actors

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/crier-im/crier"
)

// Metrics is what the actors of a node count.
type Metrics struct {
	campaigns  prometheus.Counter
	matched    prometheus.Counter
	deliveries map[string]prometheus.Counter // by fromMailbox and fromLive: a look-up of labels costs what sending does
	acks       prometheus.Counter
	sessions   *prometheus.GaugeVec // by platform
	users      prometheus.Gauge
	latency    prometheus.Histogram
	vendors    *prometheus.HistogramVec
	unknown    prometheus.Counter
	panics     prometheus.Counter

	fanoutMessages, fanoutBodies prometheus.Counter
}

// NewMetrics registers the metrics; a nil r keeps them to itself.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	deliveries := f.NewCounterVec(prometheus.CounterOpts{
		Name: "crier_deliveries_total", Help: "Messages handed to connections, live or from the mailbox.",
	}, []string{"from"})
	return &Metrics{
		campaigns: f.NewCounter(prometheus.CounterOpts{Name: "crier_campaigns_total", Help: "Pushes accepted."}),
		matched:   f.NewCounter(prometheus.CounterOpts{Name: "crier_matched_total", Help: "Accounts that pushes matched."}),
		deliveries: map[string]prometheus.Counter{
			fromMailbox: deliveries.WithLabelValues(fromMailbox), fromLive: deliveries.WithLabelValues(fromLive),
		},
		acks: f.NewCounter(prometheus.CounterOpts{Name: "crier_acks_total", Help: "Acknowledgements taken into the log."}),
		sessions: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crier_sessions", Help: "Live sessions of the connections of this node.",
		}, []string{"platform"}),
		users: f.NewGauge(prometheus.GaugeOpts{Name: "crier_user_actors", Help: "Active user actors."}),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crier_online_latency_seconds", Help: "Seconds from the acceptance of a push to the hand-over to a connection, live deliveries only.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		vendors: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crier_vendor_latency_seconds", Help: "Seconds from the acceptance of a push to a vendor's acceptance of a notification.",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 18),
		}, []string{"vendor"}),
		fanoutMessages: f.NewCounter(prometheus.CounterOpts{
			Name: "crier_fanout_messages_total", Help: "Messages sent to sessions of other nodes.",
		}),
		fanoutBodies: f.NewCounter(prometheus.CounterOpts{
			Name: "crier_fanout_bodies_total", Help: "Bodies that were sent to other nodes for these messages: those that go together share one.",
		}),
		panics:  f.NewCounter(prometheus.CounterOpts{Name: "crier_actor_panics_total", Help: "Actors that have panicked, which is a fault of Crier."}),
		unknown: f.NewCounter(prometheus.CounterOpts{Name: "crier_unknown_messages_total", Help: "Messages that an actor did not understand."}),
	}
}

func (m *Metrics) sessionGauge(p crier.Platform) prometheus.Gauge {
	return m.sessions.WithLabelValues(string(p))
}

// notified counts a notification that a vendor has taken.
func (m *Metrics) notified(v crier.Vendor, after time.Duration) {
	m.vendors.WithLabelValues(string(v)).Observe(after.Seconds())
}
