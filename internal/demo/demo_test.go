package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
)

// The story is played twice against one node: it is right, and it cleans up.
func TestStory(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir, cfg.HTTP.Listen, cfg.Cluster.Partitions, cfg.Storage.MinFreeDisk = t.TempDir(), "127.0.0.1:0", 4, 1
	const id = 1400000001
	key := crier.NewKey()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, cfg, app.Options{
			Logger: slog.New(slog.DiscardHandler),
			OnReady: func(ctx context.Context, i app.Info) error {
				a := &crier.App{ID: id, Key: key, Admins: []crier.UserID{"admin"}, PushEnabled: true}
				if err := i.Service.CreateApp(ctx, a); err != nil {
					return err
				}
				ready <- i.URL // only now: the story needs the app
				return nil
			},
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var url string
	select {
	case url = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	c, err := client.New(url, id, "admin", client.SecretKey(key))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var out bytes.Buffer
		err := Run(t.Context(), Config{Client: c, Out: &out, Listen: func(user crier.UserID) client.ListenConfig {
			return client.ListenConfig{URL: url, SDKAppID: id, UserID: user, UserSig: client.SecretKey(key)}
		}})
		if err != nil || !strings.Contains(out.String(), "mailbox (follows stockB)") {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}

// The judge finds what is wrong: a message that did not come, one that came to
// the wrong person, and one that came twice.
func TestJudge(t *testing.T) {
	t.Parallel()
	const task crier.TaskID = "task"
	for name, got := range map[string][2]int{"missing": {0, 0}, "for somebody else": {1, 1}, "twice": {2, 0}, "right": {1, 0}} {
		var out bytes.Buffer
		s := &story{cfg: Config{Out: &out}}
		s.cast()
		s.people = s.people[:2]
		for i, a := range s.people {
			a.stop = func() {}
			a.got[task] = got[i]
		}
		first := s.people[0]
		s.scenes = []*scene{{title: "x", task: task, why: func(a *actor) (bool, string) { return a == first, "because" }}}
		if err := s.judge(); (err == nil) != (name == "right") || err != nil && !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}
