package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier/persistence"
)

func newBackup() *cobra.Command {
	o := new(operatorClient)
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Back up everything that a running node knows, as of one moment", Args: cobra.ExactArgs(1),
		Long: "Backs up everything that a running node knows, as of one moment: apps, accounts, devices, mailboxes, reports. The file is written\n" +
			"beside its place and checked before it goes there. It has the keys of apps; of credentials for vendors only what is sealed: keep\n" +
			"vendors.key of the data directory apart from it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := o.open(cmd.Context(), http.MethodGet, "/v1/backup", nil)
			if err != nil {
				return err
			}
			defer body.Close()
			size, info, err := writeBackup(args[0], body)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes, %d partitions, of %s\n", args[0], size, info.Partitions, info.Created.Format("2006-01-02 15:04:05 MST"))
			return nil
		},
	}
	o.addFlags(cmd)
	return cmd
}

// writeBackup writes a backup so that its file is either whole or not there.
func writeBackup(name string, body io.Reader) (size int64, info persistence.BackupInfo, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // 0600: it has keys
	if err != nil {
		return 0, info, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // of a backup that failed
	if size, err = io.Copy(f, body); err == nil {
		err = f.Sync()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		info, err = persistence.VerifyBackup(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, info, fmt.Errorf("the backup is not whole: %w", err)
	}
	return size, info, os.Rename(f.Name(), name)
}

func newRestore() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make a new data directory from a backup", Args: cobra.ExactArgs(1),
		Long: "Makes a new data directory from a backup; then start a node on it. Copy vendors.key of the old data directory into it, or give\n" +
			"vendors.key in the configuration: without it, credentials for vendors must be uploaded again. The operator's token is a new one.",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := persistence.RestoreBackup(cmd.Context(), dir, f, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s has what node %s knew at %s; start it with: crier serve --data-dir %s --cluster-partitions %d\n",
				dir, info.NodeID, info.Created.Format("2006-01-02 15:04:05 MST"), dir, info.Partitions)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "data", "the new directory; must be empty or not there")
	return cmd
}
