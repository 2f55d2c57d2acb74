package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	internalapp "github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/demo/demofile"
)

// operatorURL is where a node listens that is not told otherwise.
const operatorURL = "http://127.0.0.1:8080"

// operatorClient calls the operator's API.
type operatorClient struct{ url, token, dataDir string }

func (o *operatorClient) addFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&o.url, "url", "", "the server (CRIER_URL); else that of a demo server in the data directory, else "+operatorURL)
	f.StringVar(&o.token, "token", "", "the operator's token (CRIER_OPERATOR_TOKEN); else read from the data directory")
	f.StringVar(&o.dataDir, "data-dir", "data", "where operator.token stands")
}

// base returns the server's URL.
func (o *operatorClient) base() string {
	url := cmp.Or(o.url, os.Getenv("CRIER_URL"))
	if url == "" {
		d, _ := demofile.Read(filepath.Join(o.dataDir, demofile.Name)) // where there is none, a server listens where one does by default
		url = cmp.Or(d.URL, operatorURL)
	}
	return strings.TrimSuffix(url, "/")
}

// secret returns the operator's token.
func (o *operatorClient) secret() (string, error) {
	if token := cmp.Or(o.token, os.Getenv("CRIER_OPERATOR_TOKEN")); token != "" { // no default of the flag: the help prints those
		return token, nil
	}
	text, err := os.ReadFile(filepath.Join(o.dataDir, internalapp.TokenFile))
	if err != nil {
		return "", fmt.Errorf("give --token, or --data-dir of a server on this machine: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// do makes one call. An answer that is an error is returned as one, with its words.
func (o *operatorClient) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := o.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// open makes one call and returns the body of its answer.
func (o *operatorClient) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	if in == nil {
		return o.send(ctx, method, path, nil)
	}
	text, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return o.send(ctx, method, path, bytes.NewReader(text))
}

// send is open with a body as it is.
func (o *operatorClient) send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	token, err := o.secret()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base()+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var e struct{ Error string }
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		e.Error = resp.Status
	}
	return nil, errors.New(e.Error)
}

func newApp() *cobra.Command {
	o := new(operatorClient)
	cmd := &cobra.Command{Use: "app", Short: "Make, list and change apps"}
	o.addFlags(cmd)
	cmd.AddCommand(newAppCreate(o), newAppList(o), newAppUpdate(o), newAppRotateKey(o), newAppCredential(o), newAppDevices(o))
	return cmd
}

// appFlags are the settings of an app; --limit reaches each of its limits.
func appFlags(cmd *cobra.Command, set *[]string) {
	f := cmd.Flags()
	f.String("name", "", "name, for people")
	f.StringSlice("admins", nil, "accounts that may call the REST API")
	f.Bool("push", true, "push is enabled")
	f.Bool("disabled", false, "the app is disabled")
	f.String("session-policy", "", "one-per-platform, one-per-account or many")
	f.String("language", "", "of the words in notifications: en or zh")
	f.StringArrayVar(set, "limit", nil, "a limit as NAME=VALUE, such as pushes_per_day=0 (0: unlimited; times in seconds, or as 1.5s); see docs/api.md")
}

// appFields returns the fields that were given, as the operator's API takes them.
func appFields(cmd *cobra.Command, limits []string) (map[string]any, error) {
	fields := make(map[string]any)
	f := cmd.Flags()
	for flag, name := range map[string]string{"name": "name", "session-policy": "session_policy", "language": "language"} {
		if f.Changed(flag) {
			fields[name], _ = f.GetString(flag)
		}
	}
	for flag, name := range map[string]string{"push": "push_enabled", "disabled": "disabled"} {
		if f.Changed(flag) {
			fields[name], _ = f.GetBool(flag)
		}
	}
	if f.Changed("admins") {
		fields["admins"], _ = f.GetStringSlice("admins")
	}
	set := make(map[string]any)
	for _, l := range limits {
		name, text, _ := strings.Cut(l, "=")
		value, ok := limitValue(text)
		if !ok {
			return nil, fmt.Errorf("--limit %q is not NAME=VALUE with a number of 0 or more, or a duration such as 1.5s", l)
		}
		set[name] = value
	}
	if len(set) > 0 {
		fields["limits"] = set
	}
	return fields, nil
}

// limitValue returns a limit as the operator's API takes it: a number, or the text of a duration.
func limitValue(text string) (any, bool) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return json.Number(text), n >= 0 && json.Valid([]byte(text))
	}
	d, err := time.ParseDuration(text)
	return text, err == nil && d >= 0
}

func printJSON(cmd *cobra.Command, v any) error {
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newAppCreate(o *operatorClient) *cobra.Command {
	var limits []string
	cmd := &cobra.Command{
		Use: "create SDKAPPID", Short: "Make an app, and show its key once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := appFields(cmd, limits)
			if err != nil {
				return err
			}
			id, err := crier.ParseAppID(args[0])
			if err != nil {
				return err
			}
			fields["id"] = id
			var app map[string]any
			if err := o.do(cmd.Context(), http.MethodPost, "/v1/apps", fields, &app); err != nil {
				return err
			}
			return printJSON(cmd, app)
		},
	}
	appFlags(cmd, &limits)
	return cmd
}

func newAppUpdate(o *operatorClient) *cobra.Command {
	var limits []string
	cmd := &cobra.Command{
		Use: "update SDKAPPID", Short: "Change what is given of an app", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := appFields(cmd, limits)
			if err != nil {
				return err
			}
			id, err := crier.ParseAppID(args[0])
			if err != nil {
				return err
			}
			var app map[string]any
			if err := o.do(cmd.Context(), http.MethodPatch, "/v1/apps/"+id.String(), fields, &app); err != nil {
				return err
			}
			return printJSON(cmd, app)
		},
	}
	appFlags(cmd, &limits)
	return cmd
}

func newAppRotateKey(o *operatorClient) *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use: "rotate-key SDKAPPID", Short: "Make a new key, and show it once; the old one works for a grace", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := crier.ParseAppID(args[0])
			if err != nil {
				return err
			}
			var answer map[string]any
			in := map[string]any{"grace_seconds": int64(grace / time.Second)}
			if err := o.do(cmd.Context(), http.MethodPost, "/v1/apps/"+id.String()+"/rotate-key", in, &answer); err != nil {
				return err
			}
			return printJSON(cmd, answer)
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old key still works")
	return cmd
}

func newAppList(o *operatorClient) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the apps", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct {
				Apps []struct {
					ID          crier.AppID    `json:"id"`
					Name        string         `json:"name"`
					Admins      []crier.UserID `json:"admins"`
					PushEnabled bool           `json:"push_enabled"`
					Disabled    bool           `json:"disabled"`
					CreatedAt   time.Time      `json:"created_at"`
				}
			}
			if err := o.do(cmd.Context(), http.MethodGet, "/v1/apps", nil, &answer); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SDKAPPID\tNAME\tADMINS\tPUSH\tDISABLED\tCREATED")
			for _, a := range answer.Apps {
				fmt.Fprintf(w, "%d\t%s\t%v\t%t\t%t\t%s\n", a.ID, a.Name, a.Admins, a.PushEnabled, a.Disabled, a.CreatedAt.Format(time.DateOnly))
			}
			return w.Flush()
		},
	}
}
