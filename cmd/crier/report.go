package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// watchPause is how often --watch asks.
const watchPause = 200 * time.Millisecond

// errNoFunnel is the answer where only the operator may look.
var errNoFunnel = errors.New("this needs the operator's token: give --token, or --data-dir of a server on this machine")

// reportFlags are those of report.
type reportFlags struct {
	target
	token, dataDir string
	watch, asJSON  bool
	timeout        time.Duration
}

// taskReport is what the operator's API tells of a push.
type taskReport struct {
	Task     crier.TaskID  `json:"task"`
	App      crier.AppID   `json:"app"`
	Status   string        `json:"status"`
	Started  time.Time     `json:"started,omitzero"`
	Finished uint64        `json:"finished"`
	Total    uint64        `json:"total"`
	Funnel   *crier.Funnel `json:"funnel,omitempty"`
}

func newReport() *cobra.Command {
	var r reportFlags
	cmd := &cobra.Command{
		Use: "report TASKID...", Short: "Show how far pushes are, and what became of whom they matched", Args: cobra.MinimumNArgs(1),
		Long: "Show how far pushes are. With the operator's token also what became of the accounts that they matched:\n" +
			"over their connections and mailboxes, and by the vendors of their devices. Each account stands in one line of both.",
		RunE: func(cmd *cobra.Command, args []string) error {
			tasks := make([]crier.TaskID, len(args))
			for i, arg := range args {
				tasks[i] = crier.TaskID(arg)
				if _, _, ok := tasks[i].Parse(); !ok {
					return fmt.Errorf("%s is not a TaskId, such as 1400000001_1795487068510_1_1", crier.Quote(arg))
				}
			}
			if o := r.operatorOf(); o != nil {
				return r.funnels(cmd, o, tasks)
			}
			if r.asJSON {
				return errNoFunnel
			}
			return r.progress(cmd, tasks)
		},
	}
	r.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.token, "token", "", "the operator's token (CRIER_OPERATOR_TOKEN); else read from the data directory")
	f.StringVar(&r.dataDir, "data-dir", "", "where operator.token stands; else beside the demo's file")
	f.BoolVar(&r.watch, "watch", false, "wait, with a progress bar, until all are done, and vendors have nothing more to do")
	f.DurationVar(&r.timeout, "timeout", time.Minute, "how long --watch waits for vendors")
	f.BoolVar(&r.asJSON, "json", false, "print what the operator's API answers, an object a push")
	return cmd
}

// operatorOf returns the client of the operator's API, nil where there is no token. That of a data directory is
// for the server that wrote there, and not for one that is named otherwise.
func (r *reportFlags) operatorOf() *operatorClient {
	given := cmp.Or(r.token, os.Getenv("CRIER_OPERATOR_TOKEN"), r.dataDir) != ""
	o := r.operator(r.token, r.dataDir)
	if _, err := o.secret(); err != nil || !given && cmp.Or(r.url, os.Getenv("CRIER_URL")) != "" {
		return nil
	}
	return o
}

// progress tells how far pushes are, as the REST API does.
func (r *reportFlags) progress(cmd *cobra.Command, tasks []crier.TaskID) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	if r.watch {
		if err := watchReports(cmd.Context(), c, cmd.ErrOrStderr(), tasks...); err != nil {
			return err
		}
	}
	reports, err := c.Report(cmd.Context(), tasks...)
	if err != nil {
		return err
	}
	for _, p := range reports {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %-7s  %d of %d\n", p.Task, statusName(p.Status), p.Finished, p.Total)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "what became of whom they matched is for the operator: give --token or --data-dir")
	return nil
}

// funnels tells how far pushes are, and what became of whom they matched.
func (r *reportFlags) funnels(cmd *cobra.Command, o *operatorClient, tasks []crier.TaskID) error {
	if r.watch {
		if err := r.watchFunnels(cmd.Context(), o, cmd.ErrOrStderr(), tasks); err != nil {
			return err
		}
	}
	all, err := o.tasks(cmd.Context(), tasks)
	if err != nil {
		return err
	}
	for i, t := range all {
		if r.asJSON {
			if err := printJSON(cmd, t); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		writeReport(cmd.OutOrStdout(), &t)
	}
	return nil
}

// tasks asks for pushes.
func (o *operatorClient) tasks(ctx context.Context, tasks []crier.TaskID) ([]taskReport, error) {
	all := make([]taskReport, len(tasks))
	for i, task := range tasks {
		if err := o.do(ctx, http.MethodGet, "/v1/tasks/"+string(task), nil, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// watchFunnels shows progress on errs until every push is done, and then until vendors have nothing more to do, timeout at most.
func (r *reportFlags) watchFunnels(ctx context.Context, o *operatorClient, errs io.Writer, tasks []crier.TaskID) error {
	accounts, notified := newBar(errs, "accounts"), newBar(errs, "vendors")
	defer notified.finish()
	defer accounts.finish()
	var end time.Time // set when the pushes are done
	for {
		all, err := o.tasks(ctx, tasks)
		if err != nil {
			return err
		}
		open, finished, total, toDo, matched := sumUp(all)
		switch {
		case open > 0:
			accounts.set(int64(finished), int64(total))
		case end.IsZero():
			accounts.set(int64(finished), int64(total))
			accounts.finish()
			end = time.Now().Add(r.timeout)
			fallthrough
		default:
			if matched > 0 {
				notified.set(int64(matched-toDo), int64(matched))
			}
			if toDo == 0 {
				return nil
			}
			if time.Now().After(end) {
				fmt.Fprintf(errs, "vendors still have %d to do after %v\n", toDo, r.timeout)
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}

// sumUp adds pushes up: those that are not done, accounts, and of the pushes that vendors are told of, what is to do and whom they matched.
func sumUp(all []taskReport) (open int, finished, total, toDo, matched uint64) {
	for _, t := range all {
		finished, total = finished+t.Finished, total+t.Total
		if t.Status != statusName(crier.StatusDone) {
			open++
		}
		if f := t.Funnel; f != nil && f.Vendor.Wanted {
			toDo, matched = toDo+f.Vendor.ToDo, matched+f.Matched
		}
	}
	return open, finished, total, toDo, matched
}

// part is one line of a table that adds up.
type part struct {
	n    uint64
	what string
}

// writeReport prints a push and its two tables. An account stands in one line of each.
func writeReport(out io.Writer, t *taskReport) {
	fmt.Fprintf(out, "%s  %s  %d of %d accounts", t.Task, t.Status, t.Finished, t.Total)
	f := t.Funnel
	if f == nil {
		fmt.Fprintln(out, "\nwhat became of them is not known: it has not begun, or is too old")
		return
	}
	fmt.Fprintf(out, ", %d connected when it came\n", f.Online)
	if f.Kept {
		writeParts(out, "delivery", f.Matched, []part{
			{f.Acknowledged, "acknowledged"},
			{f.Later, "later, from the mailbox"},
			{f.Expired, "expired"},
			{f.Deleted, "deleted"},
			{f.Waiting, "waiting"},
		})
	} else {
		fmt.Fprintln(out, "\ndelivery: only to who was connected, nothing is kept")
	}
	v := &f.Vendor
	if !v.Wanted {
		fmt.Fprintln(out, "\nvendors: not told of this push")
		return
	}
	parts := []part{{v.NoDevice, "no device"}, {v.Accepted, "accepted"}, {v.NotNeeded, "not needed"}}
	for _, reason := range slices.Sorted(maps.Keys(v.Failed)) {
		parts = append(parts, part{v.Failed[reason], "failed: " + reason})
	}
	writeParts(out, "vendors", f.Matched, append(parts, part{v.Expired, "expired"}, part{v.Deleted, "deleted"}, part{v.ToDo, "to do"}))
}

// writeParts prints the parts of a total, and under them the total; where they come to another number, it says so.
func writeParts(out io.Writer, title string, total uint64, parts []part) {
	fmt.Fprintf(out, "\n%s\n", title)
	sum := uint64(0)
	for i, p := range parts {
		sign := " "
		if i == len(parts)-1 {
			sign = "+"
		}
		sum += p.n
		fmt.Fprintf(out, "%s %9d  %s\n", sign, p.n, p.what)
	}
	if sum != total {
		fmt.Fprintf(out, "= %9d  but %d matched: this is a bug of Crier\n", sum, total)
		return
	}
	fmt.Fprintf(out, "= %9d  matched\n", total)
}

func statusName(s crier.Status) string {
	return map[crier.Status]string{crier.StatusWaiting: "waiting", crier.StatusRunning: "running", crier.StatusDone: "done"}[s]
}

// watchReports shows progress on errs until every push is done.
func watchReports(ctx context.Context, c *client.Client, errs io.Writer, tasks ...crier.TaskID) error {
	bar := newBar(errs, "accounts")
	defer bar.finish()
	for {
		reports, err := c.Report(ctx, tasks...)
		if err != nil {
			return err
		}
		var finished, total uint64
		open := 0
		for _, r := range reports {
			finished, total = finished+r.Finished, total+r.Total
			if r.Status != crier.StatusDone {
				open++
			}
		}
		bar.set(int64(finished), int64(total))
		if open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}
