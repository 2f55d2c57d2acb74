package rest

import (
	"context"
	"unicode/utf8"

	"github.com/crier-im/crier"
)

// missingAccount is what the service that Crier is compatible with says.
const missingAccount = "Err_TLS_PT_Open_Login_Account_Not_Exist"

// profileMost bounds a nickname or picture URL, in bytes.
const profileMost = 500

// loginName reads an account name of the account commands, whose code is 70402.
func loginName(v *value) (crier.UserID, error) {
	if !v.is('"') {
		return "", crier.Errorf(crier.CodeBadParameter, "UserID is missing or not a string")
	}
	user, err := crier.ParseUserID(v.text)
	if err != nil {
		return "", crier.Errorf(crier.CodeBadParameter, "UserID: %s", crier.AsError(err).Info)
	}
	return user, nil
}

func readProfile(v *value) (p crier.Profile, err error) {
	for name, out := range map[string]*string{"Nick": &p.Nick, "FaceUrl": &p.FaceURL} {
		f := v.get(name)
		switch {
		case f == nil:
		case !f.is('"') || len(f.text) > profileMost || !utf8.ValidString(f.text):
			return p, crier.Errorf(crier.CodeBadParameter, "%s is not a string of at most %d bytes", name, profileMost)
		default:
			*out = f.text
		}
	}
	return p, nil
}

func accountImport(ctx context.Context, c *call) (answer, error) {
	user, err := loginName(c.body.get("UserID", "Identifier"))
	if err != nil {
		return nil, err
	}
	profile, err := readProfile(c.body)
	if err != nil {
		return nil, err
	}
	return nil, c.api.service.ChangeAccounts(ctx, c.app.ID, []crier.Change{{Op: crier.OpImport, User: user, Profile: profile}})
}

// items reads a list of an account command, and under which of its names it is; one object stands for
// a list of one, also flat at the top level.
func (c *call) items(names ...string) (list []*value, field string, err error) {
	v, field := c.body.get(names...), names[0]
	if c.body.get(field) == nil && v != nil {
		field = names[1]
	}
	if v == nil && c.body.get("UserID", "Identifier") != nil {
		v = c.body
	}
	if len(names) == 2 && c.differ(names[0], names[1]) {
		return nil, "", crier.Errorf(crier.CodeBadParameter, "%s and %s are both given, and differ", names[0], names[1])
	}
	list = []*value{v}
	if v.is('[') {
		list = v.list
	}
	most := c.app.Limits.ImportsPerCall
	if v == nil || len(list) == 0 || most > 0 && len(list) > most {
		return nil, "", crier.Errorf(crier.CodeBadParameter, "%s has no account or too many, %s", field, countRule(most))
	}
	return list, field, nil
}

// multiaccountImport creates accounts; names that are none are listed and the rest is created.
func multiaccountImport(ctx context.Context, c *call) (answer, error) {
	list, field, err := c.items("AccountList", "Accounts")
	if err != nil {
		return nil, err
	}
	failed := []string{}
	var changes []crier.Change
	for i, e := range list {
		name, profile := e, crier.Profile{}
		if e.is('{') {
			name = e.get("UserID", "Identifier")
			if profile, err = readProfile(e); err != nil {
				return nil, prefix(err, "%s[%d]", field, i)
			}
		}
		if !name.is('"') {
			return nil, crier.Errorf(crier.CodeBadParameter, "%s[%d] is neither a name nor an object with a UserID", field, i)
		}
		user, err := crier.ParseUserID(name.text)
		if err != nil {
			failed = append(failed, name.text)
			continue
		}
		changes = append(changes, crier.Change{Op: crier.OpImport, User: user, Profile: profile})
	}
	if len(changes) > 0 {
		if err := c.api.service.ChangeAccounts(ctx, c.app.ID, changes); err != nil {
			return nil, err
		}
	}
	return answer{"FailAccounts": failed}, nil
}

// userItems reads a list of objects with a UserID, and which of them exist.
func (c *call) userItems(ctx context.Context, field string) ([]crier.UserID, []*crier.Account, error) {
	list, _, err := c.items(field)
	if err != nil {
		return nil, nil, err
	}
	users := make([]crier.UserID, len(list))
	for i, e := range list {
		name := e
		if e.is('{') {
			name = e.get("UserID", "Identifier")
		}
		if users[i], err = loginName(name); err != nil {
			return nil, nil, prefix(err, "%s[%d]", field, i)
		}
	}
	accounts, err := c.api.service.Accounts(ctx, c.app.ID, users)
	return users, accounts, err
}

func accountCheck(ctx context.Context, c *call) (answer, error) {
	users, accounts, err := c.userItems(ctx, "CheckItem")
	if err != nil {
		return nil, err
	}
	items := make([]map[string]any, len(users))
	for i, user := range users {
		status := "NotImported"
		if accounts[i] != nil {
			status = "Imported"
		}
		items[i] = map[string]any{"UserID": user, "ResultCode": 0, "ResultInfo": "", "AccountStatus": status}
	}
	return answer{"ResultItem": items}, nil
}

func accountDelete(ctx context.Context, c *call) (answer, error) {
	users, accounts, err := c.userItems(ctx, "DeleteItem")
	if err != nil {
		return nil, err
	}
	items := make([]map[string]any, len(users))
	var changes []crier.Change
	deleted := make(map[crier.UserID]bool)
	for i, user := range users {
		items[i] = map[string]any{"UserID": user, "ResultCode": 0, "ResultInfo": ""}
		if accounts[i] == nil || deleted[user] {
			items[i]["ResultCode"], items[i]["ResultInfo"] = int(crier.CodeAccountMissing), missingAccount
			continue
		}
		deleted[user] = true
		changes = append(changes, crier.Change{Op: crier.OpDelete, User: user})
	}
	if len(changes) > 0 {
		if err := c.api.service.ChangeAccounts(ctx, c.app.ID, changes); err != nil {
			return nil, err
		}
	}
	return answer{"ResultItem": items}, nil
}

// kick closes the account's sessions and turns away its UserSigs of before.
func kick(ctx context.Context, c *call) (answer, error) {
	user, err := loginName(c.body.get("UserID", "Identifier"))
	if err != nil {
		return nil, err
	}
	err = c.api.service.ChangeAccounts(ctx, c.app.ID, []crier.Change{{Op: crier.OpKick, User: user}})
	if e := crier.AsError(err); e != nil && e.Code == crier.CodeUnknownAccount {
		return nil, crier.Errorf(crier.CodeAccountMissing, "%s: %s", missingAccount, e.Info)
	}
	return nil, err
}
