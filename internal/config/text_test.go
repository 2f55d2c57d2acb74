package config_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/crier-im/crier/internal/config"
)

// A value is taken as it was given: what YAML would quote, or read as its own
// syntax, comes through flags and the environment unchanged.
func TestValuesArriveAsGiven(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       any
	}{
		{"http.listen", "[::1]:8080", "[::1]:8080"},
		{"data_dir", "a: b", "a: b"},
		{"data_dir", "#x", "#x"},
		{"data_dir", "\"quoted\"", "\"quoted\""},
		{"operator.token", "0123456789012345", "0123456789012345"},
		{"gateway.origins", "*", []string{"*"}},
		{"gateway.origins", "https://a, https://b", []string{"https://a", "https://b"}},
		{"gateway.origins", "", []string{}},
		{"http.trusted_proxies", "::1,fd00::/8", []string{"::1", "fd00::/8"}},
		{"http.trusted_proxies", "[10.0.0.1]", []string{"10.0.0.1"}},
	} {
		field := find(t, config.Default(), c.name)
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		config.AddFlags(flags)
		if err := flags.Parse([]string{"--" + field.Flag() + "=" + c.text}); err != nil {
			t.Errorf("--%s=%s: %v", field.Flag(), c.text, err)
			continue
		}
		want := config.Default()
		set(want, c.name, c.want)
		if got, err := config.Load("", noEnv, flags); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("--%s=%s: %+v, %v", field.Flag(), c.text, got, err)
		}
		env := func(name string) (string, bool) { return c.text, name == field.Env() }
		if got, err := config.Load("", env, nil); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s=%s: %+v, %v", field.Env(), c.text, got, err)
		}
	}
}

// The flags that Consul's users know are there under their names.
func TestFlagsAsConsulHasThem(t *testing.T) {
	t.Parallel()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse([]string{"--join", "10.0.0.1", "--bootstrap-expect=3", "--advertise", "10.0.0.2", "--cluster-gossip-listen=0.0.0.0:7946", "--cluster-raft-listen=0.0.0.0:7947", "--cluster-actor-listen=0.0.0.0:7948"}); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load("", noEnv, flags)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Cluster.Join, []string{"10.0.0.1"}) || c.Cluster.BootstrapExpect != 3 || c.Cluster.Advertise != "10.0.0.2" {
		t.Errorf("%+v", c.Cluster)
	}
}

func find(t *testing.T, c *config.Config, name string) config.Field {
	t.Helper()
	for _, f := range c.Fields() {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("there is no setting %s", name)
	return config.Field{}
}

func set(c *config.Config, name string, value any) {
	switch name {
	case "http.listen":
		c.HTTP.Listen = value.(string)
	case "data_dir":
		c.DataDir = value.(string)
	case "operator.token":
		c.Operator.Token = value.(string)
	case "gateway.origins":
		c.Gateway.Origins = value.([]string)
	case "http.trusted_proxies":
		c.HTTP.TrustedProxies = value.([]string)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for listen, ok := range map[string]bool{"127.0.0.1:0": true, "127.0.0.1:65535": true, "127.0.0.1:65536": false, "127.0.0.1:-1": false, "127.0.0.1:": false, "127.0.0.1:http": false} {
		c := config.Default()
		c.HTTP.Listen = listen
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

// Every problem is told at once, and in the same order each time.
func TestEveryProblemIsTold(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.HTTP.Listen, c.Cluster.GossipListen, c.Cluster.ActorListen, c.Log.Level = "x", "y", "z", "loud"
	err := c.Validate()
	if err == nil {
		t.Fatal("taken")
	}
	at := -1
	for _, name := range []string{"http.listen", "cluster.gossip_listen", "cluster.actor_listen", "log.level"} {
		i := strings.Index(err.Error(), name)
		if i <= at {
			t.Errorf("%s is missing or out of order: %v", name, err)
		}
		at = i
	}
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/token"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"CRIER_OPERATOR_TOKEN_FILE": file}
	load := func() (*config.Config, error) {
		return config.Load("", func(name string) (string, bool) { v, ok := env[name]; return v, ok }, nil)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "operator.token_file") {
		t.Errorf("a file that is not there: %v", err)
	}
	write("short\n")
	if _, err := load(); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short token: %v", err)
	}
	write("0123456789abcdef\n")
	if c, err := load(); err != nil || c.Operator.Token != "0123456789abcdef" {
		t.Errorf("%+v, %v", c, err)
	}
	env["CRIER_OPERATOR_TOKEN"] = "fedcba9876543210"
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("both: %v", err)
	}
}
