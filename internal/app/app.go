package app

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/transport"
	crierhttp "github.com/crier-im/crier/http"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/operator"
	"github.com/crier-im/crier/http/rest"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/persistence"
	"github.com/crier-im/crier/vendors"
	"github.com/crier-im/crier/vendors/vault"
)

// TokenFile is where the operator's token stands in the data directory when the
// configuration gives none.
const TokenFile = "operator.token"

// KeyFile is where the key that seals the secrets of credentials stands in the data directory when the configuration
// gives none.
const KeyFile = "vendors.key"

// drainTimeout bounds how long a stop waits for connections beyond the time over
// which it spreads their closing.
const drainTimeout = 10 * time.Second

// Info is what a running node tells its starter.
type Info struct {
	URL           string // of the APIs and the gateway
	AdminURL      string // of pprof and metrics; empty: there is none
	OperatorToken string
	Service       *actors.Service
	Vault         Vault
}

// Vault takes credentials for vendors in, as the operator's API does.
type Vault = operator.Credentials

// Options are what a caller of Run adds to the configuration.
type Options struct {
	Logger *slog.Logger
	// OnReady is called when the node serves; an error stops it and is
	// returned by Run. May be nil.
	OnReady func(ctx context.Context, info Info) error
	// VendorCA is one more authority to trust as a vendor, beside those of vendors.ca_file: PEM, or nil.
	VendorCA []byte
}

// Run starts a node, serves until ctx ends or the node is drained, drains its connections and stops it. It blocks. Errors say which
// part failed and why; cluster.ErrRemoved that the node was given up.
func Run(ctx context.Context, cfg *config.Config, opts Options) (err error) {
	started := time.Now()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	pool, err := openPool(cfg, opts.VendorCA, registry, opts.Logger)
	if err != nil {
		return err
	}
	defer pool.Close()
	node, err := clusterConfig(cfg)
	if err != nil {
		return err
	}
	core, err := StartCore(ctx, storageConfig(cfg, opts.Logger), node, pool, cfg.HTTP.CallTimeout, registry, opts.Logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, core.Close()) }()
	token, err := operatorToken(cfg)
	if err != nil {
		return err
	}
	gate, err := openGateway(cfg, core.Service, registry, opts.Logger)
	if err != nil {
		return err
	}
	server, err := openServer(cfg, core, pool, gate, token, registry, opts.Logger)
	if err != nil {
		return errors.Join(err, drain(cfg, gate))
	}
	onReady := opts.OnReady
	opts.OnReady = func(ctx context.Context, info Info) error {
		opts.Logger.Info("ready", "url", info.URL, "node", core.Store.NodeID(), "partitions", core.Store.Partitions(),
			"took", time.Since(started).Round(time.Millisecond).String())
		if onReady == nil {
			return nil
		}
		return onReady(ctx, info)
	}
	info := Info{URL: server.URL(), AdminURL: server.AdminURL(), OperatorToken: token, Service: core.Service, Vault: pool}
	return serve(ctx, cfg, core, gate, server, info, opts)
}

// serve runs the server, which answers only operators until the node is ready, until ctx ends or the node has left the cluster, and then stops in the order of exposure: readiness, connections,
// listeners. What is behind them is closed by Run.
func serve(ctx context.Context, cfg *config.Config, core *Core, gate *gateway.Gateway, server *crierhttp.Server, info Info, opts Options) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(serving) }()
	err := core.WaitForReady(ctx)
	if err == nil {
		err = opts.OnReady(ctx, info)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-core.Cluster.Left():
			err = core.Cluster.LeftErr()
		case err = <-ended:
			return errors.Join(err, drain(cfg, gate))
		}
	}
	opts.Logger.Info("stopping", "connections", gate.Connections())
	server.Drain()
	err = errors.Join(err, drain(cfg, gate))
	stop()
	return errors.Join(err, <-ended)
}

func drain(cfg *config.Config, gate *gateway.Gateway) error {
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Gateway.DrainSpread+drainTimeout)
	defer cancel()
	return gate.Drain(ctx)
}

func storageConfig(cfg *config.Config, log *slog.Logger) persistence.Config {
	return persistence.Config{
		Dir: cfg.DataDir, Partitions: cfg.Cluster.Partitions, MinFreeDisk: uint64(cfg.Storage.MinFreeDisk) << 20, Logger: log,
		Fatal: func(err error) {
			log.Error("the state can't go on; the process ends, and finds everything again in the log at its next start", "err", err)
			os.Exit(1)
		},
	}
}

func clusterConfig(cfg *config.Config) (cluster.Config, error) {
	c := &cfg.Cluster
	key, err := hex.DecodeString(c.GossipKey)
	if err != nil {
		return cluster.Config{}, fmt.Errorf("cluster.gossip_key: %w", err)
	}
	node := cluster.Config{
		Name: c.Name, Version: Version(), Replicas: c.Replicas, MovesAtOnce: c.MovesAtOnce, SnapshotRate: c.SnapshotRate * 1_000_000, Grace: c.ReplaceAfter, Expect: c.BootstrapExpect, Join: c.Join, Advertise: c.Advertise, GossipListen: c.GossipListen,
		ActorListen: c.ActorListen, RaftListen: c.RaftListen, GossipKey: key, HeartbeatTimeout: c.Heartbeat, Codec: actors.Codec{},
	}
	if c.TLSCA != "" {
		node.TLS, err = transport.LoadTLS(c.TLSCA, c.TLSCert, c.TLSKey, c.TLSServerName)
	}
	return node, err
}

// openPool opens what sends notifications. It comes before the core, which sends with it until it is closed.
func openPool(cfg *config.Config, ca []byte, r prometheus.Registerer, log *slog.Logger) (*vendors.Pool, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	key, err := vault.LoadKey(cfg.Vendors.Key, filepath.Join(cfg.DataDir, KeyFile))
	if err != nil {
		return nil, err
	}
	v, err := vault.New(key)
	if err != nil {
		return nil, err
	}
	roots, err := vendorRoots(cfg.Vendors.CAFile, ca)
	if err != nil {
		return nil, err
	}
	return vendors.Open(vendors.Options{
		Vault: v, Logger: log, Registerer: r, Concurrency: cfg.Vendors.Concurrency, APNsEndpoint: cfg.Vendors.APNsEndpoint,
		FCMEndpoint: cfg.Vendors.FCMEndpoint, FCMTokenURL: cfg.Vendors.FCMTokenURL, RootCAs: roots, WebPushInsecure: cfg.Vendors.WebPushInsecure,
	}), nil
}

// vendorRoots returns the system's authorities, those of a file and another; nil, which means the system's, without these.
func vendorRoots(file string, another []byte) (*x509.CertPool, error) {
	if file == "" && another == nil {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil { // there are none
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(another)
	if file == "" {
		return roots, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("vendors.ca_file: %w", err)
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("vendors.ca_file: %s holds no certificate in PEM", file)
	}
	return roots, nil
}

func openGateway(cfg *config.Config, service *actors.Service, r prometheus.Registerer, log *slog.Logger) (*gateway.Gateway, error) {
	limits := gateway.DefaultLimits()
	if cfg.Gateway.MaxConnections > 0 {
		limits.Connections = cfg.Gateway.MaxConnections
	}
	return gateway.New(gateway.Config{
		Hub: service, Logger: log, Registerer: r, LoginTimeout: cfg.Gateway.LoginTimeout, Heartbeat: cfg.Gateway.Heartbeat,
		WriteTimeout: cfg.Gateway.WriteTimeout, DrainSpread: cfg.Gateway.DrainSpread, Limits: limits,
		Origins: cfg.Gateway.Origins, TrustedProxies: cfg.HTTP.TrustedProxies, Compress: cfg.Gateway.Compress,
	})
}

func openServer(cfg *config.Config, core *Core, pool *vendors.Pool, gate *gateway.Gateway, token string, registry *prometheus.Registry, log *slog.Logger) (*crierhttp.Server, error) {
	api := rest.New(rest.Config{Service: core.Service, Registerer: registry, Logger: log})
	return crierhttp.Open(crierhttp.Config{
		Listen: cfg.HTTP.Listen, TLSCert: cfg.HTTP.TLSCert, TLSKey: cfg.HTTP.TLSKey, AllowPlain: cfg.HTTP.AllowPlain,
		AdminListen: cfg.Admin.Listen, TrustedProxies: cfg.HTTP.TrustedProxies, Ready: core.Ready, Gatherer: registry, Logger: log,
	}, func(r gin.IRouter) {
		op := operator.New(core.Service, pool, core, core.Cluster, token)
		op.RegisterCluster(r)
		begun := r.Group("", crierhttp.Once(core.Begun()))
		api.Register(begun)
		op.Register(begun)
		begun.GET(gateway.Path, gin.WrapH(gate))
	})
}

// operatorToken returns the configured token, or the one in the data directory,
// which is made when it is not there. Only its owner can read the file.
func operatorToken(cfg *config.Config) (string, error) {
	if cfg.Operator.Token != "" {
		return cfg.Operator.Token, nil
	}
	name := filepath.Join(cfg.DataDir, TokenFile)
	text, err := os.ReadFile(name)
	if token := strings.TrimSpace(string(text)); err == nil && token != "" {
		return token, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("operator's token: %w", err)
	}
	token := crier.NewKey()
	if err := os.WriteFile(name, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("operator's token: %w", err)
	}
	return token, nil
}
