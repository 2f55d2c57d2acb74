package vendors

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/crier-im/crier"
)

// metrics are the pool's. Labels come from fixed sets: vendors, classes, and reasons of the tables in docs.
type metrics struct {
	outcomes *prometheus.CounterVec   // by vendor, class and reason
	seconds  *prometheus.HistogramVec // by vendor
}

func newMetrics(r prometheus.Registerer, paused func(crier.Vendor) float64) *metrics {
	f := promauto.With(r)
	for _, vendor := range []crier.Vendor{crier.APNs, crier.FCM, crier.WebPush} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "crier_vendor_paused", Help: "Credentials with which sending is paused, since the vendor refuses every device.",
			ConstLabels: prometheus.Labels{"vendor": string(vendor)},
		}, func() float64 { return paused(vendor) })
	}
	return &metrics{
		outcomes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crier_vendor_outcomes_total", Help: "Attempts to send a notification, by what became of them.",
		}, []string{"vendor", "class", "reason"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crier_vendor_send_seconds", Help: "Time from handing a notification to a vendor's sender to its outcome.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20},
		}, []string{"vendor"}),
	}
}
