package transport

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// maxPeers bounds the nodes with metrics of their own; more are counted together. Without TLS whoever
	// connects can give any name.
	maxPeers  = 128
	otherPeer = "other"
)

// metrics is what a node tells of its links.
type metrics struct {
	up       *prometheus.GaugeVec
	failures *prometheus.CounterVec
	refused  prometheus.Counter
	frames   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	writes   *prometheus.CounterVec

	mu    sync.Mutex
	peers map[string]*traffic
}

// traffic counts what passes between this node and a peer, on connections of both directions.
type traffic struct {
	up                  prometheus.Gauge
	failures            prometheus.Counter
	framesIn, framesOut prometheus.Counter
	bytesIn, bytesOut   prometheus.Counter
	writes              prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		peers: make(map[string]*traffic),
		up: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crier_transport_link_up", Help: "1 while this node's connection to the peer is up, else 0.",
		}, []string{"peer"}),
		failures: counters("crier_transport_link_failures_total", "Connections to the peer that failed, and dials that did.", "peer"),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "crier_transport_refused_total", Help: "Connections that this node turned away.",
		}),
		frames: counters("crier_transport_frames_total", "Frames from and to the peer.", "peer", "direction"),
		bytes:  counters("crier_transport_bytes_total", "Bytes from and to the peer, before TLS.", "peer", "direction"),
		writes: counters("crier_transport_writes_total", "Writes to the peer; fewer than frames where those travel together.", "peer"),
	}
}

// peer returns the counters of a peer, or those that all too many share.
func (m *metrics) peer(name string) *traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.peers[name]; t != nil {
		return t
	}
	if len(m.peers) >= maxPeers {
		name = otherPeer
	}
	if t := m.peers[name]; t != nil {
		return t
	}
	t := &traffic{
		up: m.up.WithLabelValues(name), failures: m.failures.WithLabelValues(name),
		framesIn: m.frames.WithLabelValues(name, "in"), framesOut: m.frames.WithLabelValues(name, "out"),
		bytesIn: m.bytes.WithLabelValues(name, "in"), bytesOut: m.bytes.WithLabelValues(name, "out"),
		writes: m.writes.WithLabelValues(name),
	}
	m.peers[name] = t
	return t
}
