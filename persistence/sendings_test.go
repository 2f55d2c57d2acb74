package persistence

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
)

// What went over connections is told for each account, in the order of time, with its acknowledgement, whatever came when; and it ends
// with the explanation.
func TestSendings(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	mustChange(t, r, imports("a", "b")...)
	c := campaign(1, time.Hour, crier.Condition{}, l.now)
	mustStart(t, r, c)
	accounts, err := r.Accounts(testApp, []crier.UserID{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := accounts[0].Ordinal, accounts[1].Ordinal
	at := l.now.Truncate(time.Millisecond)
	front := crier.Place{Node: "n1", Platform: crier.Android, State: crier.Online}
	back := crier.Place{Node: "n2", Platform: crier.IPhone, State: crier.PushOnline}
	later := crier.SendingRecord{Ordinal: a, Time: at.Add(9 * time.Second), Session: "BBBBBB", Place: back, Mailbox: true}
	first := crier.SendingRecord{Ordinal: a, Time: at.Add(5 * time.Millisecond), Session: "AAAAAA", Place: front}
	other := crier.SendingRecord{Ordinal: b, Time: at.Add(7 * time.Millisecond), Session: "CCCCCC", Place: front}
	acked := crier.SendingRecord{Ordinal: a, Time: at.Add(12 * time.Millisecond), Session: "AAAAAA", Place: front, Acknowledged: true}
	nobody := crier.SendingRecord{Ordinal: b, Time: at, Session: "DDDDDD", Place: front, Acknowledged: true} // of a message that is not known
	for _, records := range [][]crier.SendingRecord{{later}, {other, acked, first, nobody}, {first}} {
		err := r.RecordSendings(t.Context(), []crier.CampaignSendings{recorded(1, records), recorded(2, records)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for user, want := range map[crier.UserID][]crier.Sending{
		"a": {
			{Time: first.Time, Session: "AAAAAA", Place: front, Acked: acked.Time},
			{Time: later.Time, Session: "BBBBBB", Place: back, Mailbox: true},
		},
		"b": {{Time: other.Time, Session: "CCCCCC", Place: front}},
	} {
		e, err := r.Explain(c, user, nil)
		if err != nil || !reflect.DeepEqual(e.Sendings, want) || e.SendingsMissing {
			t.Errorf("%s: %v\n got %+v\nwant %+v", user, err, e.Sendings, want)
		}
	}
	l.now = l.now.Add(25 * time.Hour)
	for range 3 {
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := r.keysOf(kindSendings); err != nil || len(keys) != 0 {
		t.Errorf("left: %q, %v", keys, err)
	}
}

// recorded is what is to be recorded of a campaign.
func recorded(seq uint64, records []crier.SendingRecord) crier.CampaignSendings {
	return crier.CampaignSendings{App: testApp, Seq: seq, Records: slices.Values(records), Count: len(records)}
}

// A partition records a bounded number of a campaign, and then says that some are missing.
func TestSendingsAreBounded(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	mustChange(t, r, imports("a")...)
	c := campaign(1, time.Hour, crier.Condition{}, l.now)
	mustStart(t, r, c)
	record := func(n int, missed uint64) (size int) {
		t.Helper()
		var records []crier.SendingRecord
		for i := range n {
			records = append(records, crier.SendingRecord{
				Ordinal: uint32(100_000 + i), Time: l.now.Add(time.Duration(i%1000) * time.Millisecond), Session: "ABCDEF",
				Place: crier.Place{Node: "n1", Platform: crier.Android, State: crier.Online}, Acknowledged: i%2 == 1,
			})
		}
		s := recorded(1, records)
		s.Missed = missed
		if err := r.RecordSendings(t.Context(), []crier.CampaignSendings{s}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return 0
		}
		return len(marshal(&logv1.Sendings{Groups: groupSendings(s.Records, s.Count)}))
	}
	missing := func() bool {
		t.Helper()
		e, err := r.Explain(c, "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		return e.SendingsMissing
	}
	if size := record(sendingsMost/2, 0); size > sendingsMost/2*14 {
		t.Errorf("%d bytes for %d records", size, sendingsMost/2)
	}
	record(sendingsMost/2, 0)
	if missing() {
		t.Error("at the bound something is missing")
	}
	record(1, 0)
	if !missing() {
		t.Error("over the bound nothing is missing")
	}
	keys, err := r.keysOf(kindSendings)
	if err != nil || len(keys) != 2 {
		t.Errorf("%d records, %v", len(keys), err)
	}
}

// What the leader could not record counts as missing.
func TestMissedSendingsAreTold(t *testing.T) {
	t.Parallel()
	_, r, l := openReplica(t)
	mustChange(t, r, imports("a")...)
	c := campaign(1, time.Hour, crier.Condition{}, l.now)
	mustStart(t, r, c)
	if err := r.RecordSendings(t.Context(), []crier.CampaignSendings{{App: testApp, Seq: 1, Missed: 1}}); err != nil {
		t.Fatal(err)
	}
	if e, err := r.Explain(c, "a", nil); err != nil || !e.SendingsMissing {
		t.Errorf("%+v, %v", e, err)
	}
}
