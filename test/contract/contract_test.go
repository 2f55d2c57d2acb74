package contract_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/internal/config"
	"github.com/crier-im/crier/test/contract"
)

// TestContract holds a node of this process to the contract, or the server that CRIER_CONTRACT_URL and
// CRIER_CONTRACT_TOKEN, its operator's token, name.
func TestContract(t *testing.T) {
	if url := os.Getenv("CRIER_CONTRACT_URL"); url != "" {
		contract.Run(t, contract.Target{URL: url, Operator: os.Getenv("CRIER_CONTRACT_TOKEN")})
		return
	}
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
