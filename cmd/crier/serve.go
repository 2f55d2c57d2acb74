package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/usersig"
)

const (
	// demoApp is the app of serve --demo, and demoAdmin its admin.
	demoApp   crier.AppID  = 1400000001
	demoAdmin crier.UserID = "administrator"
	// demoFile is where serve --demo writes what the tools need to reach it, in the data directory.
	demoFile = "demo.json"
	// demoSigLife is how long the UserSig in it is valid.
	demoSigLife = 180 * 24 * time.Hour
)

// demoInfo is what demoFile holds.
type demoInfo struct {
	URL      string       `json:"url"`
	SDKAppID crier.AppID  `json:"sdkappid"`
	Key      string       `json:"key"`
	Admin    crier.UserID `json:"admin"`
	UserSig  string       `json:"usersig"`
}

func newServe() *cobra.Command {
	var file string
	var demo bool
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
			opts := app.Options{Logger: newLogger(cfg)}
			if demo {
				opts.OnReady = func(ctx context.Context, info app.Info) error { return prepareDemo(ctx, cfg, info) }
			}
			return app.Run(cmd.Context(), cfg, opts)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVarP(&file, "config", "c", os.Getenv("CRIER_CONFIG"), "YAML file (CRIER_CONFIG)")
	cmd.Flags().BoolVar(&demo, "demo", false, "make app 1400000001, and write demo.json into the data directory")
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
			for _, secret := range []*string{&cfg.Operator.Token, &cfg.Vendors.Key} {
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

// prepareDemo makes the demo's app where it is not there, writes demo.json, and
// prints what to do next.
func prepareDemo(ctx context.Context, cfg *config.Config, info app.Info) error {
	a := info.Service.App(demoApp)
	if a == nil {
		a = &crier.App{
			ID: demoApp, Name: "demo", Key: crier.NewKey(), Admins: []crier.UserID{demoAdmin}, PushEnabled: true,
			Limits: crier.DefaultLimits(), CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
		}
		a.Limits.PushInterval, a.Limits.PushesPerDay, a.Limits.CallsPerSecond = 0, 0, 0 // the demo and the benchmarks push often
		if err := info.Service.CreateApp(ctx, a); err != nil {
			return fmt.Errorf("make the demo's app: %w", err)
		}
	}
	sig := usersig.Sign(a.Key, a.ID, demoAdmin, time.Now(), demoSigLife, nil)
	text, err := json.MarshalIndent(demoInfo{info.URL, a.ID, a.Key, demoAdmin, sig}, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(cfg.DataDir, demoFile)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	fmt.Printf(`
Crier serves on %s with the demo app %d.
See it work, in a second terminal:    make demo
Or push to whoever listens:           bin/crier listen --user alice     (one terminal)
                                      bin/crier push --text 'Hello'     (another)
Or with curl:
  curl -s '%s/v4/openim/im_push?sdkappid=%d&identifier=%s&usersig=%s&random=1&contenttype=json' \
    -d '{"MsgRandom":%d,"MsgLifeTime":3600,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"Hello"}}]}'

`, info.URL, a.ID, info.URL, a.ID, demoAdmin, sig, time.Now().Unix()%1000000)
	return nil
}
