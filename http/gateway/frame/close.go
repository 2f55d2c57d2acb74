package frame

import (
	"slices"

	"github.com/crier-im/crier"
)

// Close is how the server ends a connection for a reason.
type Close struct {
	Reason crier.CloseReason
	Code   uint16 // of the WebSocket close frame
	Text   string // in words, for people
}

// Reconnect reports whether the client should connect again by itself.
func (c Close) Reconnect() bool { return c.Code < firstFinal }

const (
	firstOwn   = 4000 // to 4099: connect again
	firstFinal = 4100 // to 4199: don't
	endOfOwn   = 4200
)

// closes is the one table from reasons to close codes. Codes are part of the
// protocol: they are never changed and never used again.
var closes = []Close{
	{crier.CloseGoingAway, 4000, "the server is stopping"},
	{crier.CloseSlow, 4001, "the receiver does not keep up"},
	{crier.CloseMoved, 4002, "the account has moved to another server"},
	{crier.CloseHeartbeat, 4003, "nothing was heard for too long"},
	{crier.CloseInternal, 4004, "a fault of the server"},
	{crier.CloseNoLogin, 4005, "no login came in time"},
	{crier.CloseByClient, 4006, "the client has gone"},
	{crier.CloseReplaced, 4100, "the account has logged in elsewhere"},
	{crier.CloseKicked, 4101, "the account was kicked"},
	{crier.CloseDeleted, 4102, "the account was deleted"},
	{crier.CloseDisabled, 4103, "the app is disabled"},
	{crier.CloseBadFrame, 4104, "the client broke the protocol"},
	{crier.CloseAuthFailed, 4105, "the login was refused"},
}

// Closes returns the table of close codes, by code.
func Closes() []Close { return slices.Clone(closes) }

// CloseFor returns how a connection ends for a reason. A reason that is not in the
// table counts as crier.CloseInternal.
func CloseFor(reason crier.CloseReason) Close {
	for _, c := range closes {
		if c.Reason == reason {
			return c
		}
	}
	return CloseFor(crier.CloseInternal)
}

// ReasonOf returns the reason of a close code of the table, "" for every other code.
func ReasonOf(code int) crier.CloseReason {
	for _, c := range closes {
		if int(c.Code) == code {
			return c.Reason
		}
	}
	return ""
}

// ReconnectAfter reports whether a client should connect again by itself after a
// connection that ended with a close code, be it of Crier's table, of later
// versions of it, or of WebSocket's own (RFC 6455, 7.4.1).
func ReconnectAfter(code int) bool {
	switch {
	case code >= firstFinal && code < endOfOwn:
		return false
	case code >= firstOwn && code < firstFinal:
		return true
	}
	switch code {
	case 1002, 1003, 1007, 1008, 1009, 1010: // the client broke a rule, and would again
		return false
	}
	return true
}
