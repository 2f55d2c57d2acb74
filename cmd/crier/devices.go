package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
)

func newAppDevices(o *operatorClient) *cobra.Command {
	return &cobra.Command{
		Use: "devices SDKAPPID USER", Short: "List where vendors reach an account; of tokens the ends are shown", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			app, err := crier.ParseAppID(args[0])
			if err != nil {
				return err
			}
			var answer struct {
				Devices []struct {
					crier.Device
					LastSeen time.Time `json:"last_seen"`
				}
			}
			path := "/v1/apps/" + app.String() + "/users/" + url.PathEscape(args[1]) + "/devices"
			if err := o.do(cmd.Context(), http.MethodGet, path, nil, &answer); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "VENDOR\tTARGET\tSANDBOX\tPLATFORM\tTOKEN\tREGISTERED\tLAST SEEN")
			for _, d := range answer.Devices {
				fmt.Fprintf(w, "%s\t%s\t%t\t%s\t…%s\t%s\t%s\n", d.Vendor, cmp.Or(d.Target, "-"), d.Sandbox, d.Platform, d.Token,
					d.Registered.Format(time.RFC3339), d.LastSeen.Format(time.RFC3339))
			}
			return w.Flush()
		},
	}
}
