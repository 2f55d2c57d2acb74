package bench

import (
	"bytes"
	"context"
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
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/demo/demofile"
	"github.com/crier-im/crier/internal/freeport"
	"github.com/crier-im/crier/persistence"
	"github.com/crier-im/crier/usersig"
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
	admin string // address of pprof and metrics
	pid   int
	app   crier.AppID
	key   string
	user  crier.UserID // an admin of the app
	ready time.Duration
	stop  func()
}

// startNode starts a server process on a directory below cfg.Dir, with more flags.
func startNode(cfg Config, dir string, flags ...string) (*node, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	admin, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(cfg.Dir, dir)
	_ = os.Remove(filepath.Join(dir, demofile.Name)) // of a life before; the new one says when it serves
	started := time.Now()
	flags = append([]string{"serve", "--demo", "--data-dir", dir, "--http-listen", address, "--admin-listen", admin, "--log-level", "warn"}, flags...)
	p, stop, err := child(cfg, flags...)
	if err != nil {
		return nil, err
	}
	n := &node{url: "http://" + address, admin: admin, pid: p.PID(), stop: stop}
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	if err := p.WaitReady(ctx, n.url); err != nil {
		stop()
		return nil, err
	}
	n.ready = time.Since(started)
	demo, err := demofile.Wait(ctx, dir)
	if err != nil {
		stop()
		return nil, err
	}
	n.app, n.key, n.user = demo.SDKAppID, demo.Key, demo.Admin
	return n, nil
}

// heap returns the bytes that the server's heap holds after a collection.
func (n *node) heap() (float64, error) {
	for range 2 { // the second takes what the first has finalised
		resp, err := http.Get("http://" + n.admin + "/debug/pprof/heap?gc=1")
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
	}
	return metric("http://"+n.admin, "go_memstats_heap_alloc_bytes")
}

// metric returns the value of one of a server's metrics.
func metric(url, name string) (float64, error) {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

func (n *node) client() (*client.Client, error) {
	return client.New(n.url, n.app, n.user, client.SecretKey(n.key))
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
	load, err := newWriteLoad(n, names)
	if err != nil {
		return nil, err
	}
	var ratios, raws, rests []float64
	for round := range 3 {
		raw, err := persistence.MeasureRaw(ctx, filepath.Join(cfg.Dir, fmt.Sprint("raw", round)), writers, batch, recordSize, cfg.Duration)
		if err != nil {
			return nil, err
		}
		rest, err := load.run(ctx, cfg.Duration)
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

// writeLoad changes accounts over REST. Its calls are encoded before the time is taken, since it shares the processors with the server.
type writeLoad struct {
	url    string
	bodies [][]byte // of im_set_attr: all accounts once, then all with the next value, and so on
	http   http.Client
}

func newWriteLoad(n *node, names []crier.UserID) (*writeLoad, error) {
	type account struct {
		To_Account crier.UserID
		Attrs      map[string]string
	}
	query := url.Values{
		"sdkappid": {n.app.String()}, "identifier": {string(n.user)}, "contenttype": {"json"},
		"usersig": {usersig.Sign(n.key, n.app, n.user, time.Now(), time.Hour, nil)},
	}
	l := &writeLoad{url: n.url + "/v4/openim/im_set_attr?" + query.Encode(), http: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}}
	for value := range writers {
		for some := range slices.Chunk(names, batch) {
			var accounts []account
			for _, name := range some {
				accounts = append(accounts, account{name, map[string]string{"count": strconv.Itoa(value)}})
			}
			body, err := json.Marshal(map[string]any{"UserAttrs": accounts})
			if err != nil {
				return nil, err
			}
			l.bodies = append(l.bodies, body)
		}
	}
	return l, nil
}

// run returns how many accounts a second are changed and acknowledged.
func (l *writeLoad) run(ctx context.Context, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var calls atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	started := time.Now()
	for w := range writers {
		group.Go(func() error {
			// Each is at another value than the others, and at other accounts, so every change is one.
			for next := w * (len(l.bodies) + len(l.bodies)/writers) / writers; ctx.Err() == nil; next++ {
				switch err := l.call(ctx, l.bodies[next%len(l.bodies)]); {
				case err == nil:
					calls.Add(1)
				case ctx.Err() == nil:
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(calls.Load()*batch) / time.Since(started).Seconds(), err
}

func (l *writeLoad) call(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := l.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		ErrorCode int
		ErrorInfo string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.ErrorCode != 0 {
		return fmt.Errorf("im_set_attr: %d: %s", answer.ErrorCode, answer.ErrorInfo)
	}
	_, err = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return err
}
