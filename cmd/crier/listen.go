package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// logoutTimeout bounds the logout at the end of listen.
const logoutTimeout = 10 * time.Second

// listenFlags are those of listen.
type listenFlags struct {
	user, platform string
	noAck, asJSON  bool
	vendor         string
	device         client.Device
	unread         uint32
	logout         bool
}

func newListen() *cobra.Command {
	var t target
	var l listenFlags
	cmd := &cobra.Command{
		Use: "listen", Short: "Connect as an account, and print what arrives", Args: cobra.NoArgs,
		Example: "  crier listen --user alice\n" +
			"  crier listen --user alice --platform iPhone --device-vendor apns --device-token 0a1b2c --device-target com.example.app --background 3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(); err != nil {
				return err
			}
			listener, err := client.NewListener(l.config(cmd, t.listen(crier.UserID(l.user))))
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("background") {
				listener.Background(l.unread)
			}
			if !l.logout {
				return listener.Run(cmd.Context())
			}
			return runToLogout(cmd, listener)
		},
	}
	t.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&l.user, "user", "", "the account")
	f.StringVar(&l.platform, "platform", string(crier.PC), "iPhone, iPad, Android, Mac, Windows, Web or PC")
	f.BoolVar(&l.noAck, "no-ack", false, "acknowledge nothing: kept messages come again")
	f.BoolVar(&l.asJSON, "json", false, "print messages as JSON, one a line")
	f.StringVar(&l.vendor, "device-vendor", "", "register a device after each login: apns, fcm or webpush")
	f.StringVar(&l.device.Token, "device-token", "", "its token; of webpush the subscription as JSON")
	f.StringVar(&l.device.Target, "device-target", "", "what the token belongs to: of apns the bundle id, of fcm the project id")
	f.BoolVar(&l.device.Sandbox, "device-sandbox", false, "the token is of the development environment of apns")
	f.StringVar(&l.device.Language, "language", "", "of the device, such as zh-Hans")
	f.Uint32Var(&l.unread, "background", 0, "tell that the app is in the background, with this many unread messages")
	f.BoolVar(&l.logout, "logout", false, "log out at the end, so that the vendor notifies the device no more")
	cmd.MarkFlagsRequiredTogether("device-vendor", "device-token")
	_ = cmd.MarkFlagRequired("user") // the flag is there
	return cmd
}

// config completes the configuration of a receiver that tells people what happens.
func (l *listenFlags) config(cmd *cobra.Command, cfg client.ListenConfig) client.ListenConfig {
	out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
	cfg.Platform, cfg.NoAck = crier.Platform(l.platform), l.noAck
	if l.vendor != "" {
		l.device.Vendor = crier.Vendor(l.vendor)
		cfg.Device = &l.device
	}
	cfg.OnState = func(s client.State) {
		switch {
		case s.Connected:
			fmt.Fprintf(errs, "connected as %s, session %s\n", l.user, s.Session)
		case s.Retry > 0:
			fmt.Fprintf(errs, "connection lost (%v), the next attempt comes in %v\n", s.Err, s.Retry.Round(time.Millisecond))
		}
	}
	cfg.OnDevice = func(err error) {
		if err != nil {
			fmt.Fprintf(errs, "device not registered: %s\n", message(err))
			return
		}
		fmt.Fprintf(errs, "device registered with %s\n", l.vendor)
	}
	cfg.OnMessage = func(_ context.Context, m *client.Message) error {
		if l.asJSON {
			return json.NewEncoder(out).Encode(m)
		}
		printMessage(cmd, m)
		return nil
	}
	return cfg
}

// runToLogout listens until the command is to end, and then logs out.
func runToLogout(cmd *cobra.Command, l *client.Listener) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer cancel()
	stop := context.AfterFunc(cmd.Context(), func() {
		l.Logout()
		time.AfterFunc(logoutTimeout, cancel)
	})
	defer stop()
	err := l.Run(ctx)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("the server has not taken the logout within %s", logoutTimeout)
	}
	if err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "logged out")
	}
	return err
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
