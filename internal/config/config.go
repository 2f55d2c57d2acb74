// Package config is the configuration of a node: one structure, filled from its
// defaults, a YAML file, the environment and flags, the later over the earlier.
package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/crier-im/crier"
)

const (
	// minToken is the least length of the operator's token.
	minToken = 16
	// maxConcurrency bounds vendors.concurrency: each notification under way holds a stream, and may hold a connection.
	maxConcurrency = 100_000
)

// Config is everything that can be configured of a node. docs/configuration.md
// is generated from the help texts.
type Config struct {
	DataDir  string   `yaml:"data_dir" help:"where everything is kept"`
	HTTP     HTTP     `yaml:"http"`
	Admin    Admin    `yaml:"admin"`
	Operator Operator `yaml:"operator"`
	Gateway  Gateway  `yaml:"gateway"`
	Vendors  Vendors  `yaml:"vendors"`
	Cluster  Cluster  `yaml:"cluster"`
	Storage  Storage  `yaml:"storage"`
	Log      Log      `yaml:"log"`
}

// HTTP is where the APIs and the gateway listen.
type HTTP struct {
	Listen         string        `yaml:"listen" help:"host:port of the REST API, the operator's API and the gateway; port 0 picks one"`
	TLSCert        string        `yaml:"tls_cert" help:"PEM file of the certificate chain; a changed file is taken up without a restart"`
	TLSKey         string        `yaml:"tls_key" help:"PEM file of its key"`
	AllowPlain     bool          `yaml:"allow_plain_http" help:"answer plain HTTP on addresses other than loopback: only behind a proxy that ends TLS"`
	TrustedProxies []string      `yaml:"trusted_proxies" help:"addresses or CIDRs whose X-Forwarded-For is believed"`
	CallTimeout    time.Duration `yaml:"call_timeout" help:"how long a call looks for the answer of the cluster before it is told 60008; callers give up soon after 3 s, and a leader that hangs is replaced after 2"`
}

// Admin is where pprof and metrics listen.
type Admin struct {
	Listen string `yaml:"listen" help:"host:port of pprof and /metrics; empty: no pprof, and /metrics on http.listen"`
}

// Operator is the operator's API.
type Operator struct {
	Token     string `yaml:"token" help:"opens the operator's API; empty: made once and kept in operator.token in the data directory"`
	TokenFile string `yaml:"token_file" help:"file that holds the token, instead of operator.token"`
}

// Gateway is the connections of devices.
type Gateway struct {
	LoginTimeout   time.Duration `yaml:"login_timeout" help:"from the connection to its login frame"`
	Heartbeat      time.Duration `yaml:"heartbeat" help:"within which clients send something; whole seconds"`
	WriteTimeout   time.Duration `yaml:"write_timeout" help:"for one write to a connection"`
	DrainSpread    time.Duration `yaml:"drain_spread" help:"over which a stop spreads the closing of connections"`
	MaxConnections int           `yaml:"max_connections" help:"live connections of this node; 0: unlimited"`
	Origins        []string      `yaml:"origins" help:"Origins that browsers may connect from; none: any"`
	Compress       bool          `yaml:"compress" help:"offer permessage-deflate"`
}

// Vendors is how notifications are sent.
type Vendors struct {
	Key             string `yaml:"key" help:"seals the secrets of credentials: 64 hexadecimal digits, the same on all nodes; empty: made once and kept in vendors.key in the data directory"`
	Concurrency     int    `yaml:"concurrency" help:"notifications under way at a time on this node"`
	APNsEndpoint    string `yaml:"apns_endpoint" help:"https://host:port instead of Apple's servers, for every credential: a simulator"`
	FCMEndpoint     string `yaml:"fcm_endpoint" help:"http(s)://host:port instead of Google's server: a simulator"`
	FCMTokenURL     string `yaml:"fcm_token_url" help:"URL of access tokens instead of Google's: a simulator"`
	CAFile          string `yaml:"ca_file" help:"PEM file of more authorities to trust as a vendor: a simulator, a proxy"`
	WebPushInsecure bool   `yaml:"webpush_insecure" help:"send to endpoints without TLS and of internal addresses: simulators only"`
}

// Cluster is the node's part in the cluster. A single node is a cluster of one.
type Cluster struct {
	Name            string        `yaml:"name" help:"of the cluster; nodes of another are turned away"`
	Partitions      int           `yaml:"partitions" help:"number of partitions of a new data directory; fixed for ever"`
	Replicas        int           `yaml:"replicas" help:"nodes that keep each partition, where there are as many; the same on all nodes"`
	MovesAtOnce     int           `yaml:"moves_at_once" help:"partitions with a replica that is being built at a time, in the whole cluster; the same on all nodes"`
	SnapshotRate    int           `yaml:"snapshot_rate" help:"MB a second that this node sends of replicas that are built on others"`
	ReplaceAfter    time.Duration `yaml:"replace_after" help:"how long a dead node may take to come back before what it kept is rebuilt on others; the same on all nodes"`
	BootstrapExpect int           `yaml:"bootstrap_expect" help:"nodes that form a new cluster together; 1: this node by itself, or, with join, it joins a cluster that others have formed"`
	Join            []string      `yaml:"join" help:"host or host:port of the gossip of other nodes; without a port, that of gossip_listen"`
	Advertise       string        `yaml:"advertise" help:"name or IP address at which other nodes reach this one, at the ports that it listens on; empty: the addresses that it listens on"`
	GossipListen    string        `yaml:"gossip_listen" help:"host:port of gossip"`
	ActorListen     string        `yaml:"actor_listen" help:"host:port of the actor system"`
	RaftListen      string        `yaml:"raft_listen" help:"host:port of raft"`
	GossipKey       string        `yaml:"gossip_key" help:"encrypts gossip: 64 hexadecimal digits, the same on all nodes; empty: in the clear"`
	TLSCA           string        `yaml:"tls_ca" help:"PEM file of the CA of the nodes (crier tls ca); empty: what nodes tell one another is in the clear"`
	TLSCert         string        `yaml:"tls_cert" help:"PEM file of this node's certificate (crier tls cert); a changed file is taken up without a restart"`
	TLSKey          string        `yaml:"tls_key" help:"PEM file of its key"`
	TLSServerName   string        `yaml:"tls_server_name" help:"the name that the certificates of all nodes share"`
	Heartbeat       time.Duration `yaml:"heartbeat" help:"heartbeat and election timeout of raft"`
}

// Storage is the disk.
type Storage struct {
	MinFreeDisk int `yaml:"min_free_disk" help:"MB that must stay free; below, writes are refused with 91000 and reads go on"`
}

// Log is what the node tells on standard error.
type Log struct {
	Level  string `yaml:"level" help:"debug, info, warn or error"`
	Format string `yaml:"format" help:"text or json"`
}

// Default returns the defaults.
func Default() *Config {
	return &Config{
		DataDir: "data",
		HTTP:    HTTP{Listen: "127.0.0.1:8080", TrustedProxies: []string{}, CallTimeout: 2900 * time.Millisecond},
		Gateway: Gateway{
			LoginTimeout: 10 * time.Second, Heartbeat: time.Minute, WriteTimeout: 10 * time.Second,
			DrainSpread: 5 * time.Second, Origins: []string{},
		},
		Vendors: Vendors{Concurrency: 1000},
		Cluster: Cluster{
			Name: "crier", Partitions: crier.DefaultPartitions, Replicas: 3, MovesAtOnce: 1, SnapshotRate: 32, ReplaceAfter: time.Minute, BootstrapExpect: 1, Join: []string{},
			GossipListen: "127.0.0.1:0", ActorListen: "127.0.0.1:0", RaftListen: "127.0.0.1:0",
			TLSServerName: "crier-node", Heartbeat: time.Second,
		},
		Storage: Storage{MinFreeDisk: 512},
		Log:     Log{Level: "info", Format: "text"},
	}
}

// Field is one setting.
type Field struct {
	Name  string // as in YAML, with dots: http.listen
	Help  string
	value reflect.Value
}

// Env returns the name of the environment variable: CRIER_HTTP_LISTEN.
func (f Field) Env() string { return "CRIER_" + strings.ToUpper(strings.ReplaceAll(f.Name, ".", "_")) }

// Flag returns the name of the flag: http-listen.
func (f Field) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(f.Name) }

// String returns the value as YAML has it.
func (f Field) String() string {
	if f.value.Kind() == reflect.String {
		return f.value.String()
	}
	text, err := yaml.Marshal(f.value.Interface())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Set reads a value from text: YAML, or for lists also comma-separated.
func (f Field) Set(text string) error {
	if f.value.Kind() == reflect.String {
		f.value.SetString(text)
		return nil
	}
	// Not by way of YAML, where * and ::1 mean something else.
	if f.value.Kind() == reflect.Slice && !strings.HasPrefix(text, "[") {
		list := []string{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		f.value.Set(reflect.ValueOf(list))
		return nil
	}
	return yaml.Unmarshal([]byte(text), f.value.Addr().Interface())
}

// Type is pflag's.
func (f Field) Type() string {
	if d, ok := f.value.Interface().(time.Duration); ok {
		return fmt.Sprintf("%T", d)[len("time."):]
	}
	return f.value.Kind().String()
}

// Fields returns every setting, in the order of the structure.
func (c *Config) Fields() []Field {
	var fields []Field
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			t := v.Type().Field(i)
			name := prefix + t.Tag.Get("yaml")
			if v.Field(i).Kind() == reflect.Struct {
				walk(name+".", v.Field(i))
				continue
			}
			fields = append(fields, Field{Name: name, Help: t.Tag.Get("help"), value: v.Field(i)})
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return fields
}

// AddFlags adds a flag for every setting. They are applied by Load.
func AddFlags(set *pflag.FlagSet) {
	set.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "join" || name == "bootstrap-expect" || name == "advertise" { // as Consul has them
			name = "cluster-" + name
		}
		return pflag.NormalizedName(name)
	})
	for _, f := range Default().Fields() {
		set.Var(f, f.Flag(), fmt.Sprintf("%s (%s, %s)", f.Help, f.Name, f.Env()))
		if f.value.Kind() == reflect.Bool {
			set.Lookup(f.Flag()).NoOptDefVal = "true"
		}
	}
}

// Load returns the defaults, under the file (if file is not empty), under the
// environment, under the flags that were given. Errors name the file's line, the variable
// or the flag; the result is valid.
func Load(file string, env func(string) (string, bool), flags *pflag.FlagSet) (*Config, error) {
	c := Default()
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		if err := c.read(text); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", file, err)
		}
	}
	for _, f := range c.Fields() {
		if text, ok := env(f.Env()); ok {
			if err := f.Set(text); err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", f.Env(), err)
			}
		}
		if flags != nil && flags.Changed(f.Flag()) {
			// The value, not its text: a text read twice loses or gains quotes.
			if given, ok := flags.Lookup(f.Flag()).Value.(Field); ok {
				f.value.Set(given.value)
			}
		}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, c.readToken()
}

// readToken takes the operator's token from its file, where there is one.
func (c *Config) readToken() error {
	if c.Operator.TokenFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.Operator.TokenFile)
	if err != nil {
		return fmt.Errorf("configuration: operator.token_file: %w", err)
	}
	c.Operator.Token = strings.TrimSpace(string(text))
	if len(c.Operator.Token) < minToken {
		return fmt.Errorf("configuration: operator.token_file: must hold at least %d characters", minToken)
	}
	return nil
}

// read takes a YAML text over c; unknown keys are errors.
func (c *Config) read(text []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Validate returns every problem with the name of the field and the rule.
func (c *Config) Validate() error {
	var errs []error
	must := func(ok bool, field, rule string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", field, rule))
		}
	}
	must(c.DataDir != "", "data_dir", "must not be empty")
	must(isAddress(c.HTTP.Listen), "http.listen", "must be host:port, the port 0 to 65535")
	must(isAddress(c.Cluster.GossipListen), "cluster.gossip_listen", "must be host:port, the port 0 to 65535")
	must(isAddress(c.Cluster.ActorListen), "cluster.actor_listen", "must be host:port, the port 0 to 65535")
	must(isAddress(c.Cluster.RaftListen), "cluster.raft_listen", "must be host:port, the port 0 to 65535")
	must(!slices.ContainsFunc(c.Cluster.Join, func(a string) bool { return !isAddress(a) && !isHost(a) }), "cluster.join", "must be a list of host or host:port")
	must(c.Cluster.Advertise == "" || isHost(c.Cluster.Advertise) && !isAny(c.Cluster.Advertise), "cluster.advertise", "must be a name or an IP address that others reach, without a port")
	for _, l := range []struct{ field, address string }{
		{"cluster.gossip_listen", c.Cluster.GossipListen}, {"cluster.actor_listen", c.Cluster.ActorListen}, {"cluster.raft_listen", c.Cluster.RaftListen},
	} {
		host, port, err := net.SplitHostPort(l.address)
		must(err != nil || c.Cluster.Advertise != "" || !isAny(host), l.field, "is not an address that other nodes can reach: set cluster.advertise, too")
		must(c.Cluster.Advertise == "" || port != "0", l.field, "must have a port other than 0, since cluster.advertise is set")
	}
	must(c.Cluster.GossipKey == "" || isKey(c.Cluster.GossipKey), "cluster.gossip_key", "must have 64 hexadecimal digits")
	files := []string{c.Cluster.TLSCA, c.Cluster.TLSCert, c.Cluster.TLSKey}
	must(!slices.Contains(files, "") || files[0]+files[1]+files[2] == "", "cluster.tls_ca", "must be given with tls_cert and tls_key, or none of them")
	must(c.Cluster.TLSServerName != "", "cluster.tls_server_name", "must not be empty")
	must(c.Cluster.Name != "" && len(c.Cluster.Name) <= 64, "cluster.name", "must have 1 to 64 characters")
	must(c.Cluster.Replicas >= 1 && c.Cluster.Replicas <= 7, "cluster.replicas", "must be 1 to 7")
	must(c.Cluster.MovesAtOnce >= 1 && c.Cluster.MovesAtOnce <= crier.MaxPartitions, "cluster.moves_at_once", "must be 1 to 1024")
	must(c.Cluster.SnapshotRate >= 1 && c.Cluster.SnapshotRate <= 100_000, "cluster.snapshot_rate", "must be 1 to 100000")
	must(c.Cluster.ReplaceAfter >= time.Second, "cluster.replace_after", "must be at least 1s")
	must(c.Cluster.BootstrapExpect >= 1 && c.Cluster.BootstrapExpect <= 7, "cluster.bootstrap_expect", "must be 1 to 7")
	for _, proxy := range c.HTTP.TrustedProxies {
		must(isProxy(proxy), "http.trusted_proxies", fmt.Sprintf("%q is neither an IP address nor a CIDR", proxy))
	}
	must(c.Admin.Listen == "" || isAddress(c.Admin.Listen), "admin.listen", "must be host:port, the port 0 to 65535, or empty")
	must(c.Admin.Listen == "" || isLoopback(c.Admin.Listen) || c.HTTP.AllowPlain, "admin.listen",
		"is not a loopback address, and shows what is in the memory in plain HTTP: set http.allow_plain_http where operators only reach it")
	must((c.HTTP.TLSCert == "") == (c.HTTP.TLSKey == ""), "http.tls_cert and http.tls_key", "must be given both or neither")
	must(c.HTTP.TLSCert != "" || c.HTTP.AllowPlain || isLoopback(c.HTTP.Listen), "http.listen",
		"is not a loopback address, and there is no TLS certificate: set http.tls_cert and http.tls_key, or http.allow_plain_http behind a proxy that ends TLS")
	must(c.Operator.Token == "" || c.Operator.TokenFile == "", "operator.token and operator.token_file", "must not be given both")
	must(c.Operator.Token == "" || len(c.Operator.Token) >= minToken, "operator.token", fmt.Sprintf("must have at least %d characters", minToken))
	must(c.Gateway.LoginTimeout > 0, "gateway.login_timeout", "must be over 0")
	must(c.Gateway.Heartbeat >= time.Second && c.Gateway.Heartbeat%time.Second == 0, "gateway.heartbeat", "must be whole seconds, 1s at least")
	must(c.Gateway.WriteTimeout > 0, "gateway.write_timeout", "must be over 0")
	must(c.Gateway.DrainSpread > 0, "gateway.drain_spread", "must be over 0")
	must(c.Gateway.MaxConnections >= 0, "gateway.max_connections", "must be 0 (unlimited) or more")
	must(c.Vendors.Key == "" || isKey(c.Vendors.Key), "vendors.key", "must have 64 hexadecimal digits")
	must(c.Vendors.Concurrency >= 1 && c.Vendors.Concurrency <= maxConcurrency, "vendors.concurrency", fmt.Sprintf("must be 1 to %d", maxConcurrency))
	must(c.Vendors.APNsEndpoint == "" || isOrigin(c.Vendors.APNsEndpoint, "https"), "vendors.apns_endpoint", "must be https://host:port, or empty")
	must(c.Vendors.FCMEndpoint == "" || isOrigin(c.Vendors.FCMEndpoint, "https", "http"), "vendors.fcm_endpoint", "must be http(s)://host:port, or empty")
	must(c.Vendors.FCMTokenURL == "" || isURL(c.Vendors.FCMTokenURL, "https", "http"), "vendors.fcm_token_url", "must be an http(s) URL, or empty")
	must(c.Cluster.Partitions >= 1 && c.Cluster.Partitions <= crier.MaxPartitions, "cluster.partitions", "must be 1 to 1024")
	must(c.HTTP.CallTimeout >= 100*time.Millisecond && c.HTTP.CallTimeout <= time.Minute, "http.call_timeout", "must be 100ms to 1m")
	must(c.Cluster.Heartbeat >= 50*time.Millisecond, "cluster.heartbeat", "must be at least 50ms")
	must(c.Storage.MinFreeDisk >= 1, "storage.min_free_disk", "must be at least 1")
	must(slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level), "log.level", "must be debug, info, warn or error")
	must(slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format", "must be text or json")
	if len(errs) > 0 {
		return fmt.Errorf("configuration: %w", errors.Join(errs...))
	}
	return nil
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isHost reports whether s is a name or an IP address, without a port.
func isHost(s string) bool {
	return s != "" && (net.ParseIP(s) != nil || !strings.ContainsAny(s, ":/[] \t"))
}

// isAny reports whether a host stands for all addresses of the machine.
func isAny(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func isKey(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

func isURL(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != "" && u.User == nil
}

func isOrigin(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	return err == nil && isURL(s, schemes...) && strings.TrimSuffix(u.Path, "/")+u.RawQuery+u.Fragment == ""
}

func isProxy(s string) bool {
	_, err := netip.ParsePrefix(s)
	if err != nil {
		_, err = netip.ParseAddr(s)
	}
	return err == nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
