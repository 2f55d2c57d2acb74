package actors

import (
	"context"
	"errors"
	"time"

	"github.com/crier-im/crier"
)

// RegisterDevice registers a device for an account, as an operator does: no kick forbids it. Errors carry CodeBadParameter for what
// the device is, CodeUnknownAccount, or CodeTimeout.
func (s *Service) RegisterDevice(ctx context.Context, app *crier.App, user crier.UserID, d crier.Device) (crier.Device, error) {
	d, err := s.vendors.CheckDevice(app, d)
	if err != nil {
		return d, err
	}
	return d, s.register(ctx, app, user, d, time.Time{}, nil)
}

// register registers a device that was checked for an account, in place of others. A token that another account has leaves that one first: its
// partition knows the owner. Each step can be repeated, so that a registration that broke off is mended by the next. A login tells when its UserSig was
// made: a kick may come before the last step, and then the device is refused with CodeSigRevoked. The last step is all or nothing.
func (s *Service) register(ctx context.Context, app *crier.App, user crier.UserID, d crier.Device, sigTime time.Time, others []crier.Device) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	former, err := s.claim(ctx, claimDevice{app.ID, d.Vendor, d.Token, user, nil})
	if err != nil {
		return err
	}
	for _, other := range former {
		if err := s.RemoveDevice(ctx, app.ID, other, d.Vendor, d.Token); err != nil && !errors.Is(err, crier.CodeUnknownAccount) {
			return err
		}
	}
	if len(former) > 0 {
		if _, err := s.claim(ctx, claimDevice{app.ID, d.Vendor, d.Token, user, former}); err != nil {
			return err
		}
	}
	return s.ChangeAccounts(ctx, app.ID, append(removals(user, others), crier.Change{
		Op: crier.OpRegisterDevice, User: user, Device: &d, MaxDevices: app.Limits.DevicesPerUser, SigTime: sigTime,
	}))
}

// claim asks the partition that a token belongs to for its former owners.
func (s *Service) claim(ctx context.Context, m claimDevice) (former []crier.UserID, err error) {
	p := crier.PartitionOf(m.app, crier.UserID(string(m.vendor)+"\x00"+m.token), s.dir.Partitions())
	answer, err := s.dir.Request(ctx, crier.KindPartition, p.String(), m)
	if err != nil {
		return nil, err
	}
	former, _ = answer.([]crier.UserID)
	return former, nil
}

// RemoveDevice removes a device from an account; one that is not there is fine.
func (s *Service) RemoveDevice(ctx context.Context, app crier.AppID, user crier.UserID, vendor crier.Vendor, token string) error {
	return s.removeDevices(ctx, app, user, []crier.Device{{Vendor: vendor, Token: token}})
}

// removeDevices removes devices from an account, all or nothing, whatever is there of them.
func (s *Service) removeDevices(ctx context.Context, app crier.AppID, user crier.UserID, devices []crier.Device) error {
	return s.ChangeAccounts(ctx, app, removals(user, devices))
}

func removals(user crier.UserID, devices []crier.Device) (changes []crier.Change) {
	for _, d := range devices {
		changes = append(changes, crier.Change{Op: crier.OpRemoveDevice, User: user, Device: &crier.Device{Vendor: d.Vendor, Token: d.Token}})
	}
	return changes
}

// Funnel returns what became of the accounts that a campaign matched; CodeUnknownTask where it is unknown or too old.
func (s *Service) Funnel(ctx context.Context, app crier.AppID, task crier.TaskID) (*crier.Funnel, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	of, seq, ok := task.Parse()
	if !ok || of != app {
		return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(task)))
	}
	messages := make(map[crier.PartitionID]any)
	for p := range s.dir.Partitions() {
		messages[crier.PartitionID(p)] = readFunnel{app, seq}
	}
	total, known := new(crier.Funnel), false
	var failed error
	s.dir.RequestEach(ctx, messages, func(_ crier.PartitionID, answer any, err error) {
		switch f, ok := answer.(*crier.Funnel); {
		case err != nil:
			failed = err
		case ok && f != nil:
			total.Add(f)
			known = true
		}
	})
	switch {
	case failed != nil:
		return nil, failed
	case !known:
		return nil, crier.Errorf(crier.CodeUnknownTask, "what became of TaskId %s is not known: it has not begun, or is too old", crier.Quote(string(task)))
	}
	return total, nil
}

// Explain returns what became of a campaign for one account.
func (s *Service) Explain(ctx context.Context, app crier.AppID, task crier.TaskID, user crier.UserID) (*crier.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.dir.Request(ctx, crier.KindCampaign, string(task), readCampaign{app, task})
	if err != nil {
		return nil, err
	}
	campaign, ok := answer.(*crier.Campaign)
	if !ok {
		return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(task)))
	}
	answer, err = s.dir.Request(ctx, crier.KindUser, crier.UserIdentity(app, user), explain{campaign, user})
	if err != nil {
		return nil, err
	}
	e, _ := answer.(*crier.Explanation)
	return e, nil
}
