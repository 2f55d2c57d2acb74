package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/internal/demo"
	"github.com/crier-im/crier/internal/demo/demofile"
	"github.com/crier-im/crier/usersig"
)

const (
	// demoApp is the app of serve --demo, and demoAdmin its admin.
	demoApp   crier.AppID  = 1400000001
	demoAdmin crier.UserID = "administrator"
	// demoSigLife is how long the UserSig in it is valid.
	demoSigLife = 180 * 24 * time.Hour
	// demoFallback is the fallback_after of the demo's app: nobody wants to watch a story for the default of 10 s.
	demoFallback = 3 * time.Second
	// gcPercent is how much garbage comes together before it is collected, in percent of the memory in use, unless GOGC says. Less than Go's own 100, since 84 MB of it
	// are Badger's memtables, in which a collection has nothing to look for (docs/adr/0033).
	gcPercent = 75
)

func newServe() *cobra.Command {
	var file string
	var withDemo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: "Run a node. Every setting can stand in a YAML file (etc/crier.yaml is the reference), in the\n" +
			"environment (CRIER_HTTP_LISTEN) and in a flag (--http-listen); the later wins.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file, os.LookupEnv, cmd.Flags())
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(gcPercent)
			}
			opts := app.Options{Logger: newLogger(cfg)}
			if withDemo {
				return serveDemo(cmd.Context(), cmd.OutOrStdout(), cfg, opts)
			}
			return app.Run(cmd.Context(), cfg, opts)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVarP(&file, "config", "c", os.Getenv("CRIER_CONFIG"), "YAML file (CRIER_CONFIG)")
	cmd.Flags().BoolVar(&withDemo, "demo", false, "make app 1400000001, simulate Apple and Google, and write demo.json into the data directory")
	return cmd
}

func newConfig() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration and print what is in force",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file, os.LookupEnv, cmd.Flags())
			if err != nil {
				return err
			}
			for _, secret := range []*string{&cfg.Operator.Token, &cfg.Vendors.Key, &cfg.Cluster.GossipKey} {
				if *secret != "" {
					*secret = "(secret)"
				}
			}
			text, err := yaml.Marshal(cfg)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVarP(&file, "config", "c", os.Getenv("CRIER_CONFIG"), "YAML file (CRIER_CONFIG)")
	return cmd
}

func newLogger(cfg *config.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // validated
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// serveDemo serves with simulators in the place of the vendors for whom the configuration names no server.
func serveDemo(ctx context.Context, out io.Writer, cfg *config.Config, opts app.Options) (err error) {
	sims, err := demo.StartSimulators(&cfg.Vendors)
	if err != nil {
		return fmt.Errorf("simulate the vendors: %w", err)
	}
	defer func() { err = errors.Join(err, sims.Close()) }()
	opts.VendorCA = sims.CA()
	opts.OnReady = func(ctx context.Context, info app.Info) error {
		return prepareDemo(ctx, out, cfg, info, sims, opts.Logger)
	}
	return app.Run(ctx, cfg, opts)
}

// prepareDemo makes the demo's app where it is not there, gives it credentials for the simulators, writes demo.json, and
// prints what to do next.
func prepareDemo(ctx context.Context, out io.Writer, cfg *config.Config, info app.Info, sims *demo.Simulators, log *slog.Logger) error {
	fresh := &crier.App{
		ID: demoApp, Name: "demo", Key: crier.NewKey(), Admins: []crier.UserID{demoAdmin}, PushEnabled: true,
		Limits: crier.DefaultLimits(), CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	fresh.Limits.PushInterval, fresh.Limits.PushesPerDay, fresh.Limits.CallsPerSecond = 0, 0, 0 // the demo and the benchmarks push often
	fresh.Limits.FallbackAfter = demoFallback
	a, err := sims.Prepare(ctx, info, fresh)
	if a == nil {
		return fmt.Errorf("make the demo's app: %w", err)
	}
	sig := usersig.Sign(a.Key, a.ID, demoAdmin, time.Now(), demoSigLife, nil)
	d := demofile.Info{URL: info.URL, SDKAppID: a.ID, Key: a.Key, Admin: demoAdmin, UserSig: sig, Page: sims.Page(), FCM: sims.FCM()}
	if err != nil { // a full disk, which a server with accounts in it survives
		log.Warn("the demo's app has no credentials for the simulators: its phones get nothing", "err", err)
		d.Page, d.FCM = "", ""
	}
	if err := demofile.Write(cfg.DataDir, d); err != nil {
		return err
	}
	explainDemo(out, &d)
	return nil
}

// explainDemo prints what to do with a demo server.
func explainDemo(out io.Writer, d *demofile.Info) {
	fmt.Fprintf(out, "\nCrier serves on %s with the demo app %d.\n", d.URL, d.SDKAppID)
	if d.Page != "" {
		fmt.Fprintf(out, "See iPhones get notifications, in a browser:  %s\n", d.Page)
	}
	fmt.Fprintf(out, `See it work, in a second terminal:            make demo
Or push to whoever listens:                   bin/crier listen --user alice     (one terminal)
                                              bin/crier push --text 'Hello'     (another)
Or with curl:
  curl -s '%s/v4/openim/im_push?sdkappid=%d&identifier=%s&usersig=%s&random=1&contenttype=json' \
    -d '{"MsgRandom":%d,"MsgLifeTime":3600,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"Hello"}}]}'

`, d.URL, d.SDKAppID, d.Admin, d.UserSig, time.Now().Unix()%1000000)
}
