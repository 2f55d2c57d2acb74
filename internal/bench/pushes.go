package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// pushesEach is how many pushes of a kind are measured, and pushSize about what one is in a log, in bytes.
const (
	pushesEach = 100
	pushSize   = 300
)

// pusher times pushes: how long until accepted, beside a synced write of as many bytes, and until every partition has evaluated, stored and answered.
type pusher struct {
	client *client.Client
	raw    *os.File

	accepted, synced []time.Duration
}

// push makes pushes to an audience, one when the one before is done, and returns how long each took until it was, and to how many it went.
func (p *pusher) push(ctx context.Context, cond crier.ConditionSpec) (done []time.Duration, total uint64, err error) {
	for range pushesEach {
		started := time.Now()
		if _, err := p.raw.Write(make([]byte, pushSize)); err != nil {
			return nil, 0, err
		}
		if err := p.raw.Sync(); err != nil {
			return nil, 0, err
		}
		p.synced = append(p.synced, time.Since(started))
		started = time.Now()
		task, err := p.client.Push(ctx, client.Push{Text: "hello", Condition: cond, LifeTime: time.Hour})
		if err != nil {
			return nil, 0, err
		}
		p.accepted = append(p.accepted, time.Since(started))
		for total = 0; ; time.Sleep(2 * time.Millisecond) {
			reports, err := p.client.Report(ctx, task)
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

// tail is the middle and the slowest hundredth.
func tail(times []time.Duration) string {
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", percentile(times, 0.5).Seconds()*1000, percentile(times, 0.99).Seconds()*1000)
}

// measurePushes times pushes of a node, which has been started just now, to the audiences of an app.
func measurePushes(ctx context.Context, cfg Config, n *node, to *crier.App) (results []Result, err error) {
	raw, err := os.Create(filepath.Join(cfg.Dir, "synced"))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	c, err := client.New(n.url, to.ID, to.Admins[0], client.SecretKey(to.Key))
	if err != nil {
		return nil, err
	}
	p := &pusher{client: c, raw: raw}
	if _, _, err := p.push(ctx, conditions[0].cond); err != nil {
		return nil, err
	}
	results = append(results, p.result(fmt.Sprintf("im_push accepted, while what %d accounts have left on the disk is compacted", cfg.Accounts), "-"))
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	before, err := n.flushed()
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
		after, err := n.flushed()
		if err != nil {
			return nil, err
		}
		if total == uint64(cfg.Accounts) {
			results = append(results, Result{
				Name: "a push kept for everyone, on disk", Value: fmt.Sprintf("%.2f bytes an account", (after-before)/pushesEach/float64(cfg.Accounts)),
				Limit: "-", Ratio: "-", Goal: "under 1 byte",
			})
		}
		before = after
	}
	return append(results, p.result(fmt.Sprintf("im_push accepted, with %d accounts", cfg.Accounts), "p99 20 ms or less")), nil
}

// flushed returns how many bytes of state the node has written to disk.
func (n *node) flushed() (float64, error) {
	time.Sleep(2 * time.Second) // past the flush of what was done before, a second later
	return metric("http://"+n.admin, "crier_state_flush_bytes_total")
}

// A node is settled when it has taken less than settledShare of a processor for a second; settleMost bounds the wait for that.
const (
	settledShare = 0.05
	settleMost   = time.Minute
)

// settle waits until the node has nothing left to do in the background, as one that was not loaded a moment ago.
func (n *node) settle(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < settleMost; {
		before, err := processorTime(n.pid)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		after, err := processorTime(n.pid)
		if err != nil {
			return err
		}
		if after-before < time.Duration(settledShare*float64(time.Second)) {
			syscall.Sync()
			return nil
		}
	}
	return fmt.Errorf("after %v the node is not idle", settleMost)
}
