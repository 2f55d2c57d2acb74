package wire

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/crier-im/crier"
	logv1 "github.com/crier-im/crier/proto/crier/log/v1"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// drawn returns random accounts and changes, with every field and without.
type drawn struct{ *rand.Rand }

func (d drawn) text() string {
	return []string{"", "x", "née", fmt.Sprint(d.Uint64()), string(make([]byte, 300))}[d.IntN(5)]
}

func (d drawn) texts() (list []string) {
	for range d.IntN(4) {
		list = append(list, d.text())
	}
	return list
}

func (d drawn) attrs() (a crier.Attrs) {
	for range d.IntN(4) {
		a[d.IntN(len(a))] = d.text()
	}
	return a
}

func (d drawn) time() time.Time {
	if d.IntN(3) == 0 {
		return time.Time{}
	}
	return time.UnixMilli(d.Int64N(2e12)).UTC()
}

func (d drawn) device() *crier.Device {
	return &crier.Device{
		Vendor: crier.APNs, Token: d.text(), Target: d.text(), Sandbox: d.IntN(2) == 0, Platform: "iOS",
		Language: d.text(), BadgeBase: d.IntN(3), Registered: d.time(), LastSeen: d.time(),
	}
}

func (d drawn) account() *crier.Account {
	a := &crier.Account{
		App: 7, User: "u", Ordinal: d.Uint32() >> d.IntN(33), Profile: crier.Profile{Nick: d.text(), FaceURL: d.text()},
		Attrs: d.attrs(), Tags: d.texts(), Created: d.time(), Changed: d.time(), NotBefore: d.time().Truncate(time.Second),
	}
	for range d.IntN(3) {
		a.Devices = append(a.Devices, *d.device())
	}
	return a
}

func (d drawn) changes() (calls []crier.AccountChanges) {
	for range 1 + d.IntN(3) {
		c := crier.AccountChanges{App: crier.AppID(d.Uint32()), Changes: []crier.Change{}}
		if d.IntN(2) == 0 {
			c.ID = crier.CommandID{Origin: d.Uint64(), Number: d.Uint64() >> d.IntN(65), Oldest: d.Uint64N(3)}
		}
		for range d.IntN(4) {
			change := crier.Change{
				Op: crier.ChangeOp(d.IntN(13)), User: crier.UserID(d.text()), Profile: crier.Profile{Nick: d.text(), FaceURL: d.text()},
				Attrs: d.attrs(), Tags: d.texts(), MaxTags: d.IntN(200), MaxDevices: d.IntN(3), SigTime: d.time(),
			}
			if d.IntN(2) == 0 {
				change.Device = d.device()
			}
			c.Changes = append(c.Changes, change)
		}
		calls = append(calls, c)
	}
	return calls
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// commandOf returns a command by the generated code.
func commandOf(c *ChangeCommand) *logv1.Command {
	b := new(logv1.ChangeBatch)
	for _, call := range c.Calls {
		p := &logv1.ChangeAccounts{App: uint32(call.App), Id: FromCommandID(call.ID)}
		for i := range call.Changes {
			p.Changes = append(p.Changes, FromChange(&call.Changes[i]))
		}
		b.Calls = append(b.Calls, p)
	}
	return &logv1.Command{Version: c.Version, TimeMs: c.TimeMs, Body: &logv1.Command_ChangeBatch{ChangeBatch: b}}
}

func withoutName(a *crier.Account) *typesv1.Account {
	p := FromAccount(a)
	p.User = ""
	return p
}

// Nodes of before and after write the same bytes, and read one another's.
func TestRecordsAreTheGeneratedCodes(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := drawn{rand.New(rand.NewPCG(seed, 1))}
	for range 2000 {
		a := d.account()
		record := AppendAccount(nil, a)
		if want := marshal(t, withoutName(a)); string(record) != string(want) {
			t.Fatalf("%+v became %x, the generated code makes it %x", a, record, want)
		}
		if a.Size() < len(record) {
			t.Fatalf("%+v has %d bytes, and is said to have %d", a, len(record), a.Size())
		}
		if again, err := ParseAccount(a.App, a.User, record); err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
		c := &ChangeCommand{Version: 1, TimeMs: d.Int64() - 1<<62, Calls: d.changes()}
		command := c.Append(nil)
		if want := marshal(t, commandOf(c)); string(command) != string(want) {
			t.Fatalf("%+v became %x, the generated code makes it %x", c, command, want)
		}
		if again, err := ParseChangeCommand(command); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	}
}

func TestOtherCommandsAreNoChanges(t *testing.T) {
	t.Parallel()
	other := marshal(t, &logv1.Command{Version: 1, TimeMs: 2, Body: &logv1.Command_Sweep{Sweep: &logv1.Sweep{}}})
	if c, err := ParseChangeCommand(other); c != nil || err != nil {
		t.Errorf("a sweep is %+v, %v", c, err)
	}
	empty := &ChangeCommand{Version: 1, TimeMs: 2, Calls: []crier.AccountChanges{}}
	if c, err := ParseChangeCommand(empty.Append(nil)); err != nil || !reflect.DeepEqual(c, empty) {
		t.Errorf("a command without calls is %+v, %v", c, err)
	}
	whole := (&ChangeCommand{Version: 1, TimeMs: 2, Calls: drawn{rand.New(rand.NewPCG(1, 2))}.changes()}).Append(nil)
	if c, err := ParseChangeCommand(whole[:len(whole)-1]); err == nil {
		t.Errorf("a torn command is %+v", c)
	}
	newer := append([]byte{0xfd, 0x07, 1, 2, 3, 4}, whole...) // field 127, four bytes
	if c, err := ParseChangeCommand(newer); err != nil || c == nil || c.Version != 1 {
		t.Errorf("with a field that is not known: %+v, %v", c, err)
	}
}

func FuzzRecords(f *testing.F) {
	d := drawn{rand.New(rand.NewPCG(1, 2))}
	for range 5 {
		f.Add(AppendAccount(nil, d.account()))
		f.Add((&ChangeCommand{Version: 1, TimeMs: 5, Calls: d.changes()}).Append(nil))
	}
	f.Add([]byte{0xfd, 0x07, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		same := func(ours []byte, m proto.Message) {
			theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err == nil && string(ours) != string(theirs) { // it refuses texts that are not UTF-8
				t.Errorf("%x was read and became %x, the generated code makes it %x", data, ours, theirs)
			}
		}
		if a, err := ParseAccount(1, "u", data); err == nil {
			same(AppendAccount(nil, a), withoutName(a))
		}
		if c, err := ParseChangeCommand(data); err == nil && c != nil {
			same(c.Append(nil), commandOf(c))
		}
	})
}
