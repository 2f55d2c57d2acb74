package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

func newListen() *cobra.Command {
	var t target
	var user, platform string
	var noAck, asJSON bool
	cmd := &cobra.Command{
		Use: "listen", Short: "Connect as an account, and print what arrives", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(); err != nil {
				return err
			}
			out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
			cfg := t.listen(crier.UserID(user))
			cfg.Platform, cfg.NoAck = crier.Platform(platform), noAck
			cfg.OnState = func(s client.State) {
				switch {
				case s.Connected:
					fmt.Fprintf(errs, "connected as %s, session %s\n", user, s.Session)
				case s.Retry > 0:
					fmt.Fprintf(errs, "connection lost (%v), the next attempt comes in %v\n", s.Err, s.Retry.Round(time.Millisecond))
				}
			}
			cfg.OnMessage = func(_ context.Context, m *client.Message) error {
				if asJSON {
					return json.NewEncoder(out).Encode(m)
				}
				printMessage(cmd, m)
				return nil
			}
			return client.Listen(cmd.Context(), cfg)
		},
	}
	t.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "the account")
	f.StringVar(&platform, "platform", string(crier.PC), "iPhone, iPad, Android, Mac, Windows, Web or PC")
	f.BoolVar(&noAck, "no-ack", false, "acknowledge nothing: kept messages come again")
	f.BoolVar(&asJSON, "json", false, "print messages as JSON, one a line")
	_ = cmd.MarkFlagRequired("user") // the flag is there
	return cmd
}

// printMessage prints a message for a person.
func printMessage(cmd *cobra.Command, m *client.Message) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s  from %s", time.UnixMilli(m.Time).Format(time.DateTime), m.From)
	if m.Notification.Title != "" {
		fmt.Fprintf(out, "  [%s]", m.Notification.Title)
	}
	fmt.Fprintf(out, "  %s", m.Notification.Text)
	if m.Kept {
		fmt.Fprintf(out, "  (kept until %s)", time.UnixMilli(m.Expires).Format(time.DateTime))
	}
	fmt.Fprintf(out, "  %s\n", m.Task)
}
