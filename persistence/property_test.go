package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// drawChange draws a change of one of a few accounts, over so few tags and
// values that conditions match often and postings grow into bitmaps and shrink back.
func drawChange(t *rapid.T, users int) crier.Change {
	c := crier.Change{
		Op:   crier.ChangeOp(rapid.IntRange(int(crier.OpImport), int(crier.OpKick)).Draw(t, "op")),
		User: crier.UserID(fmt.Sprintf("u%d", rapid.IntRange(0, users-1).Draw(t, "user"))),
	}
	if c.Op == crier.OpDelete && rapid.IntRange(0, 3).Draw(t, "spare") > 0 {
		c.Op = crier.OpImport
	}
	switch c.Op {
	case crier.OpSetAttrs, crier.OpRemoveAttrs:
		c.Attrs[rapid.IntRange(0, 2).Draw(t, "slot")] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "value")
	case crier.OpAddTags, crier.OpRemoveTags:
		c.Tags = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 3).Draw(t, "tags")
	}
	return c
}

// What CheckChanges says of a call is what becomes of it, for accounts that exist or not, are in memory or not, and are large or small.
func TestCheckChangesTellsWhatBecomesOfACall(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	r := s.Replica(0, newTestLog(s.FSM(0)))
	const app, users = testApp, 6
	rapid.Check(t, func(t *rapid.T) {
		if rapid.Bool().Draw(t, "forget what is in memory") {
			s.machines[0].mu.Lock()
			s.machines[0].recent.Purge()
			s.machines[0].mu.Unlock()
		}
		call := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) crier.Change {
			c := drawChange(t, users)
			if c.Op == crier.OpAddTags {
				c.MaxTags = rapid.IntRange(0, 3).Draw(t, "most")
			}
			return c
		}), 1, 5).Draw(t, "call")
		at, refused, err := r.CheckChanges(app, call)
		failed := r.ChangeAccounts(context.Background(), app, call)
		if err != nil || fmt.Sprint(refused) != fmt.Sprint(failed) || at >= len(call) {
			t.Fatalf("%+v: %v, refused at %d with %v; it became %v", call, err, at, refused, failed)
		}
		if crier.AsError(refused) != nil && errors.Is(refused, crier.CodeUnknownAccount) && !strings.Contains(refused.Error(), crier.Quote(string(call[at].User))) {
			t.Fatalf("%+v: refused at %d with %v", call, at, refused)
		}
	})
}

// The size of an account after a change is never over what CheckChanges takes for it.
func TestRecordSize(t *testing.T) {
	t.Parallel()
	text := rapid.StringN(0, 40, 60)
	rapid.Check(t, func(t *rapid.T) {
		a := crier.Account{User: crier.UserID(text.Draw(t, "user")), Profile: crier.Profile{Nick: text.Draw(t, "nick")}, Tags: rapid.SliceOfN(rapid.StringN(1, 40, 60), 0, 20).Draw(t, "tags")}
		for range rapid.IntRange(0, 3).Draw(t, "devices") {
			a.Devices = append(a.Devices, crier.Device{Vendor: crier.FCM, Token: "t" + text.Draw(t, "token"), Platform: crier.Android, Registered: time.UnixMilli(1), LastSeen: time.UnixMilli(2)})
		}
		c := crier.Change{Op: crier.OpSetAttrs, User: a.User}
		for slot := range a.Attrs {
			a.Attrs[slot], c.Attrs[slot] = text.Draw(t, "was"), text.Draw(t, "is")
		}
		most := recordSize(wire.AppendAccount(nil, &a), &c)
		if _, err := c.Apply(&a, true, time.UnixMilli(3)); err != nil || a.Size() > most {
			t.Fatalf("%+v has %d bytes, taken for %d at most; %v", a, a.Size(), most, err)
		}
	})
}

func drawCondition(t *rapid.T) crier.Condition {
	tags := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "never"}), 0, 2, rapid.ID[string])
	term := rapid.Custom(func(t *rapid.T) crier.AttrTerm {
		return crier.AttrTerm{Slot: rapid.IntRange(0, 2).Draw(t, "slot"), Value: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "value")}
	})
	if rapid.Bool().Draw(t, "by attributes") {
		return crier.Condition{AttrsOr: rapid.SliceOfN(term, 0, 2).Draw(t, "or"), AttrsAnd: rapid.SliceOfN(term, 0, 2).Draw(t, "and")}
	}
	return crier.Condition{TagsOr: tags.Draw(t, "or"), TagsAnd: tags.Draw(t, "and"), TagsNot: tags.Draw(t, "not")}
}

// The audience index must agree with asking every account, after any changes,
// and after it was built anew from disk.
func TestIndexEqualsMatch(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	l := newTestLog(s.FSM(0))
	r := s.Replica(0, l)
	var apps atomic.Uint32
	const users = 80
	rapid.Check(t, func(t *rapid.T) {
		app := crier.AppID(1000 + apps.Add(1))
		var all []crier.Change
		for i := range users {
			all = append(all, crier.Change{Op: crier.OpImport, User: crier.UserID(fmt.Sprintf("u%d", i))},
				crier.Change{Op: crier.OpAddTags, User: crier.UserID(fmt.Sprintf("u%d", i)), Tags: []string{"a"}})
		}
		if err := r.ChangeAccounts(context.Background(), app, all); err != nil {
			t.Fatal(err)
		}
		calls := make([]crier.AccountChanges, rapid.IntRange(0, 60).Draw(t, "changes"))
		for i := range calls {
			calls[i] = crier.AccountChanges{App: app, Changes: []crier.Change{drawChange(t, users)}}
		}
		if len(calls) > 0 {
			r.ChangeAccountsBatch(context.Background(), calls) // some are refused: accounts that do not exist
		}
		names := make([]crier.UserID, users)
		for i := range names {
			names[i] = crier.UserID(fmt.Sprintf("u%d", i))
		}
		accounts, err := r.Accounts(app, names)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.machines[0].waitStored(l.index); err != nil {
			t.Fatal(err)
		}
		rebuilt := newMachine(s, 0)
		if err := rebuilt.load(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			cond := drawCondition(t)
			for which, m := range map[string]*Machine{"kept": s.machines[0], "rebuilt": rebuilt} {
				got := m.apps[app].index.evaluate(&cond)
				n := uint64(0)
				for _, a := range accounts {
					if a == nil {
						continue
					}
					want := cond.Match(a)
					if got.Contains(a.Ordinal) != want {
						t.Fatalf("%s index: %+v has %v for %+v, Match says %v", which, cond, !want, a, want)
					}
					if want {
						n++
					}
				}
				if got.GetCardinality() != n {
					t.Fatalf("%s index: %+v matches %d, %d accounts do", which, cond, got.GetCardinality(), n)
				}
			}
		}
	})
}

// randomLog draws a log of every kind of command, as a busy partition would have.
func randomLog(random *rand.Rand, n int) (entries []*raft.Log) {
	now, seq := time.UnixMilli(1700000000000).UTC(), uint64(0)
	add := func(cmd *logv1.Command) {
		now = now.Add(time.Duration(random.IntN(20_000)) * time.Millisecond)
		cmd.Version, cmd.TimeMs = commandVersion, now.UnixMilli()
		entries = append(entries, &raft.Log{Index: uint64(len(entries) + 1), Term: 1 + uint64(len(entries)/100), Type: raft.LogCommand, Data: marshal(cmd)})
	}
	var tasks []crier.TaskID
	recent := func() uint64 { return seq - min(seq, uint64(random.IntN(3))) }
	ordinal := func() uint32 { return uint32(random.IntN(60 + n/3)) }
	for i := range n {
		user := crier.UserID(fmt.Sprintf("u%d", random.IntN(50)))
		switch random.IntN(13) {
		case 10:
			add(&logv1.Command{Body: &logv1.Command_ClaimDevice{ClaimDevice: &logv1.ClaimDevice{App: uint32(testApp), Vendor: "apns", Token: fmt.Sprint(random.IntN(3)), User: string(user), Removed: []string{"u1"}}}})
		case 11:
			v := &logv1.VendorProgress{App: uint32(testApp), Seq: recent()}
			for range 60 {
				ordinal := ordinal()
				v.Done = append(v.Done, &logv1.VendorResult{Ordinal: ordinal, Reason: []string{"", "", "Unregistered", crier.ReasonNoDevice}[random.IntN(4)]})
				v.Attempts = append(v.Attempts, &logv1.Attempt{Ordinal: ordinal, TimeMs: now.UnixMilli(), Vendor: "apns", Outcome: "accepted"})
			}
			if random.IntN(2) == 0 {
				v.Taken, v.Attempts = []uint32{ordinal(), ordinal()}, nil
				v.Groups = groupAttempts([]crier.Attempt{{Ordinal: v.GetTaken()[0], Time: now, Vendor: crier.APNs, Outcome: "accepted"}})
			}
			gone := crier.Change{Op: crier.OpRemoveDevice, User: user, Device: &crier.Device{Vendor: crier.APNs, Token: "1"}}
			v.Gone = []*typesv1.Change{wire.FromChange(&gone)}
			add(&logv1.Command{Body: &logv1.Command_VendorProgress{VendorProgress: v}})
		case 12:
			online, err := roaring.BitmapOf(ordinal(), ordinal()).ToBytes()
			if err != nil {
				panic(err)
			}
			c := &logv1.RecordOnline{App: uint32(testApp), Seq: seq, Online: online}
			if random.IntN(2) == 0 {
				c.Online, c.Places = nil, []*logv1.Place{{Node: "n", State: "Online", Ordinals: online}, {Node: "m", State: "Online", Ordinals: online}}
			}
			add(&logv1.Command{Body: &logv1.Command_RecordOnline{RecordOnline: c}})
			add(&logv1.Command{Body: &logv1.Command_RecordSendings{RecordSendings: &logv1.RecordSendings{Campaigns: []*logv1.CampaignSendings{
				{App: uint32(testApp), Seq: seq, Missed: uint64(random.IntN(2)), Groups: groupSendings(slices.Values([]crier.SendingRecord{
					{Ordinal: ordinal(), Time: now, Session: "ABCDEF"}, {Ordinal: ordinal(), Time: now, Session: "ABCDEF", Acknowledged: true},
				}), 2)},
				{App: uint32(testApp), Seq: seq + 1, Missed: 1},
			}}}})
		case 0, 1, 2, 3:
			b := new(logv1.ChangeBatch)
			for range 1 + random.IntN(3) {
				c := &logv1.ChangeAccounts{App: uint32(testApp)}
				if random.IntN(4) > 0 { // some of them again
					number := uint64(i + random.IntN(20))
					c.Id = &typesv1.CommandID{Origin: uint64(1 + random.IntN(3)), Number: number, Oldest: number - uint64(random.IntN(15))}
				}
				for range 1 + random.IntN(4) {
					change := crier.Change{Op: crier.OpImport + crier.ChangeOp(random.IntN(12)), User: user, Tags: []string{fmt.Sprint(random.IntN(4))}, MaxTags: 3, MaxDevices: 2}
					change.Device = &crier.Device{Vendor: crier.APNs, Token: fmt.Sprint(random.IntN(4))}
					change.Attrs[random.IntN(3)] = fmt.Sprint(random.IntN(3))
					if random.IntN(2) == 0 {
						change.Op = crier.OpImport
					}
					c.Changes = append(c.Changes, wire.FromChange(&change))
				}
				b.Calls = append(b.Calls, c)
			}
			add(&logv1.Command{Body: &logv1.Command_ChangeBatch{ChangeBatch: b}})
		case 4, 5:
			seq++
			c := campaign(seq, time.Duration(random.IntN(3))*time.Minute, crier.Condition{TagsOr: []string{fmt.Sprint(random.IntN(4))}}, now)
			if random.IntN(2) == 0 {
				c.Condition = crier.Condition{}
			}
			add(&logv1.Command{Body: &logv1.Command_StartCampaign{StartCampaign: &logv1.StartCampaign{Campaign: wire.FromCampaign(c)}}})
		case 6:
			a := &logv1.Acknowledge{App: uint32(testApp)}
			for range 30 {
				a.Seqs, a.Ordinals = append(a.Seqs, recent()), append(a.Ordinals, ordinal())
				a.Later = append(a.Later, random.IntN(2) == 0)
			}
			add(&logv1.Command{Body: &logv1.Command_Acknowledge{Acknowledge: a}})
		case 7:
			p := &crier.Campaign{App: testApp, Random: uint32(random.IntN(20)), LifeTime: time.Duration(random.IntN(2)) * time.Minute}
			tasks = append(tasks, crier.NewTaskID(testApp, now, p.Random, uint64(len(tasks)+1)))
			add(&logv1.Command{Body: &logv1.Command_CreateCampaign{CreateCampaign: &logv1.CreateCampaign{Push: wire.FromCampaign(p), RequestId: fmt.Sprint(random.IntN(3)), RandomWindowMs: 60_000, PerDay: 30, Kept: 5}}})
		case 8:
			if len(tasks) > 0 {
				r := crier.Report{Task: tasks[random.IntN(len(tasks))], Status: crier.Status(random.IntN(3)), Total: 5}
				add(&logv1.Command{Body: &logv1.Command_RecordProgress{RecordProgress: &logv1.RecordProgress{App: uint32(testApp), Report: wire.FromReport(&r)}}})
			}
		default:
			add(&logv1.Command{Body: &logv1.Command_Sweep{Sweep: &logv1.Sweep{}}})
		}
	}
	// At the end something is kept for somebody, whatever was drawn.
	last := crier.Change{Op: crier.OpImport, User: "last"}
	add(&logv1.Command{Body: &logv1.Command_ChangeBatch{ChangeBatch: &logv1.ChangeBatch{Calls: []*logv1.ChangeAccounts{{App: uint32(testApp), Changes: []*typesv1.Change{wire.FromChange(&last)}}}}}})
	add(&logv1.Command{Body: &logv1.Command_StartCampaign{StartCampaign: &logv1.StartCampaign{Campaign: wire.FromCampaign(campaign(seq+1, time.Hour, crier.Condition{}, now))}}})
	return entries
}

// Replicas that are fed the same log, in whatever batches, are equal byte for
// byte; what they have already is not applied again, and a restart changes nothing.
func TestReplicasAreEqual(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	entries := randomLog(random, 400)
	one, dir := openStore(t, t.TempDir()), t.TempDir()
	other := openStore(t, dir)
	for _, e := range entries {
		one.machines[0].Apply(e)
	}
	for rest := entries; len(rest) > 0; {
		n := min(1+random.IntN(40), len(rest))
		other.machines[0].ApplyBatch(rest[:n])
		rest = rest[n:]
	}
	want := snapshot(t, one, 0)
	if got := snapshot(t, other, 0); !bytes.Equal(got, want) {
		t.Fatalf("the replicas differ: %d and %d bytes", len(want), len(got))
	}
	if len(one.machines[0].apps[testApp].mail) == 0 {
		t.Error("no campaign is kept at the end: the log tests little")
	}
	one.machines[0].ApplyBatch(entries[len(entries)/2:])
	if got := snapshot(t, one, 0); !bytes.Equal(got, want) {
		t.Error("entries that were applied before changed the state")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	again := openStore(t, dir)
	if got := snapshot(t, again, 0); !bytes.Equal(got, want) {
		t.Error("the restart changed the state")
	}
	sameOrigin := func(x, y *origin) bool {
		return x.used == y.used && x.oldest == y.oldest && slices.Equal(x.done, y.done)
	}
	if x, y := one.machines[0].origins, again.machines[0].origins; len(x) != 3 || !maps.EqualFunc(x, y, sameOrigin) {
		t.Errorf("%d origins, and after the restart others", len(x))
	}
	a, b := one.machines[0].apps[testApp], again.machines[0].apps[testApp]
	if !a.index.all.Equals(b.index.all) || a.next != b.next || a.seq != b.seq || !slices.Equal(a.open, b.open) || !slices.Equal(a.kept, b.kept) || len(a.mail) != len(b.mail) {
		t.Error("the memory is not what it was before the restart")
	}
	for i := range a.mail {
		if x, y := a.mail[i], b.mail[i]; x.seq != y.seq || x.expires != y.expires || !x.remaining.Equals(y.remaining) {
			t.Errorf("mailbox of campaign %d differs after the restart", x.seq)
		}
	}
}

// What became of the accounts of a push adds up to those that it matched, after whatever has happened. Logs are drawn until
// every kind of end was counted in one of them.
func TestFunnelsAddUp(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	seen := make(map[string]uint64)
	missing := func() (names []string) {
		for name, n := range seen {
			if n == 0 {
				names = append(names, name)
			}
		}
		return names
	}
	const most = 20
	for n := 0; n == 0 || len(missing()) > 0; n++ {
		if n == most {
			t.Fatalf("%v never counted in %d logs: they test little", missing(), n)
		}
		checkFunnels(t, randomLog(random, 1500), seen)
	}
}

// checkFunnels applies a log, checks the funnels of its campaigns as it goes, and counts the ends that it sees.
func checkFunnels(t *testing.T, log []*raft.Log, seen map[string]uint64) {
	t.Helper()
	s := openStore(t, t.TempDir())
	r := s.Replica(0, nil)
	for i, e := range log {
		s.machines[0].Apply(e)
		if i%10 > 0 {
			continue
		}
		for seq := uint64(1); seq <= s.machines[0].app(testApp).seq; seq++ {
			f, err := r.Funnel(testApp, seq)
			if err != nil {
				t.Fatal(err)
			}
			if f == nil {
				continue
			}
			checkFunnel(t, seq, f)
			v := &f.Vendor
			for name, n := range map[string]uint64{
				"acknowledged": f.Acknowledged, "later": f.Later, "expired": f.Expired, "deleted": f.Deleted, "waiting": f.Waiting, "online": f.Online,
				"accepted": v.Accepted, "no device": v.NoDevice, "not needed": v.NotNeeded, "failed": v.Failed["Unregistered"],
				"vendor expired": v.Expired, "vendor deleted": v.Deleted, "to do": v.ToDo,
			} {
				seen[name] += n
			}
		}
	}
}

func checkFunnel(t *testing.T, seq uint64, f *crier.Funnel) {
	t.Helper()
	if sum := f.Acknowledged + f.Later + f.Expired + f.Deleted + f.Waiting; f.Kept && sum != f.Matched {
		t.Errorf("campaign %d matched %d, the delivery adds up to %d: %+v", seq, f.Matched, sum, f)
	}
	v := &f.Vendor
	sum := v.NoDevice + v.Accepted + v.NotNeeded + v.Expired + v.Deleted + v.ToDo
	for _, n := range v.Failed {
		sum += n
	}
	if v.Wanted && sum != f.Matched {
		t.Errorf("campaign %d matched %d, the vendors' adds up to %d: %+v", seq, f.Matched, sum, f)
	}
}

// A crash takes what was not flushed: the log has it, and applied again to what is on disk it
// makes the same state, wherever the crash came.
func TestACrashReplaysTheRest(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	entries := randomLog(random, 300)
	dir := t.TempDir()
	s := openStore(t, dir)
	replayed := 0
	for i, e := range entries {
		s.machines[0].Apply(e)
		if random.IntN(60) > 0 {
			continue
		}
		crash := t.TempDir()
		if err := os.CopyFS(crash, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		again := openStore(t, crash)
		if on := int(again.machines[0].meta.GetIndex()); on > i+1 {
			t.Fatalf("the disk has %d entries of %d", on, i+1)
		} else {
			replayed += i + 1 - on
		}
		again.machines[0].ApplyBatch(entries[:i+1])
		if !bytes.Equal(snapshot(t, again, 0), snapshot(t, s, 0)) {
			t.Fatalf("after entry %d the replay made another state", i+1)
		}
	}
	t.Logf("%d entries were replayed", replayed)
}

func FuzzWire(f *testing.F) {
	c := campaign(1, time.Hour, crier.Condition{TagsOr: []string{"a"}, AttrsAnd: []crier.AttrTerm{{Slot: 3, Value: "v"}}}, time.UnixMilli(1))
	f.Add(marshal(wire.FromCampaign(c)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p typesv1.Campaign
		if proto.Unmarshal(data, &p) == nil {
			again := wire.FromCampaign(wire.ToCampaign(&p))
			if !proto.Equal(again, wire.FromCampaign(wire.ToCampaign(again))) {
				t.Errorf("not stable: %v", again)
			}
		}
		var a typesv1.Account
		if proto.Unmarshal(data, &a) == nil {
			_ = wire.FromAccount(wire.ToAccount(1, &a))
		}
		_ = newIndexLoader().add(data)
	})
}
