package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
)

// waitPause is how often cluster wait asks.
const waitPause = 500 * time.Millisecond

func newCluster() *cobra.Command {
	o := new(operatorClient)
	cmd := &cobra.Command{Use: "cluster", Short: "Look at the nodes of a cluster, and let them go"}
	o.addFlags(cmd)
	cmd.AddCommand(newClusterStatus(o), newClusterDrain(o), newClusterRemove(o), newClusterRebalance(o), newClusterWait(o), newClusterRecover(o))
	return cmd
}

func newClusterStatus(o *operatorClient) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show nodes, partitions, and what moves", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s crier.ClusterStatus
			if err := o.do(cmd.Context(), http.MethodGet, "/v1/cluster", nil, &s); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, s)
			}
			return writeCluster(cmd.OutOrStdout(), &s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what the operator's API answers")
	return cmd
}

func newClusterDrain(o *operatorClient) *cobra.Command {
	var cancel bool
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Move everything off a node, which ends then", Args: cobra.ExactArgs(1),
		Long: "Moves everything off a node: first what it leads, then its replicas. Then it closes its connections, a few at a time, and ends with exit\n" +
			"code 0. NODE is its id, or the beginning of it. Its data directory is of no more use. Until it ends, --cancel lets it stay.",
		RunE: func(cmd *cobra.Command, args []string) error {
			method := http.MethodPost
			if cancel {
				method = http.MethodDelete
			}
			return o.do(cmd.Context(), method, "/v1/cluster/nodes/"+url.PathEscape(args[0])+"/drain", nil, new(struct{}))
		},
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "let a node stay that is being drained: it gets its share again")
	return cmd
}

func newClusterRemove(o *operatorClient) *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Short: "Give a dead node up: what it kept is rebuilt on others at once", Args: cobra.ExactArgs(1),
		Long: "Gives a dead node up: what it kept is rebuilt on others at once. NODE is its id, or the beginning of it. The id does not come back: should\n" +
			"the node be started again, it ends with an error; on an empty data directory it joins as a new one.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.do(cmd.Context(), http.MethodDelete, "/v1/cluster/nodes/"+url.PathEscape(args[0]), nil, new(struct{}))
		},
	}
}

func newClusterRebalance(o *operatorClient) *cobra.Command {
	return &cobra.Command{
		Use: "rebalance", Short: "Even out at once which node leads what", Args: cobra.NoArgs,
		Long: "Evens out at once which node leads what. That happens by itself once no node has come or gone for 10 s.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.do(cmd.Context(), http.MethodPost, "/v1/cluster/rebalance", nil, new(struct{}))
		},
	}
}

func newClusterWait(o *operatorClient) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait", Short: "Wait until every partition has its replicas where they are wanted, and nothing moves", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return o.waitSettled(ctx)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait; then the exit code is 1")
	return cmd
}

// waitSettled asks until the cluster is settled or ctx ends; the error says for what it waits.
// What the cluster was before the call does not count.
func (o *operatorClient) waitSettled(ctx context.Context) error {
	for began := time.Now(); ; {
		var s crier.ClusterStatus
		err := o.do(ctx, http.MethodGet, "/v1/cluster", nil, &s)
		why := s.Waiting
		switch {
		case err != nil:
			why = err.Error()
		case !s.Settled:
		case time.Duration(s.Age)*time.Millisecond > time.Since(began):
			why = "the nodes have not been looked at since"
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster is not settled: %s", why)
		case <-time.After(waitPause):
		}
	}
}

// writeCluster shows a status as two tables and a sentence.
func writeCluster(out io.Writer, s *crier.ClusterStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tALIVE\tADDRESS\tREPLICAS\tLEADS\tVERSION")
	for _, n := range s.Nodes {
		if n.State.Gone() {
			continue
		}
		alive := "yes"
		switch {
		case n.Full:
			alive = "yes, disk full"
		case !n.Alive:
			alive = fmt.Sprintf("no, for %v", time.Duration(n.Away)*time.Second)
		}
		id := n.ID
		if id == s.Coordinator {
			id += " *"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", id, n.State, alive, n.Address, n.Replicas, n.Leads, n.Version)
	}
	fmt.Fprintln(w, "\nPARTITION\tLEADER\tREPLICAS\tNEXT")
	for _, p := range s.Partitions {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Partition, shortID(p.Leader), replicaWords(p.Replicas), strings.Join(p.Steps, ", "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	word := "settled"
	if !s.Settled {
		word = "not settled: " + s.Waiting
	}
	_, err := fmt.Fprintf(out, "\n%s; %d partitions are moving (* coordinates)\n", word, s.Moving)
	return err
}

// replicaWords names the nodes of replicas: in parentheses without a vote, with how far behind they are, or that they are not alive, and whether they are stuck.
func replicaWords(replicas []crier.ReplicaStatus) string {
	var words []string
	for _, r := range replicas {
		word := shortID(r.Node)
		switch {
		case !r.Alive:
			word += "!"
		case r.Lag > 0:
			word += fmt.Sprintf("-%d", r.Lag)
		}
		if r.Stuck {
			word += " stuck"
		}
		if !r.Votes {
			word = "(" + word + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// shortID is the beginning of a node's id, which tells it from others; "none" for an empty one.
func shortID(id string) string {
	if id == "" {
		return "none"
	}
	return fmt.Sprintf("%.8s", id)
}
