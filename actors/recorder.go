package actors

import (
	"sync"
	"time"

	"github.com/crier-im/crier"
)

const (
	// recordEvery is how long what goes over connections gathers before it is recorded.
	recordEvery = time.Second
	// recordsAtOnce is how many records make a command at once.
	recordsAtOnce = 10_000
	// recordsMost bounds those that wait while the log can't be written, 24 bytes each. More are counted as missed.
	recordsMost = 20_000
)

// recorder gathers what goes over the connections of a partition's accounts, for explanations. The partition's actor and its
// users share it: a message for each delivery would cost as much as the delivery does.
type recorder struct {
	wake func(after time.Duration) // has the partition record what has gathered

	mu      sync.Mutex
	pending map[campaignKey]*sendings
	size    int // records in them
}

// campaignKey names a campaign.
type campaignKey struct {
	app crier.AppID
	seq uint64
}

// sendings are those of one campaign.
type sendings struct {
	records []sending
	missed  uint64
}

// sending is a crier.SendingRecord before it is written.
type sending struct {
	at      int64 // Unix milliseconds
	login   *crier.Login
	ordinal uint32

	background, mailbox, acknowledged bool
}

// add takes one record.
func (r *recorder) add(key campaignKey, record sending) {
	r.mu.Lock()
	if s := r.of(key); r.size < recordsMost {
		s.records = append(s.records, record)
		r.size++
	} else {
		s.missed++
	}
	size := r.size
	r.mu.Unlock()
	switch size {
	case 1:
		r.wake(recordEvery)
	case recordsAtOnce:
		r.wake(0)
	}
}

// of returns what is pending of a campaign. The caller holds mu.
func (r *recorder) of(key campaignKey) *sendings {
	s := r.pending[key]
	if s == nil {
		if r.pending == nil {
			r.pending = make(map[campaignKey]*sendings)
		}
		s = new(sendings)
		r.pending[key] = s
	}
	return s
}

// take returns what has gathered, and begins anew.
func (r *recorder) take() map[campaignKey]*sendings {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.pending
	r.pending, r.size = nil, 0
	return taken
}

// back takes what could not be recorded, to be tried again.
func (r *recorder) back(taken map[campaignKey]*sendings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, s := range taken {
		n := min(len(s.records), recordsMost-r.size)
		p := r.of(key)
		p.records = append(p.records, s.records[:n]...)
		p.missed += s.missed + uint64(len(s.records)-n)
		r.size += n
	}
	r.wake(recordEvery)
}

// toRecord returns what is to be recorded.
func toRecord(taken map[campaignKey]*sendings) (campaigns []crier.CampaignSendings) {
	for key, s := range taken {
		campaigns = append(campaigns, crier.CampaignSendings{App: key.app, Seq: key.seq, Missed: s.missed, Records: s.all, Count: len(s.records)})
	}
	return campaigns
}

// all yields the records as they are written.
func (s *sendings) all(yield func(crier.SendingRecord) bool) {
	for _, r := range s.records {
		place := crier.Place{Node: r.login.Node, Platform: r.login.Platform, State: stateOf(r.background)}
		record := crier.SendingRecord{
			Ordinal: r.ordinal, Time: time.UnixMilli(r.at).UTC(), Session: r.login.Session.Short(), Place: place,
			Mailbox: r.mailbox, Acknowledged: r.acknowledged,
		}
		if !yield(record) {
			return
		}
	}
}
