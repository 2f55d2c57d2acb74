package app

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
)

func TestBackupsAreCounted(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := newBackupMetrics(r)
	for _, err := range []error{nil, context.Canceled, nil, crier.Errorf(crier.CodeBadParameter, "the cluster has 2 apps")} {
		if got := m.count("backup", err); !errors.Is(got, err) {
			t.Errorf("%v for %v", got, err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64) // by operation and result
	for _, f := range families {
		for _, one := range f.GetMetric() {
			labels := one.GetLabel()
			if f.GetName() == "crier_backups_total" {
				got[labels[0].GetValue()+" "+labels[1].GetValue()] = one.GetCounter().GetValue()
			} else if at := one.GetGauge().GetValue(); labels[0].GetValue() != "backup" || at < 1e9 {
				t.Errorf("the last %s was at %v", labels[0].GetValue(), at)
			}
		}
	}
	want := map[string]float64{"backup done": 2, "backup failed": 1, "backup refused": 1, "restore done": 0, "restore failed": 0, "restore refused": 0}
	if !maps.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}
