package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier/vendors/apnssim"
)

// The files of apns-sim in its directory.
const (
	simCA     = "ca.pem"       // for clients to trust
	simCAKey  = "ca-key.pem"   // the same with its key, so that a restart keeps it
	simKey    = "apns-demo.p8" // the token's key that was made for the demonstration
	simKeyID  = "DEMOKEY001"
	simTeamID = "DEMOTEAM01"
)

// apnsSim is what the flags of apns-sim say.
type apnsSim struct {
	options                      apnssim.Options
	dir, key, keyID, teamID, log string
	faults                       []string
}

func newApnsSim() *cobra.Command {
	var a apnsSim
	cmd := &cobra.Command{
		Use: "apns-sim", Short: "Run an APNs server for tests and demonstrations, with a page that shows the phones", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&a.options.Listen, "listen", "127.0.0.1:2197", "host:port of APNs, HTTP/2 over TLS; port 0 picks one")
	f.StringVar(&a.options.Admin, "admin", "127.0.0.1:8197", "host:port of the page, plain HTTP; empty: no page")
	f.StringSliceVar(&a.options.Names, "name", nil, "one more host name or address for the certificate")
	f.StringVar(&a.dir, "dir", "apns-sim", "where the CA and the demo key are kept")
	f.StringVar(&a.key, "key", "", "a .p8 file whose provider tokens are taken; empty: a demo key is made")
	f.StringVar(&a.keyID, "key-id", simKeyID, "the key's id")
	f.StringVar(&a.teamID, "team-id", simTeamID, "the key's team")
	f.StringSliceVar(&a.options.Topics, "topic", nil, "a bundle id that exists; none: any")
	f.BoolVar(&a.options.Sandbox, "sandbox", false, "play the sandbox")
	f.DurationVar(&a.options.Latency, "latency", 0, "the time before each answer")
	f.StringSliceVar(&a.faults, "fault", nil, "fail so: a reason of APNs, goaway, reset, cut or silent, and the share of requests, as ServiceUnavailable=0.05")
	f.BoolVar(&a.options.NoPrefixes, "no-prefixes", false, "tokens such as dead... do not fail")
	f.IntVar(&a.options.PerDevice, "per-device", 0, "pushes a second to one device, more are TooManyRequests; 0: any")
	f.Uint32Var(&a.options.MaxStreams, "max-streams", 1000, "requests at a time on a connection")
	f.StringVar(&a.log, "log", "", "file for a JSON line of each request")
	return cmd
}

func (a *apnsSim) run(cmd *cobra.Command) error {
	if err := a.prepare(); err != nil {
		return err
	}
	if a.log != "" {
		file, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		a.options.Log = file
	}
	faults, err := parseFaults(a.faults)
	if err != nil {
		return err
	}
	s, err := apnssim.Start(a.options)
	if err != nil {
		return err
	}
	s.SetFault(faults...)
	a.explain(cmd.OutOrStdout(), s)
	<-cmd.Context().Done()
	return s.Close()
}

// prepare reads the CA and the key, or makes them.
func (a *apnsSim) prepare() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	text, err := readOrMake(filepath.Join(a.dir, simCAKey), func() ([]byte, error) {
		ca, err := apnssim.NewCA()
		if err != nil {
			return nil, err
		}
		_, both := ca.PEM()
		return both, nil
	})
	if err != nil {
		return err
	}
	if a.options.CA, err = apnssim.ReadCA(text); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(a.dir, simCAKey), err)
	}
	cert, _ := a.options.CA.PEM()
	if err := os.WriteFile(filepath.Join(a.dir, simCA), cert, 0o600); err != nil {
		return err
	}
	return a.prepareKey()
}

func (a *apnsSim) prepareKey() error {
	name, text := a.key, []byte(nil)
	var err error
	if name != "" {
		text, err = os.ReadFile(name)
	} else {
		name = filepath.Join(a.dir, simKey)
		text, err = readOrMake(name, func() ([]byte, error) {
			_, p8, err := apnssim.NewKey(a.keyID, a.teamID)
			return p8, err
		})
	}
	if err != nil {
		return err
	}
	key, err := apnssim.ReadKey(text, a.keyID, a.teamID)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.key, a.options.Keys = name, []apnssim.Key{key}
	return nil
}

// readOrMake returns the content of a file, which it makes where it is not there.
func readOrMake(name string, content func() ([]byte, error)) ([]byte, error) {
	text, err := os.ReadFile(name)
	if !errors.Is(err, os.ErrNotExist) {
		return text, err
	}
	if text, err = content(); err != nil {
		return nil, err
	}
	return text, os.WriteFile(name, text, 0o600)
}

// parseFaults reads "ServiceUnavailable=0.05" and the like.
func parseFaults(texts []string) (all []apnssim.Fault, err error) {
	for _, text := range texts {
		what, share, given := strings.Cut(text, "=")
		var f apnssim.Fault
		switch what {
		case "goaway":
			f.GoAway = true
		case "reset":
			f.Reset = true
		case "cut":
			f.Cut = true
		case "silent":
			f.Silent = true
		default:
			f.Reason = what
		}
		if err := f.Check(); err != nil || what == "" {
			return nil, fmt.Errorf("--fault %s: want a reason of APNs, goaway, reset, cut or silent", text)
		}
		if given {
			if f.Share, err = strconv.ParseFloat(share, 64); err != nil || !(f.Share > 0 && f.Share <= 1) {
				return nil, fmt.Errorf("--fault %s: the share is not a number above 0 and up to 1", text)
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// explain prints what to do with it.
func (a *apnsSim) explain(w io.Writer, s *apnssim.Server) {
	fmt.Fprintf(w, "APNs simulator  %s\n", s.URL())
	if s.AdminURL() != "" {
		fmt.Fprintf(w, "phones          %s/\n", s.AdminURL())
	}
	fmt.Fprintf(w, "trust           %s\n", filepath.Join(a.dir, simCA))
	fmt.Fprintf(w, "credential      %s, form p8, key_id %s, team_id %s\n", a.key, a.keyID, a.teamID)
	fmt.Fprintf(w, "devices         any token of 64 hexadecimal digits; dead... is unregistered, badd... malformed, f100d... too many requests\n")
}
