package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// The bounds that tests fill.
const (
	ParkedMost = parkedMost
	OnlineMost = onlineMost
)

// StartCampaign returns the request that brings a campaign to a partition.
func StartCampaign(c *crier.Campaign) any { return startCampaign{c} }

// Gone returns what a user actor tells its partition when its last session has ended.
func Gone(app crier.AppID, user crier.UserID, pid *actor.PID, ordinal uint32) any {
	return sessionsChanged{user: userKey{app, user}, pid: pid, ordinal: ordinal}
}
