package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier/internal/bench"
)

func newBench() *cobra.Command {
	cfg := bench.Config{}
	var bare, report string
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure a node against the limits of this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if bare != "" {
				return bench.ServeBare(bare)
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return err
			}
			if cfg.Dir, err = os.MkdirTemp(cfg.Dir, "crier-bench-"); err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(cfg.Dir) }()
			cfg.Out = cmd.ErrOrStderr()
			results, err := bench.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if report == "" {
				return bench.Table(cmd.OutOrStdout(), results)
			}
			f, err := os.Create(report)
			if err != nil {
				return err
			}
			defer f.Close()
			fmt.Fprintf(cmd.OutOrStdout(), "written to %s\n", report)
			return bench.Markdown(f, cfg, results)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Dir, "dir", "", "where to keep data meanwhile; empty: the system's directory for temporary files")
	f.IntVar(&cfg.Accounts, "accounts", 1_000_000, "accounts of the large app")
	f.IntVar(&cfg.Connections, "connections", 10_000, "idle connections; the process may need that many file descriptors")
	f.IntVar(&cfg.Devices, "devices", 100_000, "devices that are notified, each of an account of its own")
	f.IntVar(&cfg.Kills, "kills", 50, "how often a node of a cluster is killed, and a fifth as often stopped")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how long each load of writes runs")
	f.StringSliceVar(&cfg.Only, "only", nil, "measure only these: writes, audience, connections, cluster, failover, growth, vendors, placement")
	f.StringVar(&report, "report", "", "write a Markdown report to this file instead of a table")
	f.StringVar(&bare, "bare", "", "serve as the bare WebSocket library on this address")
	_ = f.MarkHidden("bare") // the flag is there
	return cmd
}
