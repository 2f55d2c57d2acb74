package app

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/crier-im/crier"
)

// backupMetrics tells of the backups and restores that this node was asked for.
type backupMetrics struct {
	all  *prometheus.CounterVec
	last *prometheus.GaugeVec
}

func newBackupMetrics(r prometheus.Registerer) *backupMetrics {
	f := promauto.With(r)
	m := &backupMetrics{
		all: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crier_backups_total", Help: "Backups and restores that this node was asked for, by result: done, refused or failed.",
		}, []string{"operation", "result"}),
		last: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crier_backup_last_timestamp_seconds", Help: "When the last one was done by this node since its start, in Unix time.",
		}, []string{"operation"}),
	}
	for _, operation := range []string{"backup", "restore"} {
		for _, result := range []string{"done", "refused", "failed"} {
			m.all.WithLabelValues(operation, result) // from 0 on, so that the first is an increase
		}
	}
	return m
}

// count counts one, and returns its error.
func (m *backupMetrics) count(operation string, err error) error {
	result := "done"
	switch {
	case errors.Is(err, crier.CodeBadParameter):
		result = "refused"
	case err != nil:
		result = "failed"
	default:
		m.last.WithLabelValues(operation).SetToCurrentTime()
	}
	m.all.WithLabelValues(operation, result).Inc()
	return err
}
