package gateway

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

// metrics are the gateway's. Labels come from fixed sets: protocols,
// platforms, codes of the table, frame types, close reasons.
type metrics struct {
	connections *prometheus.GaugeVec   // by protocol and platform; logged in
	pending     prometheus.Gauge       // not yet logged in
	logins      *prometheus.CounterVec // by code, 0 for an accepted one
	framesIn    *prometheus.CounterVec // by type
	framesOut   prometheus.Counter
	messages    prometheus.Counter
	bytesIn     prometheus.Counter
	bytesOut    prometheus.Counter
	devices     *prometheus.CounterVec // registrations by code, 0 for a registered one
	closes      *prometheus.CounterVec // by reason; "slow" are the slow receivers
	refused     *prometheus.CounterVec // by cause; before the upgrade
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "crier", Subsystem: "gateway", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts(name, help)), labels)
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("connections", "Live connections that have logged in.")), []string{"protocol", "platform"}),
		pending:     prometheus.NewGauge(prometheus.GaugeOpts(opts("connections_pending", "Live connections that have not logged in."))),
		logins:      counters("logins_total", "Login frames, by the code of the answer; 0 is success.", "code"),
		framesIn:    counters("frames_received_total", "Frames from clients.", "type"),
		framesOut:   counter("frames_sent_total", "Frames written to clients."),
		messages:    counter("messages_delivered_total", "Message frames queued for clients."),
		bytesIn:     counter("received_bytes_total", "Bytes of frames from clients, without WebSocket headers."),
		bytesOut:    counter("sent_bytes_total", "Bytes written to clients, with WebSocket headers."),
		devices:     counters("device_registrations_total", "Registrations of devices, by the code of the answer; 0 is success.", "code"),
		closes:      counters("closes_total", "Connections that ended, by reason.", "reason"),
		refused:     counters("refused_total", "Requests refused before the upgrade.", "cause"),
	}
	for _, c := range []prometheus.Collector{
		m.connections, m.pending, m.logins, m.framesIn, m.framesOut, m.messages, m.bytesIn, m.bytesOut, m.devices, m.closes, m.refused,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) login(code crier.Code) {
	m.logins.WithLabelValues(strconv.Itoa(int(code))).Inc()
}

func (m *metrics) registered(code crier.Code) {
	m.devices.WithLabelValues(strconv.Itoa(int(code))).Inc()
}

func (m *metrics) closed(reason crier.CloseReason) {
	m.closes.WithLabelValues(string(frame.CloseFor(reason).Reason)).Inc()
}
