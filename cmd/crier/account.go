package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newAccount() *cobra.Command {
	var t target
	var i accountImport
	cmd := &cobra.Command{Use: "account", Short: "Work on accounts"}
	imports := &cobra.Command{
		Use: "import FILE", Short: "Create accounts with tags and attributes from a CSV or JSONL file", Args: cobra.ExactArgs(1),
		Long: "Create accounts from a file. CSV has a header: user, and any of nick, face_url, tags (separated\n" +
			"by |); every other column is an attribute of the app. JSONL has objects with user, nick, face_url, tags, attrs.\n" +
			"The file is checked as a whole before anything is imported. A row that can't be imported is reported with its line, and\n" +
			"skipped. An import slows down to what the app's limits let through. One that was interrupted goes on where it was:\n" +
			"FILE.crier-progress remembers, and is removed at the end. It takes less than 100 bytes of memory a row.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			i.file, i.errs = args[0], cmd.ErrOrStderr()
			if err := i.run(cmd.Context(), c); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d accounts imported, %d rows skipped\n", i.progress.Accounts, i.progress.Bad+i.progress.Refused)
			return nil
		},
	}
	t.addFlags(imports)
	imports.Flags().BoolVar(&i.stopOnBad, "stop-on-bad", false, "stop at a row that can't be imported, instead of skipping it")
	imports.Flags().BoolVar(&i.nameAttrs, "name-attributes", false, "give the app the attributes of the file that it does not have yet; an app has 10 at most")
	cmd.AddCommand(imports)
	return cmd
}
