// Package frame holds the frames between a device and the gateway, and their
// two encodings: the WebSocket subprotocols crier.v1.json and crier.v1.proto
// (docs/gateway.md). The server and the Go client share it. It does no I/O.
package frame

import "github.com/crier-im/crier"

// Client is a frame that a device sends: *Login, *Ack, *Foreground, *Background, *Ping, *RegisterDevice or *Logout.
type Client interface{ client() }

// Server is a frame that the server sends: *Welcome, *Message, *Pong, *Kicked, *Error, *Bye or *Device.
type Server interface{ server() }

// Login is the first frame of a device: who it is.
type Login struct {
	SDKAppID   crier.AppID    `json:"sdkappid"`
	Identifier string         `json:"identifier"`
	UserSig    string         `json:"usersig"`
	Platform   crier.Platform `json:"platform"`
	Client     string         `json:"client,omitempty"`   // name of the client software
	Version    string         `json:"version,omitempty"`  // its version
	Instance   string         `json:"instance,omitempty"` // random, the same in all logins of one running client
	Attempt    uint64         `json:"attempt,omitempty"`  // greater with each login of the instance
}

// Ack says which kept messages the device has: those with the numbers in
// Seqs or, if Cumulative, every one up to the highest of them.
type Ack struct {
	Seqs       []uint64 `json:"seqs"`
	Cumulative bool     `json:"cumulative,omitempty"`
}

// Foreground says that the app is in front.
type Foreground struct{}

// Background says that the app is not in front; Unread is the base of its badge.
type Background struct {
	Unread uint32 `json:"unread,omitempty"`
}

// Ping is a heartbeat; the answer is a Pong.
type Ping struct{}

// RegisterDevice registers the device with a vendor for the account; the answer
// is a Device. The fields are those of crier.Device, which has their bounds; its Platform is that of the Login.
type RegisterDevice struct {
	Vendor   crier.Vendor `json:"vendor"`
	Token    string       `json:"token"`
	Target   string       `json:"target,omitempty"`
	Sandbox  bool         `json:"sandbox,omitempty"`
	Language string       `json:"language,omitempty"`
}

// Logout ends the session and removes the device that was registered in it. The answer is the close.
type Logout struct{}

// Welcome answers an accepted Login.
type Welcome struct {
	Session   crier.SessionID `json:"session"`
	Heartbeat uint32          `json:"heartbeat"` // seconds within which the server wants to hear something
	Time      int64           `json:"time"`      // the server's clock, Unix milliseconds
}

// Message is one message of a push.
type Message struct {
	Task         crier.TaskID       `json:"task"`
	Seq          uint64             `json:"seq"`
	From         crier.UserID       `json:"from"`
	Time         int64              `json:"time"` // of acceptance, Unix milliseconds
	Elements     []crier.Element    `json:"elements"`
	Notification crier.Notification `json:"notification"`
	Kept         bool               `json:"kept,omitempty"`    // comes again until it is acknowledged
	Expires      int64              `json:"expires,omitempty"` // Unix milliseconds; 0 unless Kept
}

// NewMessage returns the frame of a delivery.
func NewMessage(d *crier.Delivery) *Message {
	m := &Message{
		Task: d.Task, Seq: d.Seq, From: d.From, Time: d.Accepted.UnixMilli(),
		Elements: d.Elements, Notification: d.Notification, Kept: d.Kept,
	}
	if d.Kept {
		m.Expires = d.Expires.UnixMilli()
	}
	return m
}

// Pong answers a Ping.
type Pong struct{}

// Kicked says that the session is over and why; the client does not come back by itself.
type Kicked struct {
	Reason crier.CloseReason `json:"reason"`
	Text   string            `json:"text"`
}

// Error says what the client did wrong. The connection closes after it.
type Error struct {
	Code crier.Code `json:"code"`
	Text string     `json:"text"`
}

// Bye says that the server ends the session and why; the client connects again.
type Bye struct {
	Reason crier.CloseReason `json:"reason"`
	Text   string            `json:"text"`
}

// Device answers a RegisterDevice: OK, or a Code of the API's table and a text that
// say why not. The connection stays open.
type Device struct {
	OK   bool       `json:"ok"`
	Code crier.Code `json:"code,omitempty"`
	Text string     `json:"text,omitempty"`
}

func (*Login) client()          {}
func (*Ack) client()            {}
func (*Foreground) client()     {}
func (*Background) client()     {}
func (*Ping) client()           {}
func (*RegisterDevice) client() {}
func (*Logout) client()         {}

func (*Welcome) server() {}
func (*Message) server() {}
func (*Pong) server()    {}
func (*Kicked) server()  {}
func (*Error) server()   {}
func (*Bye) server()     {}
func (*Device) server()  {}
