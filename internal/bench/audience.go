package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/actors"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/internal/app"
	"github.com/crier-im/crier/persistence"
)

const benchApp crier.AppID = 1400000002

// attrNames are the attributes of its accounts.
var attrNames = crier.AttrNames{"sex", "city", "number"}

// measureAudience loads a large app into a node in this process, and pushes to it.
func measureAudience(ctx context.Context, cfg Config) ([]Result, error) {
	dir := filepath.Join(cfg.Dir, "audience")
	core, err := openCore(ctx, dir)
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
	algebra, err := measureAlgebra(core)
	if err = errors.Join(err, core.Close()); err != nil {
		return nil, err
	}
	core = nil
	debug.FreeOSMemory() // what follows is of processes of its own
	n, restarted, err := measureRestart(cfg)
	if err != nil {
		return nil, err
	}
	defer n.stop()
	pushes, err := measurePushes(ctx, cfg, n, settings)
	return slices.Concat(results, restarted, algebra, pushes), err
}

func openCore(ctx context.Context, dir string) (*app.Core, error) {
	log := slog.New(slog.DiscardHandler)
	storage := persistence.Config{Dir: dir, Partitions: crier.DefaultPartitions, Logger: log}
	return app.OpenCore(ctx, storage, cluster.Config{}, nil, actors.DefaultCallTimeout, nil, log) // the accounts have no devices
}

// measureRestart starts a server process on an empty directory, whose heap is subtracted, and one on the loaded directory, which it returns.
func measureRestart(cfg Config) (*node, []Result, error) {
	empty, err := startNode(cfg, "empty")
	if err != nil {
		return nil, nil, err
	}
	without, err := empty.heap()
	empty.stop()
	if err != nil {
		return nil, nil, err
	}
	n, err := startNode(cfg, "audience")
	if err != nil {
		return nil, nil, err
	}
	with, err := n.heap()
	if err != nil {
		n.stop()
		return nil, nil, err
	}
	return n, []Result{
		{Name: "ready to serve after a restart", Value: fmt.Sprintf("%.1f s", n.ready.Seconds()), Limit: "-", Ratio: "-", Goal: "6 s or less"},
		{Name: "heap an idle account", Value: fmt.Sprintf("%.0f bytes", (with-without)/float64(cfg.Accounts)), Limit: "-", Ratio: "-", Goal: "under 100 bytes"},
	}, nil
}

// loadAccounts makes the accounts: 5 tags of 1000 (zipf) and 3 attributes.
func loadAccounts(ctx context.Context, core *app.Core, cfg Config) error {
	if err := core.Service.SetAttrNames(ctx, benchApp, map[int]string{0: attrNames[0], 1: attrNames[1], 2: attrNames[2]}); err != nil {
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
	cond crier.ConditionSpec
}{
	{"two hot tags", crier.ConditionSpec{TagsAnd: tags(2)}},
	{"any of ten tags", crier.ConditionSpec{TagsOr: tags(10)}},
	{"two attributes", crier.ConditionSpec{AttrsAnd: map[string]string{"sex": "s1", "city": "city7"}}},
	{"everyone, kept", crier.ConditionSpec{}},
}

// algebra are the audiences that are compared with bare bitmaps.
var algebra = append([]struct {
	name string
	cond crier.ConditionSpec
}{
	{"ten tags, all of them", crier.ConditionSpec{TagsAnd: tags(10)}},
	{"any of ten tags and both of two", crier.ConditionSpec{TagsOr: tags(12)[2:], TagsAnd: tags(2)}},
	{"none of ten tags", crier.ConditionSpec{TagsNot: tags(10)}},
	{"either of two attributes, and a rare one", crier.ConditionSpec{
		AttrsOr: map[string]string{"sex": "s1", "city": "city1"}, AttrsAnd: map[string]string{"number": "n77"},
	}},
}, conditions...)

// measureAlgebra compares audiences with bare bitmap algebra over the same bitmaps.
func measureAlgebra(core *app.Core) (results []Result, err error) {
	for _, a := range algebra {
		cond, err := crier.ParseCondition(a.cond, &attrNames)
		if err != nil {
			return nil, err
		}
		ours, bare := core.Store.MeasureAudience(benchApp, &cond, 101)
		results = append(results, Result{
			Name: "audience of " + a.name, Value: fmt.Sprintf("%.2f ms", ours.Seconds()*1000), Limit: fmt.Sprintf("%.2f ms, bare bitmaps", bare.Seconds()*1000),
			Ratio: fmt.Sprintf("%.2f", ours.Seconds()/bare.Seconds()), Goal: "2 or less",
		})
	}
	return results, nil
}
