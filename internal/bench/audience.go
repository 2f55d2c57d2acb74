package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/persistence"
)

const benchApp crier.AppID = 1400000002

// measureAudience loads a large app into a node in this process, and pushes to it.
func measureAudience(ctx context.Context, cfg Config) ([]Result, error) {
	dir := filepath.Join(cfg.Dir, "audience")
	core, err := openCore(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	settings := &crier.App{ID: benchApp, Key: crier.NewKey(), Admins: []crier.UserID{"admin"}, PushEnabled: true}
	settings.Limits.InFlightMessages = 32 // and no other limit
	if err := core.Service.CreateApp(ctx, settings); err != nil {
		return nil, err
	}
	loaded := time.Now()
	if err := loadAccounts(ctx, core, cfg); err != nil {
		return nil, err
	}
	rate := float64(cfg.Accounts) / time.Since(loaded).Seconds()
	results := []Result{{Name: "accounts loaded with tags and attributes", Value: fmt.Sprintf("%.0f accounts/s", rate), Limit: "-", Ratio: "-", Goal: "-"}}
	if err := core.Close(); err != nil {
		return nil, err
	}
	restarted, err := measureRestart(cfg)
	if err != nil {
		return nil, err
	}
	results = append(results, restarted...)
	registry := prometheus.NewRegistry()
	if core, err = openCore(ctx, dir, registry); err != nil {
		return nil, err
	}
	results = append(results, measureAlgebra(core)...)
	pushes, err := measurePushes(ctx, core, cfg, registry)
	if err != nil {
		return nil, err
	}
	return append(results, pushes...), core.Close()
}

func openCore(ctx context.Context, dir string, r prometheus.Registerer) (*app.Core, error) {
	log := slog.New(slog.DiscardHandler)
	storage := persistence.Config{Dir: dir, Partitions: crier.DefaultPartitions, Logger: log}
	return app.OpenCore(ctx, storage, cluster.Config{}, nil, actors.DefaultCallTimeout, r, log) // the accounts have no devices
}

// measureRestart starts a server process on the loaded directory, and one on an
// empty one, whose heap is subtracted.
func measureRestart(cfg Config) ([]Result, error) {
	var heaps [2]float64
	var ready time.Duration
	for i, dir := range []string{"empty", "audience"} {
		n, err := startNode(cfg, dir)
		if err != nil {
			return nil, err
		}
		heaps[i], err = n.heap()
		ready = n.ready
		n.stop()
		if err != nil {
			return nil, err
		}
	}
	return []Result{
		{Name: "ready to serve after a restart", Value: fmt.Sprintf("%.1f s", ready.Seconds()), Limit: "-", Ratio: "-", Goal: "6 s or less"},
		{Name: "heap an idle account", Value: fmt.Sprintf("%.0f bytes", (heaps[1]-heaps[0])/float64(cfg.Accounts)), Limit: "-", Ratio: "-", Goal: "under 100 bytes"},
	}, nil
}

// loadAccounts makes the accounts: 5 tags of 1000 (zipf) and 3 attributes.
func loadAccounts(ctx context.Context, core *app.Core, cfg Config) error {
	if err := core.Service.SetAttrNames(ctx, benchApp, map[int]string{0: "sex", 1: "city", 2: "number"}); err != nil {
		return err
	}
	var loaded atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	const accounts = 500
	for from := 0; from < cfg.Accounts; from += accounts {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(1, uint64(from)))
			zipf := rand.NewZipf(random, 1.2, 1, 999)
			var changes []crier.Change
			for i := from; i < min(from+accounts, cfg.Accounts); i++ {
				user := crier.UserID(fmt.Sprintf("user%08d", i))
				tags := make([]string, 5)
				for t := range tags {
					tags[t] = fmt.Sprintf("tag%d", zipf.Uint64())
				}
				attrs := crier.Attrs{fmt.Sprint("s", random.IntN(3)), fmt.Sprint("city", random.IntN(50)), fmt.Sprint("n", random.IntN(10_000))}
				changes = append(changes, crier.Change{Op: crier.OpImport, User: user}, crier.Change{Op: crier.OpAddTags, User: user, Tags: tags},
					crier.Change{Op: crier.OpSetAttrs, User: user, Attrs: attrs})
			}
			if err := core.Service.ChangeAccounts(ctx, benchApp, changes); err != nil {
				return err
			}
			if n := loaded.Add(accounts); n%100_000 == 0 {
				fmt.Fprintf(cfg.Out, "  %d accounts\n", n)
			}
			return nil
		})
	}
	return group.Wait()
}

// tags returns tag0 to tag(n-1), the hottest first.
func tags(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("tag", i)
	}
	return all
}

// conditions are the audiences that are measured.
var conditions = []struct {
	name string
	cond crier.Condition
}{
	{"two hot tags", crier.Condition{TagsAnd: tags(2)}},
	{"any of ten tags", crier.Condition{TagsOr: tags(10)}},
	{"two attributes", crier.Condition{AttrsAnd: []crier.AttrTerm{{Slot: 0, Value: "s1"}, {Slot: 1, Value: "city7"}}}},
	{"everyone, kept", crier.Condition{}},
}

// algebra are the audiences that are compared with bare bitmaps.
var algebra = append([]struct {
	name string
	cond crier.Condition
}{
	{"ten tags, all of them", crier.Condition{TagsAnd: tags(10)}},
	{"any of ten tags and both of two", crier.Condition{TagsOr: tags(12)[2:], TagsAnd: tags(2)}},
	{"none of ten tags", crier.Condition{TagsNot: tags(10)}},
	{"any of two values, and a rare one", crier.Condition{
		AttrsOr: []crier.AttrTerm{{Slot: 1, Value: "city1"}, {Slot: 1, Value: "city2"}}, AttrsAnd: []crier.AttrTerm{{Slot: 2, Value: "n77"}},
	}},
}, conditions...)

// measureAlgebra compares audiences with bare bitmap algebra over the same bitmaps.
func measureAlgebra(core *app.Core) (results []Result) {
	for _, a := range algebra {
		ours, bare := core.Store.MeasureAudience(benchApp, &a.cond, 101)
		results = append(results, Result{
			Name: "audience of " + a.name, Value: fmt.Sprintf("%.2f ms", ours.Seconds()*1000), Limit: fmt.Sprintf("%.2f ms, bare bitmaps", bare.Seconds()*1000),
			Ratio: fmt.Sprintf("%.2f", ours.Seconds()/bare.Seconds()), Goal: "2 or less",
		})
	}
	return results
}

// flushed returns how many bytes of state have been written to disk.
func flushed(g prometheus.Gatherer) (float64, error) {
	time.Sleep(2 * time.Second) // past the flush of what was done before, a second later
	families, err := g.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "crier_state_flush_bytes_total" {
			return f.GetMetric()[0].GetCounter().GetValue(), nil
		}
	}
	return 0, errors.New("the metrics have no bytes of state")
}

// pushesEach is how many pushes of a kind are measured, and pushSize about what one is in a log, in bytes.
const (
	pushesEach = 50
	pushSize   = 300
)

// pusher times pushes: how long until accepted, beside a synced write of as many bytes, and until every partition has evaluated, stored and answered.
type pusher struct {
	core   *app.Core
	raw    *os.File
	random uint32

	accepted, synced []time.Duration
}

// push makes pushes to an audience, one when the one before is done, and returns how long each took until it was, and to how many it went.
func (p *pusher) push(ctx context.Context, cond crier.Condition) (done []time.Duration, total uint64, err error) {
	for range pushesEach {
		p.random++
		req := &crier.PushRequest{
			App: benchApp, Random: p.random, Condition: cond, RequestID: fmt.Sprint(p.random), LifeTime: time.Hour,
			Message: crier.Message{From: "admin", Elements: []crier.Element{{Type: crier.TextElement, Content: []byte(`{"Text":"hello"}`)}}},
		}
		started := time.Now()
		if _, err := p.raw.Write(make([]byte, pushSize)); err != nil {
			return nil, 0, err
		}
		if err := p.raw.Sync(); err != nil {
			return nil, 0, err
		}
		p.synced = append(p.synced, time.Since(started))
		started = time.Now()
		task, err := p.core.Service.Push(ctx, req)
		if err != nil {
			return nil, 0, err
		}
		p.accepted = append(p.accepted, time.Since(started))
		for total = 0; ; time.Sleep(time.Millisecond) {
			reports, err := p.core.Service.Reports(ctx, benchApp, []crier.TaskID{task})
			if err != nil {
				return nil, 0, err
			}
			if reports[0].Status == crier.StatusDone {
				total = reports[0].Total
				break
			}
		}
		done = append(done, time.Since(started))
	}
	return done, total, nil
}

// result tells how long pushes took until accepted, since the last call of result.
func (p *pusher) result(name, goal string) Result {
	r := Result{
		Name: name, Value: tail(p.accepted), Limit: tail(p.synced) + ", a synced write",
		Ratio: fmt.Sprintf("%.1f", percentile(p.accepted, 0.99).Seconds()/percentile(p.synced, 0.99).Seconds()), Goal: goal,
	}
	p.accepted, p.synced = nil, nil
	return r
}

// measurePushes times pushes to the audiences.
func measurePushes(ctx context.Context, core *app.Core, cfg Config, registry prometheus.Gatherer) (results []Result, err error) {
	raw, err := os.Create(filepath.Join(cfg.Dir, "synced"))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	p := &pusher{core: core, raw: raw}
	if _, _, err := p.push(ctx, conditions[0].cond); err != nil {
		return nil, err
	}
	results = append(results, p.result(fmt.Sprintf("im_push accepted, while what %d accounts have left on the disk is compacted", cfg.Accounts), "-"))
	if err := settle(ctx); err != nil {
		return nil, err
	}
	before, err := flushed(registry)
	if err != nil {
		return nil, err
	}
	for _, k := range conditions {
		done, total, err := p.push(ctx, k.cond)
		if err != nil {
			return nil, err
		}
		results = append(results, Result{
			Name: fmt.Sprintf("push to %s (%d accounts): durable in all partitions", k.name, total), Value: fmt.Sprintf("%.0f ms median", median(done).Seconds()*1000),
			Limit: "-", Ratio: "-", Goal: "500 ms or less",
		})
		after, err := flushed(registry)
		if err != nil {
			return nil, err
		}
		if k.cond.IsAll() {
			results = append(results, Result{
				Name: "a push kept for everyone, on disk", Value: fmt.Sprintf("%.2f bytes an account", (after-before)/pushesEach/float64(cfg.Accounts)),
				Limit: "-", Ratio: "-", Goal: "under 1 byte",
			})
		}
		before = after
	}
	return append(results, p.result(fmt.Sprintf("im_push accepted, with %d accounts", cfg.Accounts), "p99 20 ms or less")), nil
}

// A process is settled when it has taken less than settledShare of a processor for a second; settleMost bounds the wait for that.
const (
	settledShare = 0.05
	settleMost   = time.Minute
)

// settle waits until this process has nothing left to do in the background, as a node that was not loaded a moment ago.
func settle(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < settleMost; {
		before, err := processorTime(os.Getpid())
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		after, err := processorTime(os.Getpid())
		if err != nil {
			return err
		}
		if after-before < time.Duration(settledShare*float64(time.Second)) {
			syscall.Sync()
			return nil
		}
	}
	return fmt.Errorf("after %v this process is not idle", settleMost)
}

// tail is the middle and the slowest hundredth.
func tail(times []time.Duration) string {
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", percentile(times, 0.5).Seconds()*1000, percentile(times, 0.99).Seconds()*1000)
}
