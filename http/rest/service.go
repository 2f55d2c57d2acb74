// Package rest speaks the REST API: it reads requests liberally, checks them
// against the wire contract, calls the Service, and answers with the contract's codes.
package rest

import (
	"context"

	"github.com/crier-im/crier"
)

// Service is what the REST API needs of the rest of Crier. Errors are
// *crier.Error; a call that fails with one has changed nothing, but for CodeTimeout
// and CodeInternal, whose outcome is unknown. Safe for concurrent use.
type Service interface {
	// App returns an app, nil where there is none. It answers from memory.
	App(id crier.AppID) *crier.App
	// SetAttrNames names attribute slots; CodeBadAttr as crier.AttrNames.With.
	SetAttrNames(ctx context.Context, id crier.AppID, set map[int]string) error

	// ChangeAccounts applies changes in order, all or nothing: CodeUnknownAccount or CodeAccountTagsFull
	// name the account. OpKick and OpDelete also end its sessions.
	ChangeAccounts(ctx context.Context, app crier.AppID, changes []crier.Change) error
	// Accounts returns the accounts asked for, nil in the place of one that does not exist.
	Accounts(ctx context.Context, app crier.AppID, users []crier.UserID) ([]*crier.Account, error)
	// Presence returns who is connected, in the order asked.
	Presence(ctx context.Context, app crier.AppID, users []crier.UserID) ([]crier.Presence, error)

	// Push accepts a push. With CodePushRepeated the id of the first one is returned too.
	Push(ctx context.Context, req *crier.PushRequest) (crier.TaskID, error)
	// Reports returns the progress of campaigns in the order asked; CodeUnknownTask names an unknown one.
	Reports(ctx context.Context, app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error)
}
