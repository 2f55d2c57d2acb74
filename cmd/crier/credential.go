package main

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/fcm"
	"github.com/crier-im/crier/vendors/webpush"
)

// secretFileMost bounds what is read of a credential's file, in bytes: the server takes less.
const secretFileMost = 1 << 20

// passwordEnv has the password of a .p12 file: on a command line everyone on the machine could read it.
const passwordEnv = "CRIER_P12_PASSWORD"

func newAppCredential(o *operatorClient) *cobra.Command {
	cmd := &cobra.Command{Use: "credential", Short: "Add, list and remove what an app shows to vendors"}
	cmd.AddCommand(newCredentialAdd(o), newCredentialList(o), newCredentialRemove(o))
	return cmd
}

// credentialPlace is which credential of an app is meant.
type credentialPlace struct {
	app     crier.AppID
	vendor  crier.Vendor
	target  string
	sandbox bool
}

func (p *credentialPlace) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.target, "target", "", "the bundle id (apns), or the project id (fcm)")
	cmd.Flags().BoolVar(&p.sandbox, "sandbox", false, "for the development environment (apns)")
}

func (p *credentialPlace) read(args []string) (err error) {
	if p.vendor = crier.Vendor(args[1]); !p.vendor.Valid() {
		return fmt.Errorf("vendor %s is not apns, fcm or webpush", crier.Quote(args[1]))
	}
	p.app, err = crier.ParseAppID(args[0])
	return err
}

func credentialsPath(app crier.AppID) string { return "/v1/apps/" + app.String() + "/credentials" }

// credentialAdd is what the flags of credential add say.
type credentialAdd struct {
	credentialPlace
	file, keyID, teamID, passwordFile, subject string
	generate                                   bool
}

func newCredentialAdd(o *operatorClient) *cobra.Command {
	var a credentialAdd
	cmd := &cobra.Command{
		Use: "add SDKAPPID VENDOR", Short: "Add a credential, or replace the one of the vendor, target and environment", Args: cobra.ExactArgs(2),
		Long: "Add a credential, or replace the one of the vendor (apns, fcm or webpush), target and environment.\n" +
			"The file is a .p8 or .p12 file (apns), the JSON file of a service account (fcm), or a VAPID private key (webpush).\n" +
			"The password of a .p12 file comes from --password-file or " + passwordEnv + ".",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.read(args); err != nil {
				return err
			}
			c, err := a.credential(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if a.generate {
				if err := o.refuseSecondKey(cmd.Context(), a.app); err != nil {
					return err
				}
			}
			var answer map[string]any
			if err := o.do(cmd.Context(), http.MethodPut, credentialsPath(a.app), c, &answer); err != nil {
				return err
			}
			return printJSON(cmd, answer)
		},
	}
	a.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&a.file, "file", "", "the file with the secret; - is standard input")
	f.StringVar(&a.keyID, "key-id", "", "of a .p8 file: the key's id; else from the name AuthKey_KEYID.p8")
	f.StringVar(&a.teamID, "team-id", "", "of a .p8 file: the team's id")
	f.StringVar(&a.passwordFile, "password-file", "", "of a .p12 file: the file with its password")
	f.StringVar(&a.subject, "subject", "", "webpush: whom push services write to, mailto:you@example.com or an https URL")
	f.BoolVar(&a.generate, "generate", false, "webpush: make a key pair; the answer shows its public key, with which pages subscribe")
	cmd.MarkFlagsMutuallyExclusive("file", "generate")
	cmd.MarkFlagsOneRequired("file", "generate")
	return cmd
}

// refuseSecondKey keeps a generated key from taking the place of one that browsers have subscribed with.
func (o *operatorClient) refuseSecondKey(ctx context.Context, app crier.AppID) error {
	var answer struct{ Credentials []crier.Credential }
	if err := o.do(ctx, http.MethodGet, credentialsPath(app), nil, &answer); err != nil {
		return err
	}
	if slices.ContainsFunc(answer.Credentials, func(c crier.Credential) bool { return c.Vendor == crier.WebPush }) {
		return errors.New("the app has a key for webpush, and with another every browser must subscribe again: remove it first")
	}
	return nil
}

// credential reads what is to be uploaded.
func (a *credentialAdd) credential(stdin io.Reader) (*crier.Credential, error) {
	c := &crier.Credential{Vendor: a.vendor, Target: a.target, Sandbox: a.sandbox}
	if a.generate {
		if a.vendor != crier.WebPush {
			return nil, errors.New("--generate is for webpush: other vendors make their keys themselves")
		}
		return c, a.useVAPID(c)
	}
	var err error
	if c.Secret, err = readSecret(a.file, stdin); err != nil {
		return nil, err
	}
	switch a.vendor {
	case crier.APNs:
		return c, a.useAPNs(c)
	case crier.FCM:
		c.Form = fcm.Form
		if c.Target == "" {
			var account struct {
				ProjectID string `json:"project_id"`
			}
			_ = json.Unmarshal(c.Secret, &account) // the server tells what is wrong with it
			c.Target = account.ProjectID
		}
		return c, nil
	}
	return c, a.useVAPID(c)
}

func readSecret(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(stdin, secretFileMost))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, secretFileMost))
}

// useAPNs says which of the two forms the file has. A .p8 file is PEM, and a .p12 file is not.
func (a *credentialAdd) useAPNs(c *crier.Credential) error {
	if strings.Contains(string(c.Secret), "-----BEGIN") {
		c.Form = apns.FormKey
		c.Params = map[string]string{"key_id": a.keyID, "team_id": a.teamID}
		if a.keyID == "" { // as Apple names the file
			name, _ := strings.CutPrefix(filepath.Base(a.file), "AuthKey_")
			c.Params["key_id"] = strings.TrimSuffix(name, ".p8")
		}
		return nil
	}
	password := os.Getenv(passwordEnv)
	if a.passwordFile != "" {
		text, err := os.ReadFile(a.passwordFile)
		if err != nil {
			return err
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	c.Form, c.Params = apns.FormCertificate, map[string]string{"password": password}
	return nil
}

// useVAPID reads or makes a VAPID key, and adds its public key.
func (a *credentialAdd) useVAPID(c *crier.Credential) error {
	b64 := base64.RawURLEncoding
	text := strings.TrimRight(strings.TrimSpace(string(c.Secret)), "=")
	secret, err := b64.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	var key *ecdh.PrivateKey
	if a.generate {
		key, err = ecdh.P256().GenerateKey(rand.Reader)
	} else if err == nil {
		key, err = ecdh.P256().NewPrivateKey(secret)
	}
	if err != nil { // the cause could show what was read
		return fmt.Errorf("%s does not hold a VAPID private key: 32 bytes as base64url", a.file)
	}
	c.Form, c.Secret = webpush.Form, []byte(b64.EncodeToString(key.Bytes()))
	c.Params = map[string]string{"public_key": b64.EncodeToString(key.PublicKey().Bytes()), "subject": a.subject}
	return nil
}

func newCredentialList(o *operatorClient) *cobra.Command {
	return &cobra.Command{
		Use: "list SDKAPPID", Short: "List the credentials of an app; secrets are never shown", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			app, err := crier.ParseAppID(args[0])
			if err != nil {
				return err
			}
			var answer struct{ Credentials []crier.Credential }
			if err := o.do(cmd.Context(), http.MethodGet, credentialsPath(app), nil, &answer); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "VENDOR\tTARGET\tSANDBOX\tKIND\tKEY OR SUBJECT\tEXPIRES\tADDED")
			for _, c := range answer.Credentials {
				name := cmp.Or(c.Params["key_id"], c.Params["subject"], "-")
				fmt.Fprintf(w, "%s\t%s\t%t\t%s\t%s\t%s\t%s\n", c.Vendor, cmp.Or(c.Target, "-"), c.Sandbox, c.Params["kind"], name,
					cmp.Or(c.Params["expires"], "-"), c.Added.Format(time.DateOnly))
			}
			return w.Flush()
		},
	}
}

func newCredentialRemove(o *operatorClient) *cobra.Command {
	var p credentialPlace
	cmd := &cobra.Command{
		Use: "remove SDKAPPID VENDOR", Short: "Remove the credential of a vendor, target and environment", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.read(args); err != nil {
				return err
			}
			query := url.Values{"vendor": {string(p.vendor)}, "target": {p.target}, "sandbox": {strconv.FormatBool(p.sandbox)}}
			var answer map[string]any
			return o.do(cmd.Context(), http.MethodDelete, credentialsPath(p.app)+"?"+query.Encode(), nil, &answer)
		},
	}
	p.addFlags(cmd)
	return cmd
}
