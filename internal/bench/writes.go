package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/persistence"
)

// writers and batch are the shape of the load: connections, and accounts a call.
const (
	writers = 8
	batch   = 100
	// recordSize is about what an account of the load takes in the state.
	recordSize = 60
	startWait  = time.Minute
)

// node is a server process with the demo's app.
type node struct {
	url   string
	pid   int
	app   crier.AppID
	key   string
	admin crier.UserID
	stop  func()
}

// startNode starts a server process on a fresh directory below cfg.Dir.
func startNode(cfg Config, dir string) (*node, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(cfg.Dir, dir)
	cmd, stop, err := child(cfg, "serve", "--demo", "--data-dir", dir, "--http-listen", address, "--log-level", "warn")
	if err != nil {
		return nil, err
	}
	n := &node{url: "http://" + address, pid: cmd.Process.Pid, stop: stop}
	var demo struct {
		SDKAppID crier.AppID `json:"sdkappid"`
		Key      string
		Admin    crier.UserID
	}
	for deadline := time.Now().Add(startWait); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(dir, "demo.json"))
		if err != nil || json.Unmarshal(text, &demo) != nil {
			continue
		}
		resp, err := http.Get(n.url + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			n.app, n.key, n.admin = demo.SDKAppID, demo.Key, demo.Admin
			return n, nil
		}
	}
	stop()
	return nil, fmt.Errorf("the server was not ready within %v", startWait)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (n *node) client() (*client.Client, error) {
	c, err := client.New(n.url, n.app, n.admin, client.SecretKey(n.key))
	if err == nil {
		c.HTTP.Transport = &http.Transport{MaxIdleConnsPerHost: 2 * writers}
	}
	return c, err
}

// measureWrites alternates the raw limit and the load, and takes medians.
func measureWrites(ctx context.Context, cfg Config) ([]Result, error) {
	n, err := startNode(cfg, "writes")
	if err != nil {
		return nil, err
	}
	defer n.stop()
	c, err := n.client()
	if err != nil {
		return nil, err
	}
	if err := c.SetAttrNames(ctx, map[int]string{0: "count"}); err != nil {
		return nil, err
	}
	const accounts = 20_000
	names := make([]crier.UserID, accounts)
	for i := range names {
		names[i] = crier.UserID(fmt.Sprintf("user%07d", i))
	}
	for i := 0; i < accounts; i += batch {
		if err := c.Import(ctx, names[i:i+batch]...); err != nil {
			return nil, err
		}
	}
	var ratios, raws, rests []float64
	for round := range 3 {
		raw, err := persistence.MeasureRaw(ctx, filepath.Join(cfg.Dir, fmt.Sprint("raw", round)), writers, batch, recordSize, cfg.Duration)
		if err != nil {
			return nil, err
		}
		rest, err := writeLoad(ctx, c, names, cfg.Duration)
		if err != nil {
			return nil, err
		}
		raws, rests, ratios = append(raws, raw), append(rests, rest), append(ratios, rest/raw)
	}
	return []Result{{
		Name:  fmt.Sprintf("durable changes over REST, %d accounts a call, %d connections", batch, writers),
		Value: fmt.Sprintf("%.0f accounts/s", median(rests)), Limit: fmt.Sprintf("%.0f records/s, synced Badger", median(raws)),
		Ratio: fmt.Sprintf("%.2f", median(ratios)), Goal: "0.3 or more",
	}}, nil
}

// writeLoad returns how many accounts a second are changed and acknowledged.
func writeLoad(ctx context.Context, c *client.Client, names []crier.UserID, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var changed atomic.Int64
	errs := make(chan error, writers)
	var wg sync.WaitGroup
	started := time.Now()
	for w := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				attrs := make(map[crier.UserID]map[string]string, batch)
				for i := range batch {
					attrs[names[(w*2500+n*batch+i)%len(names)]] = map[string]string{"count": fmt.Sprint(n)}
				}
				if err := c.SetAttrs(ctx, attrs); err != nil {
					if ctx.Err() == nil {
						errs <- err
					}
					return
				}
				changed.Add(batch)
			}
		})
	}
	wg.Wait()
	close(errs)
	var failed error
	for err := range errs {
		failed = errors.Join(failed, err)
	}
	return float64(changed.Load()) / time.Since(started).Seconds(), failed
}
