package persistence

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// Log is where commands go: the log of a group on its leader.
type Log interface {
	// Apply blocks until the command is committed and applied, and returns what the state machine
	// answered; an answer that is an error comes back as the error.
	Apply(ctx context.Context, command []byte) (any, error)
	// Verify blocks until a majority has confirmed, after the call began, that this node leads.
	Verify(ctx context.Context) error
	// Alone reports whether nobody but this node can lead.
	Alone() bool
}

// commandBytes bounds a command of several calls: raft appends all commands that wait at a time, up to 64, and its log takes them
// in one transaction (15 % of memTable) or not at all.
const commandBytes = 1 << 20

// Replica is a partition as its leader's actors use it. It implements
// actors.Replica.
type Replica struct {
	m   *Machine
	log Log
}

// Replica returns the replica of a partition whose commands go to log.
func (s *Store) Replica(p crier.PartitionID, log Log) *Replica {
	return &Replica{m: s.machines[p], log: log}
}

// propose sends a command to the log, unless the disk is full.
func propose(ctx context.Context, s *Store, log Log, cmd []byte) (any, error) {
	if err := s.Writable(); err != nil {
		return nil, err
	}
	result, err := log.Apply(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if err, ok := result.(error); ok {
		return nil, err
	}
	return result, nil
}

// stamp returns a command as it goes to the log.
func stamp(cmd *logv1.Command) []byte {
	cmd.Version, cmd.TimeMs = commandVersion, time.Now().UnixMilli()
	return marshal(cmd)
}

func (r *Replica) propose(ctx context.Context, cmd *logv1.Command) (any, error) {
	return propose(ctx, r.m.store, r.log, stamp(cmd))
}

// Verify is actors.Replica's.
func (r *Replica) Verify(ctx context.Context) error { return r.log.Verify(ctx) }

// Alone is actors.Replica's.
func (r *Replica) Alone() bool { return r.log.Alone() }

// ChangeAccounts applies the changes of one call.
func (r *Replica) ChangeAccounts(ctx context.Context, app crier.AppID, changes []crier.Change) error {
	return r.ChangeAccountsBatch(ctx, []crier.AccountChanges{{App: app, Changes: changes}})[0]
}

// ChangeAccountsBatch is actors.Replica's. Calls that are over commandBytes together go as several commands.
func (r *Replica) ChangeAccountsBatch(ctx context.Context, calls []crier.AccountChanges) []error {
	cmd := wire.ChangeCommand{Version: commandVersion, TimeMs: time.Now().UnixMilli(), Calls: calls}
	command := cmd.Append(nil)
	if half := len(calls) / 2; half > 0 && len(command) > commandBytes {
		return append(r.ChangeAccountsBatch(ctx, calls[:half]), r.ChangeAccountsBatch(ctx, calls[half:])...)
	}
	result, err := propose(ctx, r.m.store, r.log, command)
	errs, ok := result.([]error)
	if err == nil && (!ok || len(errs) != len(calls)) {
		err = internal(fmt.Errorf("the log answered with a %T", result))
	}
	if err != nil {
		errs = make([]error, len(calls))
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// CheckChanges is actors.Replica's.
func (r *Replica) CheckChanges(app crier.AppID, changes []crier.Change) (at int, refused, err error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	if at, refused, err = r.m.check(app, changes, time.Now()); err != nil {
		return 0, nil, internal(err)
	}
	return at, refused, nil
}

// Accounts is actors.Replica's.
func (r *Replica) Accounts(app crier.AppID, users []crier.UserID) ([]*crier.Account, error) {
	accounts := make([]*crier.Account, len(users))
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	for i, user := range users {
		a, err := r.m.account(app, user)
		if err != nil {
			return nil, internal(err)
		}
		accounts[i] = a
	}
	return accounts, nil
}

// StartCampaign is actors.Replica's.
func (r *Replica) StartCampaign(ctx context.Context, c *crier.Campaign, settled uint64) (crier.Audience, error) {
	cmd := &logv1.StartCampaign{Campaign: wire.FromCampaign(c), Settled: settled}
	result, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_StartCampaign{StartCampaign: cmd}})
	if err != nil {
		return nil, err
	}
	return answer[*Audience](result)
}

// answer returns what a state machine answered as what it must be.
func answer[T any](result any) (T, error) {
	t, ok := result.(T)
	if !ok {
		return t, internal(fmt.Errorf("the log answered with a %T", result))
	}
	return t, nil
}

// LastCampaign is actors.Replica's.
func (r *Replica) LastCampaign(app crier.AppID) uint64 {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	if state := r.m.apps[app]; state != nil {
		return state.seq
	}
	return 0
}

// Acknowledge is actors.Replica's.
func (r *Replica) Acknowledge(ctx context.Context, app crier.AppID, acks []crier.Ack) error {
	c := &logv1.Acknowledge{App: uint32(app)}
	for _, a := range acks {
		c.Seqs, c.Ordinals, c.Later = append(c.Seqs, a.Seq), append(c.Ordinals, a.Ordinal), append(c.Later, a.Later)
	}
	_, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_Acknowledge{Acknowledge: c}})
	return err
}

// Mailbox is actors.Replica's.
func (r *Replica) Mailbox(app crier.AppID, ordinal uint32, after uint64, limit int) ([]*crier.Campaign, error) {
	var campaigns []*crier.Campaign
	for {
		wanted := limit - len(campaigns)
		r.m.mu.RLock()
		seqs := r.m.waiting(app, ordinal, after, wanted)
		r.m.mu.RUnlock()
		for _, seq := range seqs {
			c, err := r.m.campaign(r.m.keys.seq(kindMessage, app, seq), r.m.read)
			if err != nil {
				return nil, internal(err)
			}
			if after = seq; c != nil { // else it has just ended
				campaigns = append(campaigns, c)
			}
		}
		if len(seqs) < wanted || len(campaigns) == limit {
			return campaigns, nil
		}
	}
}

// waiting returns up to limit campaigns over after that the ordinal has coming. The caller holds mu.
func (m *Machine) waiting(app crier.AppID, ordinal uint32, after uint64, limit int) (seqs []uint64) {
	state := m.apps[app]
	if state == nil {
		return nil
	}
	from, _ := state.find(after + 1)
	for _, x := range state.mail[from:] {
		if len(seqs) == limit {
			break
		}
		if x.remaining.Contains(ordinal) {
			seqs = append(seqs, x.seq)
		}
	}
	return seqs
}

// CreateCampaign is actors.Replica's.
func (r *Replica) CreateCampaign(ctx context.Context, req *crier.PushRequest, limits *crier.Limits) (*crier.Campaign, error) {
	push := crier.Campaign{App: req.App, Random: req.Random, Message: req.Message, Condition: req.Condition, LifeTime: req.LifeTime}
	cmd := &logv1.CreateCampaign{
		Push: wire.FromCampaign(&push), RequestId: req.RequestID,
		IntervalMs: limits.PushInterval.Milliseconds(), PerDay: uint32(limits.PushesPerDay),
		RandomWindowMs: limits.MsgRandomWindow.Milliseconds(), Kept: uint32(limits.KeptPushes),
	}
	result, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_CreateCampaign{CreateCampaign: cmd}})
	if err != nil {
		return nil, err
	}
	if again, ok := result.(*repeatedPush); ok {
		return again.first, crier.Errorf(crier.CodePushRepeated, "MsgRandom %d was used before, by TaskId %s", req.Random, again.first.Task)
	}
	return answer[*crier.Campaign](result)
}

// RecordProgress is actors.Replica's.
func (r *Replica) RecordProgress(ctx context.Context, app crier.AppID, report crier.Report) error {
	cmd := &logv1.RecordProgress{App: uint32(app), Report: wire.FromReport(&report)}
	_, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_RecordProgress{RecordProgress: cmd}})
	return err
}

// Reports is actors.Replica's.
func (r *Replica) Reports(app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error) {
	reports := make([]crier.Report, len(tasks))
	for i, task := range tasks {
		of, seq, ok := task.Parse()
		var p typesv1.Report
		if ok && of == app {
			key := r.m.keys.seq(kindReport, app, seq)
			v, err := r.m.read(key)
			if err == nil && v != nil {
				err = r.m.decode(key, v, &p)
			}
			if err != nil {
				return nil, internal(err)
			}
		}
		if p.GetTask() != string(task) || task == "" {
			return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(task)))
		}
		reports[i] = wire.ToReport(&p)
	}
	return reports, nil
}

// Campaign is actors.Replica's.
func (r *Replica) Campaign(app crier.AppID, task crier.TaskID) (*crier.Campaign, error) {
	of, seq, ok := task.Parse()
	if !ok || of != app {
		return nil, nil
	}
	c, err := r.m.task(app, seq, r.m.read)
	if err != nil {
		return nil, internal(err)
	}
	if c == nil || c.Task != task {
		return nil, nil
	}
	return c, nil
}

// Settled is actors.Replica's.
func (r *Replica) Settled(app crier.AppID) uint64 {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	if state := r.m.apps[app]; state != nil && len(state.open) > 0 {
		return state.open[0] - 1
	}
	return 0 // no campaign that asks is done
}

// Unfinished is actors.Replica's.
func (r *Replica) Unfinished() ([]*crier.Campaign, error) {
	type place struct {
		app crier.AppID
		seq uint64
	}
	var open []place
	r.m.mu.RLock()
	for app, state := range r.m.apps {
		for _, seq := range state.open {
			open = append(open, place{app, seq})
		}
	}
	r.m.mu.RUnlock()
	var campaigns []*crier.Campaign
	for _, p := range open {
		c, err := r.m.task(p.app, p.seq, r.m.read)
		if err != nil {
			return nil, internal(err)
		}
		if c != nil {
			campaigns = append(campaigns, c)
		}
	}
	return campaigns, nil
}

// NextExpiry is actors.Replica's.
func (r *Replica) NextExpiry() (next time.Time) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	if due, err := r.m.due(r.m.keys.due(math.MaxInt64, nil), 1); err == nil && len(due) > 0 {
		next = time.UnixMilli(int64(binary.BigEndian.Uint64(due[0][offApp:])))
	}
	return next
}

// Sweep is actors.Replica's.
func (r *Replica) Sweep(ctx context.Context) error {
	_, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_Sweep{Sweep: &logv1.Sweep{}}})
	return err
}

// errNoApp is what System answers for an app that is not there.
func errNoApp(id crier.AppID) error {
	return crier.Errorf(crier.CodeUnknownApp, "there is no app %d", id)
}
