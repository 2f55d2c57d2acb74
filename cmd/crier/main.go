// Command crier is the server and its tools.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := newRoot()
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return
	}
	fmt.Fprintln(os.Stderr, "crier: "+message(err))
	os.Exit(1)
}

// message returns an error as a person reads it: that of the API with its code.
func message(err error) string {
	if e, ok := errors.AsType[*crier.Error](err); ok {
		return fmt.Sprintf("%s (code %d)", e.Info, int(e.Code))
	}
	return err.Error()
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "crier",
		Short:         "Crier is a self-hosted push-messaging service",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Version(),
	}
	root.AddCommand(newServe(), newConfig(), newApp(), newUserSig(), newAccount(), newPush(), newReport(), newExplain(), newListen(), newDemo(), newBench(), newSimulate())
	root.AddCommand(newCluster(), newBackup(), newRestore(), newTLS(), newApnsSim(), newFCMSim(), newWebPushSim(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, and that of Go", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "crier %s %s %s/%s\n", app.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
