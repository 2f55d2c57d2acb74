package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
)

// failed is an answer that stands for an error.
type failed struct{ err error }

// Failure returns the error; Directory gives it to the caller.
func (f failed) Failure() error { return f.err }

// Requests to partition actors. Each is answered with the type named, or with failed.
type (
	// changeAccounts proposes the changes of several calls, each all or nothing: changed.
	changeAccounts struct{ calls []crier.AccountChanges }
	// checkChanges tells whether they would be taken now: checked.
	checkChanges struct{ calls []crier.AccountChanges }
	// readAccounts reads: []*crier.Account.
	readAccounts struct {
		app   crier.AppID
		users []crier.UserID
	}
	// readPresence reads who is connected: []crier.Presence.
	readPresence struct {
		app   crier.AppID
		users []crier.UserID
	}
	// readReports reads progress, at the home partition: []crier.Report.
	readReports struct {
		app   crier.AppID
		tasks []crier.TaskID
	}
	// readFunnel reads what became of a campaign here: *crier.Funnel, nil where it is not known.
	readFunnel struct {
		app crier.AppID
		seq uint64
	}
	// readCampaign reads a campaign at its home: *crier.Campaign.
	readCampaign struct {
		app  crier.AppID
		task crier.TaskID
	}
	// explain tells what became of a campaign for an account: *crier.Explanation.
	explain struct {
		campaign *crier.Campaign
		user     crier.UserID
	}
	// claimDevice gives a token to an account, at the token's partition: []crier.UserID, the former owners.
	claimDevice struct {
		app     crier.AppID
		vendor  crier.Vendor
		token   string
		user    crier.UserID
		removed []crier.UserID
	}
	// startCampaign evaluates and delivers a campaign in the partition: started.
	startCampaign struct {
		campaign *crier.Campaign
		settled  uint64 // campaigns of the app up to this are done
	}
	// acceptPush goes to the app's actor: *crier.Campaign.
	acceptPush struct{ request *crier.PushRequest }
	// attachSession goes to the user's actor: attached.
	attachSession struct {
		login   *crier.Login // nobody changes it
		session *actor.PID
		cursor  uint64   // the last campaign that the connection was sent
		unacked []uint64 // kept messages that it was sent and has not acknowledged, ascending
		again   bool     // the connection was in use before: this is no login
	}
)

// Requests to the system actor: done.
type (
	createApp struct {
		id  crier.CommandID
		app *crier.App
	}
	updateApp struct {
		id  crier.CommandID
		app *crier.App
	}
	setAttrNames struct {
		id  crier.CommandID
		app crier.AppID
		set map[int]string
	}
	// readIndex asks how far the group is.
	readIndex struct{}
)

// Answers.
type (
	// done has how far the state of the system group is: whoever has that has what was done.
	done struct{ index uint64 }
	// changed has the error of each call.
	changed struct{ errs []error }
	// checked has, of each call, the place of the first change that would be refused, and why.
	checked struct{ refusals []refusal }
	refusal struct {
		at  int
		err error
	}
	started  struct{ total uint64 }
	attached struct {
		user *actor.PID
		term uint64 // that the partition is led in
	}
	// repeated is the answer to a push whose MsgRandom was used.
	repeated struct {
		first *crier.Campaign
		err   error
	}
)

// Between the partition and its user actors.
type (
	// sessionsChanged tells the partition who is connected.
	sessionsChanged struct {
		user     userKey
		pid      *actor.PID
		ordinal  uint32
		sessions []crier.SessionPresence
	}
	// acknowledged tells the partition that an account has a message.
	acknowledged struct {
		app crier.AppID
		ack crier.Ack
	}
	// deliver brings a message to a user, and from there to its sessions.
	deliver struct{ delivery *crier.Delivery }
	// endSessions closes every session of an account.
	endSessions struct{ reason crier.CloseReason }
	// passivate asks the partition to stop an idle user actor, which has taken so many attachSession.
	passivate struct {
		user     userKey
		pid      *actor.PID
		attaches int
	}
	// userFailed tells the partition that a user actor has panicked, and ends.
	userFailed struct {
		user userKey
		pid  *actor.PID
	}
)

// Between sessions and users.
type (
	acknowledge struct {
		session    crier.SessionID
		seqs       []uint64
		cumulative bool
	}
	moveSession struct {
		session    crier.SessionID
		background bool
		unread     int
	}
	// confirmSession says that the connection is in use.
	confirmSession struct{ session crier.SessionID }
	detachSession  struct{ session crier.SessionID }
	closeSession   struct{ reason crier.CloseReason }
	// sessionForgotten tells a session that its user actor has lost the connection to it.
	sessionForgotten struct{ user *actor.PID }
)

// userKey names an account within a partition.
type userKey struct {
	app  crier.AppID
	user crier.UserID
}
