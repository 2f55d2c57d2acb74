package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/demo/demofile"
)

// target is the server and the app that a tool talks to: from flags, else from
// the environment, else from the demo's file.
type target struct {
	url, key, identifier, demo string
	app                        uint32
}

func (t *target) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.url, "url", "", "the server, such as https://push.example.com (CRIER_URL)")
	f.Uint32Var(&t.app, "sdkappid", 0, "the app (CRIER_SDKAPPID)")
	f.StringVar(&t.key, "key", "", "the app's secret key (CRIER_KEY)")
	f.StringVar(&t.identifier, "identifier", "", "an admin of the app (CRIER_IDENTIFIER)")
	f.StringVar(&t.demo, "demo-file", filepath.Join("data", demofile.Name), "where the values that are not given come from: the file of serve --demo")
}

// fromEnv fills what no flag gave from the environment. The values are no
// defaults of the flags, because the help prints those, and one is a secret.
func (t *target) fromEnv() error {
	t.url = cmp.Or(t.url, os.Getenv("CRIER_URL"))
	t.key = cmp.Or(t.key, os.Getenv("CRIER_KEY"))
	t.identifier = cmp.Or(t.identifier, os.Getenv("CRIER_IDENTIFIER"))
	if text := os.Getenv("CRIER_SDKAPPID"); t.app == 0 && text != "" {
		id, err := crier.ParseAppID(text)
		if err != nil {
			return fmt.Errorf("environment variable CRIER_SDKAPPID: %w", err)
		}
		t.app = uint32(id)
	}
	return nil
}

// resolve fills what was not given from the environment and the demo's file.
func (t *target) resolve() error {
	if err := t.fromEnv(); err != nil {
		return err
	}
	if t.url != "" && t.key != "" && t.app != 0 && t.identifier != "" {
		return nil
	}
	d, err := demofile.Read(t.demo)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give --url, --sdkappid, --key and --identifier, or start the demo server: %s is not there", t.demo)
	}
	if err != nil {
		return err
	}
	if t.url == "" {
		t.url = d.URL
	}
	if t.key == "" {
		t.key = d.Key
	}
	if t.app == 0 {
		t.app = uint32(d.SDKAppID)
	}
	if t.identifier == "" {
		t.identifier = string(d.Admin)
	}
	return nil
}

// operator returns the client of the operator's API of the target: its token is given, or stands beside the demo's file.
func (t *target) operator(token, dataDir string) *operatorClient {
	return &operatorClient{t.url, token, cmp.Or(dataDir, filepath.Dir(t.demo))}
}

// client returns the SDK's client of the target.
func (t *target) client() (*client.Client, error) {
	if err := t.resolve(); err != nil {
		return nil, err
	}
	return client.New(t.url, crier.AppID(t.app), crier.UserID(t.identifier), client.SecretKey(t.key))
}

// listen returns the SDK's configuration of a receiver.
func (t *target) listen(user crier.UserID) client.ListenConfig {
	return client.ListenConfig{
		URL: t.url, SDKAppID: crier.AppID(t.app), UserID: user, UserSig: client.SecretKey(t.key), Client: "crier-cli",
	}
}
