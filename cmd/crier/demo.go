package main

import (
	"cmp"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/crier-im/crier/internal/demo"
)

func newDemo() *cobra.Command {
	var t target
	var token, dataDir string
	var cfg demo.Config
	cmd := &cobra.Command{
		Use: "demo", Short: "Play three stories of pushes against a running server, and judge who got what", Args: cobra.NoArgs,
		Long: "Play three stories of pushes against a running server, and judge who got what.\n" +
			"Against a server that was started with --demo, people have phones, and simulators in the place of Apple and Google.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Client, err = t.client(); err != nil {
				return err
			}
			if d, err := readDemoInfo(t.demo); err == nil && d.URL == t.url { // else it is of another server
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
	return cmd
}
