package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
)

func newClusterRecover(o *operatorClient) *cobra.Command {
	var force, yes bool
	cmd := &cobra.Command{
		Use: "recover", Short: "Go on with what is left of partitions that have lost most of their replicas", Args: cobra.NoArgs,
		Long: "Goes on with what is left of partitions that have lost most of their replicas, which refuse what is asked of them. Of each, the replica with the\n" +
			"longest log becomes the truth. What was acknowledged and is not in it is lost, and the nodes that do not answer are given up: their data\n" +
			"directories are of no more use. So first bring back what can be brought back. Shows what it is going to do, and asks.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/v1/cluster/recovery"
			if force {
				path += "?force=true"
			}
			plan := new(crier.Recovery)
			if err := o.do(cmd.Context(), http.MethodGet, path, nil, plan); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := writeRecovery(out, plan); err != nil || len(plan.Partitions) == 0 {
				return err
			}
			if !yes && !confirmed(cmd.InOrStdin(), out) {
				return errors.New("nothing was done")
			}
			body, err := o.open(cmd.Context(), http.MethodPost, path, plan)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, "Recovered. See crier cluster status, and start new nodes in the place of those that are lost.")
			return body.Close()
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also where a majority answers and no leader is elected all the same: its replicas but one are deleted")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// writeRecovery shows a plan.
func writeRecovery(out io.Writer, plan *crier.Recovery) error {
	if len(plan.Electing) > 0 {
		fmt.Fprintf(out, "Without a leader, but with a majority that answers, which elects one by itself: %s\n", strings.Join(plan.Electing, ", "))
	}
	if len(plan.Partitions) == 0 {
		_, err := fmt.Fprintln(out, "There is nothing to recover: no partition has lost a majority of its replicas.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tTRUTH\tUP TO\tBUILT ANEW ON\tLOST")
	for _, p := range plan.Partitions {
		truth := "nothing is left of it"
		if p.Node != "" {
			truth = shortID(p.Node)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", p.Partition, truth, p.Last, shortIDs(p.Others), shortIDs(p.Lost))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nThe replicas under TRUTH count from then on. What was acknowledged and is not in them is lost.\n"+
		"Given up for ever, with their data directories: %s\n", cmp.Or(strings.Join(plan.Lost, ", "), "none"))
	return err
}

func shortIDs(ids []string) string {
	short := make([]string, len(ids))
	for i, id := range ids {
		short[i] = shortID(id)
	}
	return cmp.Or(strings.Join(short, " "), "-")
}

// confirmed asks, and reports whether the answer is yes.
func confirmed(in io.Reader, out io.Writer) bool {
	fmt.Fprint(out, "Make sure that they are gone and can't come back. Recover? Type yes: ")
	answer, _ := bufio.NewReader(in).ReadString('\n') // an end without an answer is none
	return strings.TrimSpace(answer) == "yes"
}
