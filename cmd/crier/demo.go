package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/crier-im/crier/internal/demo"
)

func newDemo() *cobra.Command {
	var t target
	var pace time.Duration
	cmd := &cobra.Command{
		Use: "demo", Short: "Play three stories of pushes against a running server, and judge who got what", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), demo.Config{
				Client: c, Listen: t.listen, Out: cmd.OutOrStdout(), Pace: pace, Color: term.IsTerminal(int(os.Stdout.Fd())),
			})
		},
	}
	t.addFlags(cmd)
	cmd.Flags().DurationVar(&pace, "pace", 300*time.Millisecond, "a pause between the scenes")
	return cmd
}
