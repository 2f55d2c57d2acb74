package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier/vendors/vendorsim"
)

func newWebPushSim() *cobra.Command {
	var f simFlags
	var ids []string
	cmd := &cobra.Command{
		Use: "webpush-sim", Short: "Simulate a push service of browsers, and browsers, to try Web Push", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			sim, err := vendorsim.StartWebPush(o)
			if err != nil {
				return err
			}
			defer func() { _ = sim.Close() }()
			files := make(map[string][]byte)
			for _, id := range ids {
				token, err := sim.Subscribe(id)
				if err != nil {
					return fmt.Errorf("subscription %q: %w", id, err)
				}
				files["subscription-"+id+".json"] = []byte(token)
			}
			c := sim.Credential()
			files["vapid-private-key"] = c.Secret
			if err := f.write(sim.State(), c, files); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), `A push service of browsers is simulated on %[1]s.
A server must allow endpoints that are http and internal, which it does for tests only.
Give an app the credential:  %[2]s, in the form of the operator's API
  private key  %[3]s
  public_key   %[4]s
  subject      %[5]s
Register devices with vendor webpush and as token what is in %[6]s. One whose id begins with a status and a dash fails with it.
See what arrived:            curl -s %[1]s/messages
`, sim.URL(), filepath.Join(f.dir, simCredential), filepath.Join(f.dir, "vapid-private-key"), c.Params["public_key"], c.Params["subject"],
				filepath.Join(f.dir, "subscription-*.json"))
			<-cmd.Context().Done()
			return sim.Close()
		},
	}
	f.add(cmd, "127.0.0.1:8191", "webpush-sim")
	cmd.Flags().StringSliceVar(&ids, "subscriptions", []string{"phone", "laptop", "410-gone"}, "ids of subscriptions to make")
	return cmd
}
