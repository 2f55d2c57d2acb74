// Package demofile is the file by which crier serve --demo tells how to reach it.
package demofile

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/crier-im/crier"
)

// Name is the file's, in the data directory.
const Name = "demo.json"

// lookEvery is how often Wait looks.
const lookEvery = 10 * time.Millisecond

// Info is what the file holds.
type Info struct {
	URL      string       `json:"url"`
	SDKAppID crier.AppID  `json:"sdkappid"`
	Key      string       `json:"key"`
	Admin    crier.UserID `json:"admin"`
	UserSig  string       `json:"usersig"`             // the admin's
	Page     string       `json:"apns_page,omitempty"` // of the simulator that stands for Apple
	FCM      string       `json:"fcm_url,omitempty"`   // of the one that stands for Google
}

// Write writes the file, whole or not at all, for its owner only: it has the key.
func Write(dataDir string, i Info) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(dataDir, Name)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// Read reads a file. The error is os.ErrNotExist where there is none.
func Read(file string) (Info, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Info{}, err
	}
	var i Info
	if err := json.Unmarshal(text, &i); err != nil {
		return Info{}, fmt.Errorf("%s: %w", file, err)
	}
	return i, nil
}

// Wait waits until the file in a data directory can be read: a server writes it just after it is ready. The error once ctx ends is of the last try.
func Wait(ctx context.Context, dataDir string) (Info, error) {
	for {
		i, err := Read(filepath.Join(dataDir, Name))
		if err == nil || ctx.Err() != nil {
			return i, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}
