package persistence

import (
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// sendingsMost bounds what a partition records of a campaign's way over connections, acknowledgements included. What comes later is
// counted as missed.
const sendingsMost = 40_000

// recordSendings stores what went over connections, a record a campaign.
func (m *Machine) recordSendings(c *logv1.RecordSendings) any {
	for _, s := range c.GetCampaigns() {
		app, n, missed := crier.AppID(s.GetApp()), uint64(0), s.GetMissed()
		for _, g := range s.GetGroups() {
			n += uint64(len(g.GetOrdinals()))
		}
		m.count(app, s.GetSeq(), func(f *logv1.Funnel) {
			if f.GetSendings()+n > sendingsMost {
				f.SendingsMissed += missed + n
				return
			}
			f.SendingsMissed += missed
			if n > 0 {
				m.putProto(m.keys.record(kindSendings, app, s.GetSeq(), f.GetSendingRecords()), &logv1.Sendings{Groups: s.GetGroups()})
				f.SendingRecords++
				f.Sendings += n
			}
		})
	}
	return nil
}

// sendingsOf returns what went over the connections of an account, in the order of time.
func (m *Machine) sendingsOf(app crier.AppID, seq uint64, ordinal uint32) ([]crier.Sending, error) {
	keys, err := m.under(m.keys.seq(kindSendings, app, seq))
	if err != nil {
		return nil, internal(err)
	}
	var records []crier.SendingRecord
	for _, k := range keys {
		p := new(logv1.Sendings)
		if err := m.getProto(k, p); err != nil {
			return nil, internal(err)
		}
		for _, g := range p.GetGroups() {
			records = appendRecords(records, g, ordinal)
		}
	}
	return toSendings(records), nil
}

// toSendings returns the messages of one account, in the order of time, each with its acknowledgement. A session gets a message once, so a
// record that is there twice, since the first time was not known to have succeeded, is one.
func toSendings(records []crier.SendingRecord) (sendings []crier.Sending) {
	slices.SortStableFunc(records, func(a, b crier.SendingRecord) int { return a.Time.Compare(b.Time) })
	at := make(map[crier.SessionID]int)
	for _, r := range records {
		if _, again := at[r.Session]; !r.Acknowledged && !again {
			at[r.Session] = len(sendings)
			sendings = append(sendings, crier.Sending{Time: r.Time, Session: r.Session, Place: r.Place, Mailbox: r.Mailbox})
		}
	}
	for _, r := range records {
		if i, ok := at[r.Session]; ok && r.Acknowledged && sendings[i].Acked.IsZero() {
			sendings[i].Acked = r.Time
		}
	}
	return sendings
}

// groupSendings brings records into groups, in their order.
func groupSendings(records iter.Seq[crier.SendingRecord], count int) (groups []*logv1.SendingGroup) {
	type kind struct {
		place                 crier.Place
		mailbox, acknowledged bool
	}
	first := int64(math.MaxInt64)
	for r := range records {
		first = min(first, r.Time.UnixMilli())
	}
	of := make(map[kind]*logv1.SendingGroup)
	var last kind // most are as the one before
	var g *logv1.SendingGroup
	for r := range records {
		if k := (kind{r.Place, r.Mailbox, r.Acknowledged}); g == nil || k != last {
			g, last = of[k], k
		}
		if g == nil {
			g = &logv1.SendingGroup{
				Node: r.Node, Platform: string(r.Platform), State: string(r.State), Mailbox: r.Mailbox, Acknowledged: r.Acknowledged, TimeMs: first,
			}
			if len(groups) == 0 { // most are in it
				g.Ordinals, g.AfterMs, g.Sessions = make([]uint32, 0, count), make([]uint32, 0, count), make([]string, 0, count)
			}
			of[last], groups = g, append(groups, g)
		}
		g.Ordinals = append(g.Ordinals, r.Ordinal)
		g.AfterMs = append(g.AfterMs, uint32(r.Time.UnixMilli()-first))
		g.Sessions = append(g.Sessions, string(r.Session))
	}
	return groups
}

// appendRecords appends what a group has of one account.
func appendRecords(records []crier.SendingRecord, g *logv1.SendingGroup, ordinal uint32) []crier.SendingRecord {
	for i, o := range g.GetOrdinals() {
		if o == ordinal && i < len(g.GetAfterMs()) && i < len(g.GetSessions()) {
			records = append(records, crier.SendingRecord{
				Ordinal: ordinal, Time: time.UnixMilli(g.GetTimeMs() + int64(g.GetAfterMs()[i])).UTC(), Session: crier.SessionID(g.GetSessions()[i]),
				Place:   crier.Place{Node: g.GetNode(), Platform: crier.Platform(g.GetPlatform()), State: crier.PresenceState(g.GetState())},
				Mailbox: g.GetMailbox(), Acknowledged: g.GetAcknowledged(),
			})
		}
	}
	return records
}

// RecordSendings is actors.Replica's.
func (r *Replica) RecordSendings(ctx context.Context, campaigns []crier.CampaignSendings) error {
	c := new(logv1.RecordSendings)
	for _, s := range campaigns {
		p := &logv1.CampaignSendings{App: uint32(s.App), Seq: s.Seq, Missed: s.Missed}
		if s.Count > 0 {
			p.Groups = groupSendings(s.Records, s.Count)
		}
		c.Campaigns = append(c.Campaigns, p)
	}
	_, err := r.propose(ctx, &logv1.Command{Body: &logv1.Command_RecordSendings{RecordSendings: c}})
	return err
}
