package config_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/crier-im/crier/internal/config"
)

var update = flag.Bool("update", false, "write the generated files")

const (
	reference = "../../etc/crier.yaml"
	document  = "../../docs/configuration.md"
)

func noEnv(string) (string, bool) { return "", false }

func TestLaterWins(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/crier.yaml"
	if err := os.WriteFile(file, []byte("data_dir: from-file\nhttp:\n  listen: 127.0.0.1:1\ngateway:\n  heartbeat: 30s\n  origins: [https://a]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse([]string{"--http-listen", "127.0.0.1:3", "--gateway-compress"}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CRIER_HTTP_LISTEN": "127.0.0.1:2", "CRIER_CLUSTER_PARTITIONS": "16", "CRIER_HTTP_TRUSTED_PROXIES": "10.0.0.1,10.0.0.2"}
	c, err := config.Load(file, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, flags)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.DataDir, want.HTTP.Listen, want.Gateway.Heartbeat, want.Gateway.Origins = "from-file", "127.0.0.1:3", 30*time.Second, []string{"https://a"}
	want.Cluster.Partitions, want.HTTP.TrustedProxies, want.Gateway.Compress = 16, []string{"10.0.0.1", "10.0.0.2"}, true
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"data_dir": "", "http.listen": "nowhere", "admin.listen": "nowhere", "http.tls_cert": "only.pem", "operator.token": "short", "http.trusted_proxies": "10.0.0.1,nonsense",
		"gateway.login_timeout": "0s", "gateway.heartbeat": "1500ms", "gateway.write_timeout": "-1s", "gateway.drain_spread": "0s",
		"gateway.max_connections": "-1", "cluster.partitions": "1025", "cluster.gossip_listen": "x", "cluster.actor_listen": "x",
		"vendors.key": "not-hexadecimal", "vendors.concurrency": "0", "vendors.apns_endpoint": "http://127.0.0.1:1", "vendors.fcm_endpoint": "https://127.0.0.1/path",
		"vendors.fcm_token_url": "ftp://127.0.0.1", "cluster.heartbeat": "10ms", "http.call_timeout": "2h", "storage.min_free_disk": "0", "log.level": "loud", "log.format": "xml",
	} {
		c := config.Default()
		for _, f := range c.Fields() {
			if f.Name == name {
				if err := f.Set(value); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s = %q: got %v", name, value, err)
		}
	}
	for field, change := range map[string]func(*config.Cluster){
		"cluster.raft_listen: is not an address":       func(c *config.Cluster) { c.RaftListen = "0.0.0.0:7951" },
		"cluster.gossip_listen: is not an address":     func(c *config.Cluster) { c.GossipListen = ":7941" },
		"cluster.actor_listen: is not an address":      func(c *config.Cluster) { c.ActorListen = "[::]:7961" },
		"cluster.raft_listen: must have a port":        func(c *config.Cluster) { c.Advertise, c.RaftListen = "node1.example.com", "0.0.0.0:0" },
		"cluster.advertise: must be a name":            func(c *config.Cluster) { c.Advertise = "10.0.0.1:7941" },
		"cluster.advertise: must be a name or an IP":   func(c *config.Cluster) { c.Advertise = "0.0.0.0" },
		"cluster.join: must be a list of host or host": func(c *config.Cluster) { c.Join = []string{"node1.example.com", "node2.example.com:99999"} },
	} {
		c := config.Default()
		change(&c.Cluster)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
	c := config.Default()
	c.Cluster.GossipListen, c.Cluster.RaftListen, c.Cluster.ActorListen = "0.0.0.0:7941", "[::]:7951", ":7961"
	c.Cluster.Advertise, c.Cluster.Join = "node1.example.com", []string{"node2.example.com", "10.0.0.3:7941", "fd00::4", "[fd00::5]:7941"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c = config.Default()
	c.Admin.Listen = "0.0.0.0:6060"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "admin.listen: is not a loopback address") {
		t.Errorf("profiles for everybody: %v", err)
	}
	c.HTTP.AllowPlain = true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c = config.Default()
	c.HTTP.Listen = "0.0.0.0:80"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "allow_plain_http") {
		t.Errorf("plain HTTP everywhere: %v", err)
	}
	c.HTTP.AllowPlain = true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestUnknownAndMalformedSettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http:\n  lisen: x\n":                "lisen",
		"gateway:\n  heartbeat: soon\n":      "soon",
		"cluster:\n  partitions: many\n":     "many",
		"data_dir: a\ndata_dir: b\n":         "data_dir",
		"http: [\n":                          "line",
		"storage:\n  min_free_disk: 512MB\n": "512MB",
	} {
		file := t.TempDir() + "/crier.yaml"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(file, noEnv, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	bad := func(name string) (string, bool) { return "soon", name == "CRIER_GATEWAY_HEARTBEAT" }
	if _, err := config.Load("", bad, nil); err == nil || !strings.Contains(err.Error(), "CRIER_GATEWAY_HEARTBEAT") {
		t.Errorf("environment: %v", err)
	}
	if _, err := config.Load("/no/such/file", noEnv, nil); err == nil {
		t.Error("a file that is not there was read")
	}
}

// reference writes every setting at its default, with its help.
func renderReference() string {
	var b strings.Builder
	b.WriteString("# Every setting of crier serve, at its default. Each can also be given in the environment\n# (CRIER_HTTP_LISTEN) or as a flag (--http-listen), which win over this file.\n")
	section := ""
	for _, f := range config.Default().Fields() {
		name, indent := f.Name, ""
		if s, rest, ok := strings.Cut(f.Name, "."); ok {
			if s != section {
				section = s
				fmt.Fprintf(&b, "\n%s:\n", s)
			}
			name, indent = rest, "  "
		}
		value := f.String()
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(&b, "%s# %s\n%s%s: %s\n", indent, f.Help, indent, name, value)
	}
	return b.String()
}

func renderDocument() string {
	var b strings.Builder
	b.WriteString("# Configuration\n\n`crier serve` takes each setting from its default, a YAML file (`--config`, or `CRIER_CONFIG`), the environment, and\n" +
		"flags; the later wins. `etc/crier.yaml` has them all. `crier config` checks a configuration and prints what is in force.\n" +
		"Limits and switches of an app are not here: they belong to the app (`crier app`, docs/api.md).\n\n" +
		"| setting | default | environment | flag | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range config.Default().Fields() {
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | `--%s` | %s |\n", f.Name, f.String(), f.Env(), f.Flag(), f.Help)
	}
	return strings.ReplaceAll(b.String(), "| `` |", "| empty |")
}

// The reference file and the document are generated: go test ./internal/config -update
func TestGeneratedFiles(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{reference: renderReference(), document: renderDocument()} {
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the settings say (%v); go test ./internal/config -update", name, err)
		}
	}
	c, err := config.Load(reference, noEnv, nil)
	if err != nil || !reflect.DeepEqual(c, config.Default()) {
		t.Errorf("the reference is not the default: %v", err)
	}
	var keys map[string]any
	text, _ := os.ReadFile(reference)
	if err := yaml.Unmarshal(text, &keys); err != nil || len(keys) < 8 {
		t.Errorf("%d sections, %v", len(keys), err)
	}
}
