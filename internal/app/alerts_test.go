package app

import (
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/crier-im/crier/internal/config"
)

// described returns the names of all metrics that a node has, also of those without a value yet.
func described(t *testing.T) map[string]bool {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := config.Default()
	cfg.DataDir, cfg.Cluster.Partitions, cfg.Storage.MinFreeDisk = t.TempDir(), 1, 1
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	pool, err := openPool(cfg, nil, r, log)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	node, err := clusterConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	core, err := OpenCore(t.Context(), storageConfig(cfg, log), node, pool, cfg.HTTP.CallTimeout, r, log)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	gate, err := openGateway(cfg, core.Service, r, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openServer(cfg, core, pool, gate, "token", r, log); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"up": true} // Prometheus's own
	descs := make(chan *prometheus.Desc)
	go func() {
		r.Describe(descs)
		close(descs)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		names[name.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

// Every alert speaks of metrics that there are, and docs/operations.md says what to do.
func TestAlerts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../etc/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	tree, err := yaml.Parser().Unmarshal(text)
	if err == nil {
		text, err = json.Marshal(tree)
	}
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := described(t)
	metric := regexp.MustCompile(`\b(?:crier|process|go)_[a-z_]+|\bup\b`)
	rules := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			used := metric.FindAllString(r.Expr, -1)
			for _, m := range used {
				if !names[m] && !names[strings.TrimSuffix(m, "_bucket")] {
					t.Errorf("%s: there is no metric %s", r.Alert, m)
				}
			}
			if len(used) == 0 || r.Annotations["summary"] == "" || r.Labels["severity"] != "page" && r.Labels["severity"] != "ticket" {
				t.Errorf("%s: it has no metric, no summary or no severity", r.Alert)
			}
			if !strings.Contains(string(docs), "| `"+r.Alert+"` ("+r.Labels["severity"]+")") {
				t.Errorf("docs/operations.md does not say what to do about %s (%s)", r.Alert, r.Labels["severity"])
			}
		}
	}
	if rules < 10 {
		t.Errorf("%d rules", rules)
	}
}
