package crier

import (
	"strconv"
	"strings"
)

// Kinds of virtual actors.
const (
	KindPartition = "partition" // identity: the number, or "system"
	KindUser      = "user"      // identity: UserIdentity
	KindApp       = "app"       // identity: the app's id
	KindCampaign  = "campaign"  // identity: the TaskID
)

// UserIdentity returns the identity of a user actor.
func UserIdentity(app AppID, user UserID) string { return app.String() + "/" + string(user) }

// PartitionOfIdentity returns the partition, of n in all, on whose leader a
// virtual actor lives; ok is false for an identity that is not of its kind.
func PartitionOfIdentity(kind, identity string, n int) (p PartitionID, ok bool) {
	switch kind {
	case KindPartition:
		if identity == SystemPartition.String() {
			return SystemPartition, true
		}
		i, err := strconv.Atoi(identity)
		return PartitionID(i), err == nil && i >= 0 && i < n
	case KindUser:
		id, user, found := strings.Cut(identity, "/")
		app, err := ParseAppID(id)
		return PartitionOf(app, UserID(user), n), found && err == nil
	case KindApp:
		app, err := ParseAppID(identity)
		return HomePartition(app, n), err == nil
	case KindCampaign:
		app, _, ok := TaskID(identity).Parse()
		return HomePartition(app, n), ok
	}
	return 0, false
}
