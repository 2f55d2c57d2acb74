package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vendorsim"
)

const (
	// simState is what a simulator needs to be the same again.
	simState = "state"
	// simCredential is a crier.Credential, as the operator's API has it.
	simCredential = "credential.json"
)

// simFlags are those of every simulator.
type simFlags struct {
	listen, dir string
	latency     time.Duration
}

func (f *simFlags) add(cmd *cobra.Command, listen, dir string) {
	cmd.Flags().StringVar(&f.listen, "listen", listen, "host:port; port 0 picks one")
	cmd.Flags().StringVar(&f.dir, "dir", dir, "where the demo credential is written, and read again by the next run")
	cmd.Flags().DurationVar(&f.latency, "latency", 0, "before each answer")
}

// options makes the directory and reads what an earlier run left there.
func (f *simFlags) options() (vendorsim.Options, error) {
	o := vendorsim.Options{Listen: f.listen, Latency: f.latency}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return o, err
	}
	var err error
	if o.State, err = os.ReadFile(filepath.Join(f.dir, simState)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	return o, nil
}

// write keeps the files of a simulator: its state, its credential, and others by name.
func (f *simFlags) write(state []byte, c crier.Credential, others map[string][]byte) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	files := map[string][]byte{simState: state, simCredential: append(text, '\n')}
	for name, text := range others {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(f.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func newFCMSim() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use: "fcm-sim", Short: "Simulate Firebase Cloud Messaging, to try pushes without an account of Google's", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			sim, err := vendorsim.StartFCM(o)
			if err != nil {
				return err
			}
			defer func() { _ = sim.Close() }()
			c := sim.Credential()
			if err := f.write(sim.State(), c, map[string][]byte{"service-account.json": c.Secret}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), `FCM is simulated on %[1]s for the project %[2]s.
Give a server these addresses in place of Google's:
  endpoint   %[1]s
  token URL  %[3]s
Give an app the credential:  %[4]s (%[5]s has it in the form of the operator's API)
Register a device with vendor fcm, target %[2]s and any token; UNREGISTERED:x, QUOTA_EXCEEDED:x and the like fail in that way.
See what arrived:            curl -s %[1]s/messages
`, sim.URL(), vendorsim.Project, sim.TokenURL(), filepath.Join(f.dir, "service-account.json"), simCredential)
			<-cmd.Context().Done()
			return sim.Close()
		},
	}
	f.add(cmd, "127.0.0.1:8190", "fcm-sim")
	return cmd
}
