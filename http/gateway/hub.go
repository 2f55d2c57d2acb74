// Package gateway speaks the device protocol: WebSocket connections on
// /v1/connect, their login, frames, acknowledgements and close codes
// (docs/gateway.md).
package gateway

import (
	"context"

	"github.com/crier-im/crier"
)

// Hub is what the gateway needs of the rest of Crier. Safe for concurrent use.
type Hub interface {
	// App returns an app, nil where there is none. It answers from memory.
	App(id crier.AppID) *crier.App
	// Connect starts the session of an authenticated login: the account is created where it does not exist,
	// older sessions are evicted as the app's policy says, and what waits in the mailbox begins to arrive on conn,
	// never before Connect has returned. It blocks until the account's partition has answered or ctx ends. Errors
	// are *crier.Error: CodeSigRevoked for a login from before a kick, CodeAppDisabled, CodeTimeout.
	Connect(ctx context.Context, login crier.Login, conn crier.Conn) (crier.Session, error)
}
