package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/usersig"
)

func newUserSig() *cobra.Command {
	var t target
	var expire time.Duration
	cmd := &cobra.Command{
		Use: "usersig", Short: "Sign a UserSig", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.url == "" {
				t.url = "-" // signing asks no server
			}
			if err := t.resolve(); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), usersig.Sign(t.key, crier.AppID(t.app), crier.UserID(t.identifier), time.Now(), expire, nil))
			return nil
		},
	}
	t.addFlags(cmd)
	cmd.Flags().DurationVar(&expire, "expire", 24*time.Hour, "how long it is valid")
	check := &cobra.Command{
		Use: "check USERSIG", Short: "Show what is in a UserSig, and check it against the key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ticket, err := usersig.Parse(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "sdkappid    %d\nidentifier  %s\nsigned      %s\nexpires     %s\n", ticket.App, ticket.User,
				ticket.Time.Format(time.RFC3339), ticket.Time.Add(ticket.Expire).Format(time.RFC3339))
			key := cmp.Or(t.key, os.Getenv("CRIER_KEY"))
			if key == "" {
				return nil
			}
			if err := ticket.Check(ticket.App, ticket.User, []string{key}, time.Now()); err != nil {
				return err
			}
			fmt.Fprintln(out, "valid       yes")
			return nil
		},
	}
	check.Flags().StringVar(&t.key, "key", "", "the app's secret key (CRIER_KEY)")
	cmd.AddCommand(check)
	return cmd
}

func newPush() *cobra.Command {
	var t target
	var p client.Push
	var offline client.OfflinePush
	var attrsOr, attrsAnd []string
	var custom, from string
	var watch bool
	cmd := &cobra.Command{
		Use: "push", Short: "Push a message to all, by tags, or by attributes", Args: cobra.NoArgs,
		Example: "  crier push --text 'Merry Christmas' --keep 168h\n  crier push --text 'Stock A rises' --tags-or stockA,stockB\n" +
			"  crier push --text 'For you' --attrs-and level=platinum --attrs-and city=Shenzhen",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := t.client()
			if err != nil {
				return err
			}
			if p.Condition.AttrsOr, err = pairs(attrsOr); err != nil {
				return err
			}
			if p.Condition.AttrsAnd, err = pairs(attrsAnd); err != nil {
				return err
			}
			if custom != "" {
				p.Elements = []crier.Element{client.Custom(custom, p.Text, "")}
				p.Text = ""
			}
			if offline != (client.OfflinePush{}) {
				p.Offline = &offline
			}
			p.From = crier.UserID(from)
			task, err := c.Push(cmd.Context(), p)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), task)
			if watch {
				return watchReports(cmd.Context(), c, cmd.ErrOrStderr(), task)
			}
			return nil
		},
	}
	t.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&p.Text, "text", "", "the text of the message")
	f.StringVar(&custom, "custom", "", "data of a custom element; --text is then its notification text")
	f.DurationVar(&p.LifeTime, "keep", 0, "how long it is kept for who is away, up to 168h; 0: only who is online gets it")
	f.StringVar(&from, "from", "", "the sender that receivers see")
	f.StringSliceVar(&p.Condition.TagsOr, "tags-or", nil, "accounts with any of the tags")
	f.StringSliceVar(&p.Condition.TagsAnd, "tags-and", nil, "accounts with all of the tags")
	f.StringSliceVar(&p.Condition.TagsNot, "tags-not", nil, "accounts with none of the tags")
	f.StringArrayVar(&attrsOr, "attrs-or", nil, "accounts with any of the attribute values, NAME=VALUE")
	f.StringArrayVar(&attrsAnd, "attrs-and", nil, "accounts with all of the attribute values, NAME=VALUE")
	f.StringVar(&offline.Title, "title", "", "title of the notification")
	f.StringVar(&offline.Desc, "desc", "", "text of the notification; else composed from the message")
	f.StringVar(&offline.Ext, "ext", "", "handed through to the app")
	f.Uint32Var(&p.Random, "random", 0, "MsgRandom: names the push, so that it is not sent twice; 0: a random one")
	f.BoolVar(&watch, "watch", false, "wait until it is done")
	return cmd
}

// pairs reads NAME=VALUE arguments.
func pairs(args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not NAME=VALUE", arg)
		}
		m[name] = value
	}
	return m, nil
}
