package contract_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/test/contract"
)

// The cases that any server can be held to, against a node of this process.
func TestRun(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir, cfg.HTTP.Listen, cfg.Cluster.Partitions, cfg.Storage.MinFreeDisk = t.TempDir(), "127.0.0.1:0", 4, 1
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan contract.Target, 1), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, cfg, app.Options{
			Logger: slog.New(slog.DiscardHandler),
			OnReady: func(_ context.Context, info app.Info) error {
				ready <- contract.Target{URL: info.URL, Operator: info.OperatorToken}
				return nil
			},
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case target := <-ready:
		contract.Run(t, target)
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
}
