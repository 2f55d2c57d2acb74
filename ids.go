package crier

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// AppID names one app, a tenant. The wire calls it SDKAppID.
type AppID uint32

// String returns the decimal form.
func (id AppID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseAppID reads the decimal form. Zero is not an AppID.
func ParseAppID(s string) (AppID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, Errorf(CodeBadSDKAppID, "sdkappid %s is not an integer in 1..4294967295", Quote(s))
	}
	return AppID(n), nil
}

// MaxUserIDBytes is the longest account name.
const MaxUserIDBytes = 32

// UserID names an account within its app: 1 to 32 bytes of UTF-8 without
// control characters. It is compared byte for byte.
type UserID string

// String returns the name itself.
func (id UserID) String() string { return string(id) }

// ParseUserID checks a name that came from outside. The error carries
// CodeBadAccount, whichever rule was broken.
func ParseUserID(s string) (UserID, error) {
	switch {
	case s == "":
		return "", Errorf(CodeBadAccount, "an account name is empty")
	case len(s) > MaxUserIDBytes:
		return "", Errorf(CodeBadAccount, "account name %s is %d bytes long, the limit is %d", Quote(s), len(s), MaxUserIDBytes)
	case !utf8.ValidString(s):
		return "", Errorf(CodeBadAccount, "account name %s is not valid UTF-8", Quote(s))
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", Errorf(CodeBadAccount, "account name %s has a control character", Quote(s))
	}
	return UserID(s), nil
}

// Quote quotes outside text for an error or a log line and cuts it to at most 64 bytes, between two characters.
func Quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) { // no further in what is not UTF-8
		end--
	}
	return strconv.Quote(s[:end]) + "..."
}

// TaskID names one accepted push: the app, when it was accepted, the caller's
// MsgRandom, and the place in the app's sequence of pushes, as
// "1400000001_1700000000000_123_42". Treat it as opaque outside this file.
type TaskID string

// NewTaskID makes the id of the push with the given place in its app's sequence.
func NewTaskID(app AppID, accepted time.Time, random uint32, seq uint64) TaskID {
	return TaskID(fmt.Sprintf("%d_%d_%d_%d", app, accepted.UnixMilli(), random, seq))
}

// Parse returns the app and the sequence number in the id; ok is false for
// text that no NewTaskID returned.
func (id TaskID) Parse() (app AppID, seq uint64, ok bool) {
	parts := strings.Split(string(id), "_")
	if len(parts) != 4 {
		return 0, 0, false
	}
	a, errA := strconv.ParseUint(parts[0], 10, 32)
	at, errT := strconv.ParseInt(parts[1], 10, 64)
	r, errR := strconv.ParseUint(parts[2], 10, 32)
	s, errS := strconv.ParseUint(parts[3], 10, 64)
	if errA != nil || errT != nil || errR != nil || errS != nil {
		return 0, 0, false
	}
	if NewTaskID(AppID(a), time.UnixMilli(at), uint32(r), s) != id {
		return 0, 0, false
	}
	return AppID(a), s, true
}

// String returns the text form.
func (id TaskID) String() string { return string(id) }

// PartitionID names a partition: 0 to P-1, or SystemPartition.
type PartitionID uint16

const (
	// DefaultPartitions is P where the configuration names none.
	DefaultPartitions = 64
	// MaxPartitions is the largest P.
	MaxPartitions = 1024
	// SystemPartition is the group with what every node must know: apps,
	// their keys and attribute names, and the placement of replicas.
	SystemPartition PartitionID = 0xFFFF
)

// String returns "system" or the decimal number.
func (p PartitionID) String() string {
	if p == SystemPartition {
		return "system"
	}
	return strconv.Itoa(int(p))
}

// PartitionOf returns the partition, of n in all, that holds an account. The
// function is part of the data format: FNV-1a of 64 bits over the app id as four
// big-endian bytes and the name, mixed by the finaliser of MurmurHash3, modulo n.
func PartitionOf(app AppID, user UserID, n int) PartitionID {
	h := fnv.New64a()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(app))
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(user))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return PartitionID(x % uint64(n))
}

// HomePartition returns the partition that holds what one app decides alone:
// its campaigns, their sequence, and the MsgRandoms that it has used.
func HomePartition(app AppID, n int) PartitionID { return PartitionOf(app, "", n) }
