package crier

import "time"

// Platform is the kind of device behind a session.
type Platform string

// The platforms of the wire contract.
const (
	IPhone  Platform = "iPhone"
	IPad    Platform = "iPad"
	Android Platform = "Android"
	Mac     Platform = "Mac"
	Windows Platform = "Windows"
	Web     Platform = "Web"
	PC      Platform = "PC"
)

// Valid reports whether p is one of the platforms.
func (p Platform) Valid() bool {
	switch p {
	case IPhone, IPad, Android, Mac, Windows, Web, PC:
		return true
	}
	return false
}

// PresenceState is whether an account can be reached. Its texts are the wire contract's.
type PresenceState string

// The states of presence.
const (
	Online     PresenceState = "Online"     // a session in the foreground
	PushOnline PresenceState = "PushOnline" // sessions in the background only
	Offline    PresenceState = "Offline"    // no session
)

// Presence is what query_online_status tells of an account.
type Presence struct {
	User     UserID
	Exists   bool
	State    PresenceState
	Sessions []SessionPresence // in the order of their logins
}

// Place is where a session is.
type Place struct {
	Node     string        `json:"node"` // the node of the connection
	Platform Platform      `json:"platform"`
	State    PresenceState `json:"state"` // Online: in the foreground, or PushOnline: in the background
}

// OnlinePlace is who was connected at a place when a campaign came.
type OnlinePlace struct {
	Place
	Ordinals []uint32
}

// SessionPresence is one live session.
type SessionPresence struct {
	ID       SessionID
	Node     string // of the connection
	Platform Platform
	State    PresenceState // Online or PushOnline
	Since    time.Time
}

// SessionID names a session: random, unique in the cluster.
type SessionID string

// Short returns the beginning, which tells the sessions of an account apart.
func (id SessionID) Short() SessionID { return id[:min(len(id), 6)] }

// Login is what a device says of itself when it connects, authenticated.
type Login struct {
	App      AppID
	User     UserID
	Session  SessionID
	Node     string // of the connection
	Platform Platform
	SigTime  time.Time // when the UserSig was made; compared with Account.NotBefore
	Instance string    // the running client, as it calls itself; empty: not told
	Attempt  uint64    // greater with each login of the Instance
}

// MaxInstance bounds Login.Instance, in bytes.
const MaxInstance = 64

// CloseReason says why the server ends a session. The gateway has a close code
// for each; the texts go to the client.
type CloseReason string

// The reasons.
const (
	CloseReplaced   CloseReason = "replaced"    // the account logged in elsewhere; don't reconnect by yourself
	CloseKicked     CloseReason = "kicked"      // by kick; a UserSig made later is welcome
	CloseDeleted    CloseReason = "deleted"     // the account was deleted
	CloseDisabled   CloseReason = "disabled"    // the app was disabled
	CloseSlow       CloseReason = "slow"        // the receiver does not keep up; reconnect
	CloseMoved      CloseReason = "moved"       // the account's partition has moved; reconnect
	CloseGoingAway  CloseReason = "going-away"  // the node stops; reconnect
	CloseBadFrame   CloseReason = "bad-frame"   // the client broke the protocol
	CloseHeartbeat  CloseReason = "heartbeat"   // nothing heard for too long; reconnect
	CloseByClient   CloseReason = "client"      // the client closed, or the connection broke
	CloseInternal   CloseReason = "internal"    // a fault of the server; reconnect
	CloseAuthFailed CloseReason = "auth-failed" // the login was refused
	CloseNoLogin    CloseReason = "no-login"    // no login frame in time
)

// Reconnect reports whether the client should connect again by itself.
func (r CloseReason) Reconnect() bool {
	switch r {
	case CloseSlow, CloseMoved, CloseGoingAway, CloseHeartbeat, CloseInternal, CloseByClient, CloseNoLogin:
		return true
	}
	return false
}
