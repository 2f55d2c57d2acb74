package main

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/crier-im/crier/internal/demo"
	"github.com/crier-im/crier/internal/demo/demofile"
	"github.com/crier-im/crier/internal/demo/outage"
)

func newDemo() *cobra.Command {
	var t target
	var token, dataDir string
	var cfg demo.Config
	var cluster bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Play three stories of pushes against a running server, and judge who got what", Args: cobra.NoArgs,
		Long: "Play three stories of pushes against a running server, and judge who got what.\n" +
			"Against a server that was started with --demo, people have phones, and simulators in the place of Apple and Google.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cluster {
				return demoCluster(cmd)
			}
			if cfg.Client, err = t.client(); err != nil {
				return err
			}
			if d, err := demofile.Read(t.demo); err == nil && d.URL == t.url { // else it is of another server
				cfg.Page, cfg.FCM = d.Page, d.FCM
			}
			o := t.operator(token, dataDir)
			given := cmp.Or(token, os.Getenv("CRIER_OPERATOR_TOKEN"), dataDir) != ""
			if _, err := o.secret(); err == nil && (given || cfg.Page != "") {
				cfg.Operator = o.do
			}
			cfg.Listen, cfg.Out, cfg.Color = t.listen, cmd.OutOrStdout(), term.IsTerminal(int(os.Stdout.Fd()))
			return demo.Run(cmd.Context(), cfg)
		},
	}
	t.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&token, "token", "", "the operator's token (CRIER_OPERATOR_TOKEN); else read from the data directory")
	f.StringVar(&dataDir, "data-dir", "", "where operator.token stands; else beside the demo's file")
	f.DurationVar(&cfg.Pace, "pace", 300*time.Millisecond, "a pause between the scenes")
	f.BoolVar(&cfg.Keep, "keep", false, "leave the accounts at the end, so that crier explain can tell of them")
	f.BoolVar(&cluster, "cluster", false, "another story: start three nodes on this machine, and kill one in the middle of a push")
	return cmd
}

// demoCluster plays the story of a node's death, in a folder of its own that is removed at its end unless something went wrong.
func demoCluster(cmd *cobra.Command) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "crier-demo-")
	if err != nil {
		return err
	}
	const token = "the operator of the demo"
	err = outage.Run(cmd.Context(), outage.Config{
		Binary: binary, Dir: dir, Token: token, Out: cmd.OutOrStdout(), Color: term.IsTerminal(int(os.Stdout.Fd())),
		Operator: func(url string) demo.Operator { return (&operatorClient{url: url, token: token}).do },
	})
	if err != nil {
		return fmt.Errorf("%w (the nodes' logs are in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}
