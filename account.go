package crier

import (
	"slices"
	"time"
)

// Account is a user of an app. It exists once imported or once logged in.
type Account struct {
	App     AppID
	User    UserID
	Ordinal uint32    // dense number within app and partition; given by the state machine, never used twice
	Profile Profile   // what account_import sets
	Attrs   Attrs     // values by slot
	Tags    []string  // sorted, no tag twice
	Created time.Time // in milliseconds
	// Changed is when attributes or tags were changed last, in milliseconds.
	Changed time.Time
	// Devices are where vendors reach the account, the longest registered first.
	Devices []Device
	// NotBefore turns away UserSigs made at or before it, in whole seconds
	// (kick); zero turns none away.
	NotBefore time.Time
}

// MaxChangedBytes bounds the accounts of one partition that one call changes, by Size: they are written together.
const MaxChangedBytes = 2 << 20

// Size returns about how many bytes the account takes where it is kept, and never fewer.
func (a *Account) Size() int {
	const numbers, field = 64, 4 // bytes of what has a fixed size, and of a text beside itself
	n := numbers + len(a.User) + len(a.Profile.Nick) + len(a.Profile.FaceURL) + 2*field
	for _, v := range a.Attrs {
		n += len(v) + field
	}
	for _, t := range a.Tags {
		n += len(t) + field
	}
	for i := range a.Devices {
		d := &a.Devices[i]
		n += numbers + len(d.Vendor) + len(d.Token) + len(d.Target) + len(d.Platform) + len(d.Language) + 5*field
	}
	return n
}

// CheckChanged checks the sizes of the accounts of one partition that one call changes, in all.
func CheckChanged(size int) error {
	if size > MaxChangedBytes {
		return Errorf(CodeBadAccountCount, "the call changes accounts of %d bytes in one partition, the limit is %d: change fewer in one call", size, MaxChangedBytes)
	}
	return nil
}

// Profile is what account_import says of an account beside its name.
type Profile struct {
	Nick    string
	FaceURL string
}

// Attrs are attribute values by slot; "" is a slot without a value.
type Attrs [MaxAttrs]string

// Named returns the values under the app's names, without empty ones and
// without slots that have no name.
func (a *Attrs) Named(names *AttrNames) map[string]string {
	m := make(map[string]string)
	for slot, value := range a {
		if value != "" && names[slot] != "" {
			m[names[slot]] = value
		}
	}
	return m
}

// HasTag reports whether the account has the tag.
func (a *Account) HasTag(tag string) bool {
	_, ok := slices.BinarySearch(a.Tags, tag)
	return ok
}

// ChangeOp is what a Change does. Its numbers are part of the log's format.
type ChangeOp uint8

// The kinds of change. All but OpImport and OpLogin fail with
// CodeUnknownAccount where the account does not exist.
const (
	OpImport         ChangeOp = iota + 1 // create it where it does not exist; set Profile where Profile is not empty
	OpLogin                              // create it where it does not exist
	OpDelete                             // forget the account, its mailbox included
	OpSetAttrs                           // set the slots in Attrs that are not ""
	OpRemoveAttrs                        // clear the slots in Attrs that are not ""
	OpAddTags                            // add Tags; over MaxTags in all is CodeAccountTagsFull
	OpRemoveTags                         // remove Tags
	OpRemoveAllTags                      // remove every tag
	OpKick                               // set NotBefore to the time of the command; remove every device
	OpRegisterDevice                     // add Device, or replace the one with its vendor and token; over MaxDevices the longest registered goes
	OpRemoveDevice                       // remove the device with the vendor and token of Device, unless it was registered after Device.Registered (zero: whenever)
	OpSeeDevice                          // the device with the vendor and token of Device, if it is there, is in use
)

// Change is one change to one account.
type Change struct {
	Op      ChangeOp
	User    UserID
	Profile Profile
	Attrs   Attrs
	Tags    []string
	MaxTags int // bound of the account's tags after OpAddTags; 0: unlimited
	Device  *Device
	// MaxDevices bounds the account's devices after OpRegisterDevice; 0: unlimited.
	MaxDevices int
	// SigTime is when the UserSig of the login that asks for OpRegisterDevice was made, in milliseconds: a kick since then refuses it with CodeSigRevoked.
	// Zero: no login asks, and no kick forbids it.
	SigTime time.Time
}

// AccountChanges are the changes of one call: all or nothing.
type AccountChanges struct {
	App     AppID
	ID      CommandID
	Changes []Change
}

// Apply changes the account as c says; now is the time of the command in the
// log. exists says whether it existed before; the result, whether it does now. On
// an error (CodeUnknownAccount, CodeAccountTagsFull or CodeSigRevoked) nothing has changed. The
// account's Tags and Devices are replaced, never written in place.
func (c *Change) Apply(a *Account, exists bool, now time.Time) (existsNow bool, err error) {
	if !exists && c.Op != OpImport && c.Op != OpLogin {
		return false, Errorf(CodeUnknownAccount, "account %s does not exist", Quote(string(c.User)))
	}
	switch c.Op {
	case OpImport, OpLogin:
		if !exists {
			a.User, a.Created, a.Changed = c.User, now, now
		}
		if c.Profile.Nick != "" {
			a.Profile.Nick = c.Profile.Nick
		}
		if c.Profile.FaceURL != "" {
			a.Profile.FaceURL = c.Profile.FaceURL
		}
	case OpDelete:
		return false, nil
	case OpSetAttrs:
		for slot, v := range c.Attrs {
			if v != "" {
				a.Attrs[slot] = v
			}
		}
		a.Changed = now
	case OpRemoveAttrs:
		for slot, v := range c.Attrs {
			if v != "" {
				a.Attrs[slot] = ""
			}
		}
		a.Changed = now
	case OpAddTags:
		tags := slices.Concat(a.Tags, c.Tags)
		slices.Sort(tags)
		tags = slices.Compact(tags)
		if c.MaxTags > 0 && len(tags) > c.MaxTags && len(tags) > len(a.Tags) {
			return true, Errorf(CodeAccountTagsFull, "account %s would have %d tags, the limit is %d", Quote(string(c.User)), len(tags), c.MaxTags)
		}
		a.Tags, a.Changed = tags, now
	case OpRemoveTags:
		a.Tags = slices.DeleteFunc(slices.Clone(a.Tags), func(t string) bool { return slices.Contains(c.Tags, t) })
		a.Changed = now
	case OpRemoveAllTags:
		a.Tags, a.Changed = nil, now
	case OpKick:
		a.NotBefore, a.Devices = now.Truncate(time.Second), nil
	case OpRegisterDevice:
		return true, c.registerDevice(a, now)
	case OpRemoveDevice:
		if c.Device != nil {
			a.Devices = slices.DeleteFunc(slices.Clone(a.Devices), func(d Device) bool {
				return d.Same(c.Device) && (c.Device.Registered.IsZero() || !d.Registered.After(c.Device.Registered))
			})
		}
	case OpSeeDevice:
		a.Devices = slices.Clone(a.Devices)
		for i := range a.Devices {
			if d := &a.Devices[i]; c.Device != nil && d.Same(c.Device) {
				d.LastSeen = now
			}
		}
	default:
		return exists, Errorf(CodeInternal, "unknown change %d", c.Op)
	}
	return true, nil
}

// DeviceOf returns the device that a session of the platform is taken to run on: the only one that the account has of it, else nil.
func (a *Account) DeviceOf(p Platform) (only *Device) {
	for i := range a.Devices {
		if a.Devices[i].Platform != p {
			continue
		}
		if only != nil {
			return nil
		}
		only = &a.Devices[i]
	}
	return only
}

// CheckSig returns CodeSigRevoked for a UserSig that was made at the time, if the account was kicked since.
func (a *Account) CheckSig(made time.Time) error {
	if a.NotBefore.IsZero() || made.Unix() > a.NotBefore.Unix() {
		return nil
	}
	return Errorf(CodeSigRevoked, "the account was kicked at %s; sign a new usersig", a.NotBefore.Format(time.RFC3339))
}

// registerDevice puts the device at the end of the account's.
func (c *Change) registerDevice(a *Account, now time.Time) error {
	if c.Device == nil {
		return Errorf(CodeInternal, "a registration without a device")
	}
	if !c.SigTime.IsZero() {
		if err := a.CheckSig(c.SigTime); err != nil {
			return err
		}
	}
	devices := slices.DeleteFunc(slices.Clone(a.Devices), func(d Device) bool { return d.Same(c.Device) })
	if c.MaxDevices > 0 && len(devices) >= c.MaxDevices {
		devices = devices[len(devices)-c.MaxDevices+1:]
	}
	d := *c.Device
	d.Registered, d.LastSeen = now, now
	a.Devices = append(devices, d)
	return nil
}

// Ack says that the account with this ordinal has the kept message of the
// campaign with this place in the app's sequence.
type Ack struct {
	Seq     uint64
	Ordinal uint32
	Later   bool // it came from the mailbox, not live
}
