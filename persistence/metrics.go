package persistence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics is what the databases of a node count.
type metrics struct {
	logSync    prometheus.Histogram
	logBatches prometheus.Histogram
	flush      prometheus.Histogram
	flushBytes prometheus.Counter
}

func newMetrics(r prometheus.Registerer, disk *diskGuard) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "crier_disk_free_bytes", Help: "Free space of the data directory; -1 where the disk can't be asked.",
	}, func() float64 {
		free, err := disk.free()
		if err != nil {
			return -1
		}
		return float64(free)
	})
	f.NewGauge(prometheus.GaugeOpts{
		Name: "crier_disk_reserve_bytes", Help: "Free space below which writes are refused: storage.min_free_disk.",
	}).Set(float64(disk.min))
	seconds := prometheus.ExponentialBuckets(0.00025, 2, 14)
	return &metrics{
		logSync: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crier_log_sync_seconds", Help: "Seconds of one synced write to the log, of all groups that waited.", Buckets: seconds,
		}),
		logBatches: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crier_log_sync_batches", Help: "Writes of groups that one sync made durable.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		flush: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crier_state_flush_seconds", Help: "Seconds of one synced write of state to disk.", Buckets: seconds,
		}),
		flushBytes: f.NewCounter(prometheus.CounterOpts{Name: "crier_state_flush_bytes_total", Help: "Bytes of state written to disk."}),
	}
}
