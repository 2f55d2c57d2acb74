package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/persistence"
)

const backupTime = "2006-01-02 15:04:05 MST"

func newBackup() *cobra.Command {
	o := new(operatorClient)
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Back up everything that a running cluster knows, as of one moment", Args: cobra.ExactArgs(1),
		Long: "Backs up everything that a running cluster, or a single node, knows, as of one moment: apps, accounts, devices, mailboxes, reports. Any node\n" +
			"is asked. The file is checked while it comes, and is in its place only when it is whole. It has the keys of apps; of credentials for vendors\n" +
			"only what is sealed: keep vendors.key apart from it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := o.open(cmd.Context(), http.MethodGet, "/v1/backup", nil)
			if err != nil {
				return err
			}
			defer body.Close()
			bar := newBar(cmd.ErrOrStderr(), "partitions")
			size, info, err := writeBackup(args[0], body, bar)
			bar.finish()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes, %d partitions, of %s\n", args[0], size, info.Partitions, info.Created.Format(backupTime))
			return nil
		},
	}
	o.addFlags(cmd)
	return cmd
}

// writeBackup writes a backup so that its file is either whole or not there.
func writeBackup(name string, body io.Reader, bar *bar) (size int64, info *persistence.BackupInfo, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // 0600: it has keys
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // of a backup that failed
	info, err = persistence.VerifyBackup(io.TeeReader(body, f), func(done, total int) { bar.set(int64(done), int64(total)) })
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, nil, fmt.Errorf("the backup is not whole: %w", err)
	}
	return size, info, os.Rename(f.Name(), name)
}

func newRestore() *cobra.Command {
	o := new(operatorClient)
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Put what a backup has into an empty cluster", Args: cobra.ExactArgs(1),
		Long: "Puts what a backup has into a running cluster, or a single node, that has no apps yet. It may have any number of nodes, and must have as many\n" +
			"partitions as the one of which the backup is. Until all is there, it serves nothing; where that breaks off, restore again. Its nodes need the\n" +
			"vendors.key of the old ones: without it, credentials for vendors must be uploaded again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			bar := newBar(cmd.ErrOrStderr(), "partitions")
			defer bar.finish()
			info, err := persistence.VerifyBackup(f, func(int, int) {}) // before it is sent for nothing
			if err != nil {
				return fmt.Errorf("nothing was restored: %w", err)
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			body, err := o.send(cmd.Context(), http.MethodPost, "/v1/restore", f)
			if err != nil {
				return err
			}
			defer body.Close()
			if err := awaitRestore(body, bar); err != nil {
				return err
			}
			bar.finish()
			fmt.Fprintf(cmd.OutOrStdout(), "the cluster has everything of %s\n", info.Created.Format(backupTime))
			return nil
		},
	}
	o.addFlags(cmd)
	return cmd
}

// awaitRestore reads how far a restore is, to its end.
func awaitRestore(body io.Reader, bar *bar) error {
	for lines := json.NewDecoder(body); ; {
		var line struct {
			Done, Total int64
			Restored    bool
			Code        int
			Error       string
		}
		switch err := lines.Decode(&line); {
		case err != nil:
			return fmt.Errorf("the restore has broken off, and the cluster serves nothing until one has ended: restore again (%w)", err)
		case line.Error != "":
			return &crier.Error{Code: crier.Code(line.Code), Info: line.Error + "; the cluster serves nothing until a restore has ended: restore again"}
		case line.Restored:
			return nil
		}
		bar.set(line.Done, line.Total)
	}
}
