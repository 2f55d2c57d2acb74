package main

import (
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

func newExplain() *cobra.Command {
	var o operatorClient
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain TASKID USER", Short: "Tell what became of a push for one account, and why", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			task, user := crier.TaskID(args[0]), crier.UserID(args[1])
			if _, _, ok := task.Parse(); !ok {
				return fmt.Errorf("%s is not a TaskId, such as 1400000001_1795487068510_1_1", crier.Quote(args[0]))
			}
			var e crier.Explanation
			path := "/v1/tasks/" + string(task) + "/users/" + url.PathEscape(string(user))
			if err := o.do(cmd.Context(), http.MethodGet, path, nil, &e); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, e)
			}
			return writeExplanation(cmd.OutOrStdout(), &e)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what the operator's API answers")
	return cmd
}

// writeExplanation says an explanation in words: whether the push was for the account, how it could be reached, what was
// tried, and where it stands now.
func writeExplanation(out io.Writer, e *crier.Explanation) error {
	fmt.Fprintf(out, "Push %s for %s\n\n", e.Task, e.User)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	say := func(what, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	switch {
	case !e.Exists:
		say("matched", "not known: there is no account %s, or no more", e.User)
		return w.Flush()
	case !e.Known:
		say("matched", "not known: the push is too old, or has not come to the account yet")
		return w.Flush()
	}
	say("matched", "%s", matchedWords(e))
	if !e.Matched {
		say("now", "nothing is to come: the push was not for this account")
		return w.Flush()
	}
	if e.Online {
		say("connected", "%s", connectedWords(e))
	} else {
		say("connected", "no, not when the push came")
	}
	sent := "sent"
	for _, s := range e.Sendings {
		say(sent, "%s", sendingWords(&s))
		sent = ""
	}
	if e.SendingsMissing {
		say(sent, "more may be missing: the push went over more connections than are recorded")
	} else if e.Online && len(e.Sendings) == 0 {
		say(sent, "not recorded (yet): what is sent in the second before a node fails can be missing; its partition is led since %s", clock(e.LeaderSince))
	}
	say("notified", "%s", notifiedWords(e))
	for _, a := range e.Attempts {
		say("", "%s", attemptWords(&a))
	}
	say("now", "%s", nowWords(e))
	return w.Flush()
}

func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05.000Z07:00") }

func placeWords(p crier.Place) string {
	where := "in the foreground"
	if p.State == crier.PushOnline {
		where = "in the background"
	}
	return string(p.Platform) + " " + where + ", on node " + p.Node
}

func connectedWords(e *crier.Explanation) string {
	places := make([]string, len(e.Connected))
	for i, p := range e.Connected {
		places[i] = placeWords(p)
	}
	return "yes: " + strings.Join(places, "; ")
}

// sendingWords tells of one message over one connection.
func sendingWords(s *crier.Sending) string {
	how, acked := "live", "not acknowledged"
	if s.Mailbox {
		how = "from the mailbox"
	}
	if !s.Acked.IsZero() {
		acked = "acknowledged " + s.Acked.Sub(s.Time).Round(time.Millisecond).String() + " later"
	}
	return fmt.Sprintf("%s  %s to %s, session %s: %s", clock(s.Time), how, placeWords(s.Place), s.Session, acked)
}

func matchedWords(e *crier.Explanation) string {
	yes, because := "no", strings.Join(e.Because, ", ")
	if e.Matched {
		yes = "yes"
	}
	switch {
	case because == "" && e.Changed:
		return yes + "; the account has changed since, so that can't be told why"
	case because == "":
		return yes
	case e.Changed:
		return yes + ": " + because + " (as it was when the push came; the account has changed since)"
	}
	return yes + ": " + because
}

func notifiedWords(e *crier.Explanation) string {
	switch {
	case len(e.Attempts) == 1:
		return "1 notification was tried:"
	case len(e.Attempts) > 1:
		return fmt.Sprintf("%d notifications were tried:", len(e.Attempts))
	case e.Vendor == crier.NotifyToDo && e.Online:
		return "not yet: it was connected, and has its time to acknowledge"
	case e.Vendor == crier.NotifyToDo:
		return "not yet"
	case e.Delivery == crier.DeliveryAcknowledged:
		return "no: not needed, or there is no device"
	}
	return "no: there is no device, or the push is not for vendors"
}

// attemptWords tells of one notification. The device is the end of its token.
func attemptWords(a *crier.Attempt) string {
	text := fmt.Sprintf("%s  %s  device …%s  %s", clock(a.Time), a.Vendor, strings.TrimLeft(a.Device, "."), a.Outcome)
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	if a.Tries > 1 {
		text += fmt.Sprintf("  (try %d)", a.Tries)
	}
	return text
}

func nowWords(e *crier.Explanation) string {
	vendor := map[string]string{crier.NotifyToDo: "; a vendor is still to be told", crier.NotifyDone: "; vendors are done"}[e.Vendor]
	switch e.Delivery {
	case crier.DeliveryWaiting:
		return "not acknowledged: the message waits in the mailbox" + vendor
	case crier.DeliveryAcknowledged:
		return "acknowledged" + vendor
	case crier.DeliveryExpired:
		return "not acknowledged, and its time is over" + vendor
	}
	return "nothing is to come: the push was for who was connected, and is not kept"
}
