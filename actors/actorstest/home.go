package actorstest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/crier-im/crier"
)

// home is what an app decides alone: its pushes.
type home struct {
	seq     uint64
	last    time.Time
	day     int64
	today   int
	randoms map[uint32]used
	tasks   map[uint64]*task // by Seq
}

// used is a MsgRandom that a push has taken.
type used struct {
	request string
	first   *crier.Campaign
}

// task is one accepted push and its progress.
type task struct {
	campaign *crier.Campaign
	report   crier.Report
}

func newHome() home {
	return home{randoms: make(map[uint32]used), tasks: make(map[uint64]*task)}
}

// CreateCampaign is actors.Replica's.
func (r *Replica) CreateCampaign(ctx context.Context, req *crier.PushRequest, limits *crier.Limits) (c *crier.Campaign, err error) {
	failed := r.command(ctx, "CreateCampaign", func() error {
		c, err = r.app(req.App).home.accept(req, limits, time.Now().UTC().Truncate(time.Millisecond))
		return err
	})
	return c, failed
}

func (h *home) accept(req *crier.PushRequest, limits *crier.Limits, now time.Time) (*crier.Campaign, error) {
	if u, ok := h.randoms[req.Random]; ok {
		switch {
		case u.request == req.RequestID:
			return u.first, nil
		case now.Before(u.first.Accepted.Add(limits.MsgRandomWindow)):
			return u.first, crier.Errorf(crier.CodePushRepeated, "MsgRandom %d was used before, by TaskId %s", req.Random, u.first.Task)
		}
	}
	if err := h.check(req, limits, now); err != nil {
		return nil, err
	}
	h.seq, h.last, h.day, h.today = h.seq+1, now, dayOf(now), h.countOf(now)+1
	c := &crier.Campaign{
		App: req.App, Task: crier.NewTaskID(req.App, now, req.Random, h.seq), Seq: h.seq, Random: req.Random,
		Message: req.Message, Condition: req.Condition, LifeTime: req.LifeTime, Accepted: now,
	}
	h.tasks[c.Seq] = &task{c, crier.Report{Task: c.Task}}
	h.randoms[req.Random] = used{req.RequestID, c}
	return c, nil
}

// check refuses what the limits don't allow.
func (h *home) check(req *crier.PushRequest, limits *crier.Limits, now time.Time) error {
	if h.seq > 0 && now.Sub(h.last) < limits.PushInterval {
		return crier.Errorf(crier.CodePushTooSoon, "the last push was %s ago", now.Sub(h.last))
	}
	if limits.PushesPerDay > 0 && h.countOf(now) >= limits.PushesPerDay {
		return crier.Errorf(crier.CodePushQuota, "%d pushes were sent today", h.today)
	}
	kept := 0
	for _, t := range h.tasks {
		if t.campaign.Kept() && t.campaign.Expires().After(now) {
			kept++
		}
	}
	if req.LifeTime > 0 && limits.KeptPushes > 0 && kept >= limits.KeptPushes {
		return crier.Errorf(crier.CodePushQuota, "%d pushes are kept", kept)
	}
	return nil
}

// dayOf returns the calendar day of the daily quota, in UTC+8.
func dayOf(t time.Time) int64 { return (t.Unix() + 8*60*60) / (24 * 60 * 60) }

// countOf returns how many pushes the day of now has had.
func (h *home) countOf(now time.Time) int {
	if h.day != dayOf(now) {
		return 0
	}
	return h.today
}

// RecordProgress is actors.Replica's.
func (r *Replica) RecordProgress(ctx context.Context, app crier.AppID, report crier.Report) error {
	return r.command(ctx, "RecordProgress", func() error {
		t, err := r.app(app).home.task(app, report.Task)
		if err == nil && t.report.Status != crier.StatusDone {
			t.report = report
		}
		return err
	})
}

// Reports is actors.Replica's.
func (r *Replica) Reports(app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reports := make([]crier.Report, len(tasks))
	for i, id := range tasks {
		t, err := r.app(app).home.task(app, id)
		if err != nil {
			return nil, err
		}
		reports[i] = t.report
	}
	return reports, nil
}

func (h *home) task(app crier.AppID, id crier.TaskID) (*task, error) {
	of, seq, ok := id.Parse()
	if t := h.tasks[seq]; ok && of == app && t != nil && t.campaign.Task == id {
		return t, nil
	}
	return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(id)))
}

// Settled is actors.Replica's.
func (r *Replica) Settled(app crier.AppID) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var settled uint64
	for seq := settled + 1; ; seq++ {
		if t := r.app(app).home.tasks[seq]; t == nil || t.report.Status != crier.StatusDone {
			return seq - 1
		}
	}
}

// Unfinished is actors.Replica's.
func (r *Replica) Unfinished() (open []*crier.Campaign, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.apps {
		for _, t := range a.home.tasks {
			if t.report.Status != crier.StatusDone {
				open = append(open, t.campaign)
			}
		}
	}
	slices.SortFunc(open, func(a, b *crier.Campaign) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Seq, b.Seq))
	})
	return open, nil
}
