package rest

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/crier-im/crier"
)

// imSetAttrName names attribute slots. A list stands for a map keyed by its places.
func imSetAttrName(ctx context.Context, c *call) (answer, error) {
	v := c.body.get("AttrNames")
	bad := func() (answer, error) {
		return nil, crier.Errorf(crier.CodeBadAttr, `AttrNames is missing or not an object of strings with keys "0" to "9"`)
	}
	set := make(map[int]string)
	switch {
	case v.is('['):
		for i, e := range v.list {
			if e == nil {
				continue
			}
			if !e.is('"') {
				return bad()
			}
			set[i] = e.text
		}
	case v.is('{'):
		for _, m := range v.members {
			slot, err := strconv.Atoi(m.name)
			if err != nil || strconv.Itoa(slot) != m.name || !m.value.is('"') {
				return bad()
			}
			set[slot] = m.value.text
		}
	default:
		return bad()
	}
	if _, err := c.app.AttrNames.With(set); err != nil {
		return nil, err
	}
	return nil, c.api.service.SetAttrNames(ctx, c.app.ID, set)
}

func imGetAttrName(_ context.Context, c *call) (answer, error) {
	names := make(map[string]string)
	for slot, name := range c.app.AttrNames {
		if name != "" {
			names[strconv.Itoa(slot)] = name
		}
	}
	return answer{"AttrNames": names}, nil
}

// entries returns the list of per-account objects under name or, where that is absent, one flat object at the top level or
// the list under alias. One object stands for a list of one. What is no list is an entry that is no object.
// Two lists that differ are refused with the code.
func (c *call) entries(name, alias string, malformed crier.Code) ([]*value, error) {
	v, flat := c.body.get(name), c.body.get("To_Account") != nil
	switch {
	case v != nil && !flat && c.differ(name, alias):
		return nil, crier.Errorf(malformed, "%s and %s are both given, and differ", name, alias)
	case v == nil && flat:
		v = c.body
	case v == nil:
		v = c.body.get(alias)
	}
	switch {
	case v == nil:
		return nil, nil
	case v.is('['):
		return v.list, nil
	default:
		return []*value{v}, nil
	}
}

// differ reports whether both fields are there, with different values.
func (c *call) differ(name, alias string) bool {
	a, b := c.body.get(name), c.body.get(alias)
	return a != nil && b != nil && !bytes.Equal(a.json(), b.json())
}

// countRule says how many accounts a call takes; most 0 is unlimited.
func countRule(most int) string {
	if most <= 0 {
		return "it must have at least 1"
	}
	return "it must have 1 to " + strconv.Itoa(most)
}

// change makes one change of an entry, for the account that it names.
type change func(entry *value, ch *crier.Change) error

// changeEach makes a change of each entry and applies them, in order, all or nothing.
func (c *call) changeEach(ctx context.Context, name, alias string, most int, malformed crier.Code, op crier.ChangeOp, fill change) (answer, error) {
	list, err := c.entries(name, alias, malformed)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || most > 0 && len(list) > most {
		return nil, crier.Errorf(crier.CodeBadAccountCount, "the call has %d accounts, %s", len(list), countRule(most))
	}
	changes := make([]crier.Change, len(list))
	for i, e := range list {
		if !e.is('{') {
			return nil, crier.Errorf(malformed, "entry %d is not an object", i)
		}
		user, err := accountName(e.get("To_Account"), "To_Account")
		if err != nil {
			return nil, prefix(err, "entry %d", i)
		}
		changes[i] = crier.Change{Op: op, User: user}
		if err := fill(e, &changes[i]); err != nil {
			return nil, prefix(err, "entry %d, account %s", i, crier.Quote(string(user)))
		}
	}
	return nil, c.api.service.ChangeAccounts(ctx, c.app.ID, changes)
}

// prefix puts where something is wrong before what is wrong.
func prefix(err error, where string, args ...any) error {
	e := crier.AsError(err)
	return crier.Errorf(e.Code, "%s: %s", fmt.Sprintf(where, args...), e.Info)
}

// accountName reads an account name from the field: 60015 for a non-string, 90035 for none.
func accountName(v *value, field string) (crier.UserID, error) {
	if v == nil {
		return "", crier.Errorf(crier.CodeBadAccount, "%s is missing", field)
	}
	if !v.is('"') {
		return "", crier.Errorf(crier.CodeBadIdentifier, "%s is not a string", field)
	}
	user, err := crier.ParseUserID(v.text)
	if err != nil {
		return "", prefix(err, "%s", field)
	}
	return user, nil
}

func imSetAttr(ctx context.Context, c *call) (answer, error) {
	return c.changeEach(ctx, "UserAttrs", "Attrs", c.app.Limits.AccountsPerCall, crier.CodeBadSetAttr, crier.OpSetAttrs, func(e *value, ch *crier.Change) error {
		attrs, ok := e.get("Attrs").scalars()
		if !ok {
			return crier.Errorf(crier.CodeBadSetAttr, "Attrs is not an object of names and values")
		}
		for _, m := range attrs {
			if err := c.setSlot(&ch.Attrs, m.name, m.value.text); err != nil {
				return err
			}
		}
		return nil
	})
}

// setSlot puts the value into the slot of the name.
func (c *call) setSlot(attrs *crier.Attrs, name, value string) error {
	slot, ok := c.app.AttrNames.Slot(name)
	if !ok {
		return crier.Errorf(crier.CodeBadAttr, "the app has not set an attribute %s", crier.Quote(name))
	}
	if err := crier.CheckName(value); err != nil {
		return crier.Errorf(crier.CodeBadAttr, "the value of attribute %s %s", crier.Quote(name), err)
	}
	attrs[slot] = value
	return nil
}

func imRemoveAttr(ctx context.Context, c *call) (answer, error) {
	return c.changeEach(ctx, "UserAttrs", "Attrs", c.app.Limits.AccountsPerCall, crier.CodeBadRemoveAttr, crier.OpRemoveAttrs, func(e *value, ch *crier.Change) error {
		names, ok := e.get("Attrs").stringList()
		if !ok {
			return crier.Errorf(crier.CodeBadRemoveAttr, "Attrs is not an array of names")
		}
		for _, name := range names {
			if err := c.setSlot(&ch.Attrs, name, "-"); err != nil { // any value: the slot counts
				return err
			}
		}
		return nil
	})
}

// tagsOf reads the Tags of an entry.
func (c *call) tagsOf(e *value, ch *crier.Change) error {
	v := e.get("Tags")
	list, ok := v.stringList()
	most := c.app.Limits.TagsPerCall
	switch {
	case v == nil:
		return crier.Errorf(crier.CodeTagBadValue, "Tags is missing")
	case !ok || v.is('{') && len(list) > 0:
		return crier.Errorf(crier.CodeTagBadValue, "Tags is not an array of strings")
	case most > 0 && len(list) > most:
		return crier.Errorf(crier.CodeTooManyTags, "%d tags in one call, the limit is %d", len(list), most)
	}
	for i, t := range list {
		if err := crier.CheckTag(t); err != nil {
			return prefix(err, "Tags[%d]", i)
		}
	}
	ch.Tags = list
	return nil
}

func imAddTag(ctx context.Context, c *call) (answer, error) {
	return c.changeEach(ctx, "UserTags", "Tags", c.app.Limits.AddTagAccounts, crier.CodeTagBadValue, crier.OpAddTags, func(e *value, ch *crier.Change) error {
		ch.MaxTags = c.app.Limits.TagsPerAccount
		return c.tagsOf(e, ch)
	})
}

func imRemoveTag(ctx context.Context, c *call) (answer, error) {
	return c.changeEach(ctx, "UserTags", "Tags", c.app.Limits.AccountsPerCall, crier.CodeTagBadValue, crier.OpRemoveTags, c.tagsOf)
}

// toAccounts reads To_Account: malformed is the code of what is no list.
func (c *call) toAccounts(most int, malformed, count crier.Code) ([]crier.UserID, error) {
	v := c.body.get("To_Account")
	var list []*value
	switch {
	case v.is('['):
		list = v.list
	case v.is('"'):
		list = []*value{v}
	case v != nil:
		return nil, crier.Errorf(malformed, "To_Account is not an array of account names")
	}
	if len(list) == 0 || most > 0 && len(list) > most {
		if len(list) == 0 && count == crier.CodeTooManyPresence {
			count = malformed
		}
		return nil, crier.Errorf(count, "To_Account has %d accounts, %s", len(list), countRule(most))
	}
	users := make([]crier.UserID, len(list))
	for i, e := range list {
		var err error
		if users[i], err = accountName(e, fmt.Sprintf("To_Account[%d]", i)); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// existing reads the accounts of To_Account; one that does not exist is an error.
func (c *call) existing(ctx context.Context, malformed crier.Code) ([]*crier.Account, error) {
	users, err := c.toAccounts(c.app.Limits.AccountsPerCall, malformed, crier.CodeBadAccountCount)
	if err != nil {
		return nil, err
	}
	accounts, err := c.api.service.Accounts(ctx, c.app.ID, users)
	if err != nil {
		return nil, err
	}
	for i, a := range accounts {
		if a == nil {
			return nil, crier.Errorf(crier.CodeUnknownAccount, "account %s does not exist", crier.Quote(string(users[i])))
		}
	}
	return accounts, nil
}

func imGetAttr(ctx context.Context, c *call) (answer, error) {
	accounts, err := c.existing(ctx, crier.CodeBadGetAttr)
	if err != nil {
		return nil, err
	}
	list := make([]map[string]any, len(accounts))
	for i, a := range accounts {
		list[i] = map[string]any{"To_Account": a.User, "Attrs": a.Attrs.Named(&c.app.AttrNames)}
	}
	return answer{"UserAttrs": list, "Attrs": list}, nil
}

func imGetTag(ctx context.Context, c *call) (answer, error) {
	accounts, err := c.existing(ctx, crier.CodeNoToAccount)
	if err != nil {
		return nil, err
	}
	list := make([]map[string]any, len(accounts))
	for i, a := range accounts {
		list[i] = map[string]any{"To_Account": a.User, "Tags": append([]string{}, a.Tags...)}
	}
	return answer{"UserTags": list, "Tags": list}, nil
}

func imRemoveAllTags(ctx context.Context, c *call) (answer, error) {
	users, err := c.toAccounts(c.app.Limits.AccountsPerCall, crier.CodeNoToAccount, crier.CodeBadAccountCount)
	if err != nil {
		return nil, err
	}
	changes := make([]crier.Change, len(users))
	for i, user := range users {
		changes[i] = crier.Change{Op: crier.OpRemoveAllTags, User: user}
	}
	return nil, c.api.service.ChangeAccounts(ctx, c.app.ID, changes)
}

func queryState(ctx context.Context, c *call) (answer, error) {
	return c.queryPresence(ctx, "State")
}

func queryOnlineStatus(ctx context.Context, c *call) (answer, error) {
	return c.queryPresence(ctx, "Status")
}

func (c *call) queryPresence(ctx context.Context, field string) (answer, error) {
	users, err := c.toAccounts(c.app.Limits.AccountsPerCall, crier.CodeNoToAccount, crier.CodeTooManyPresence)
	if err != nil {
		return nil, err
	}
	all, err := c.api.service.Presence(ctx, c.app.ID, users)
	if err != nil {
		return nil, err
	}
	detail, _ := c.body.get("IsNeedDetail").integer()
	instances, _ := c.body.get("IsReturnInstid").integer()
	results, missing := []map[string]any{}, []map[string]any{}
	for _, p := range all {
		if !p.Exists {
			missing = append(missing, map[string]any{"To_Account": p.User, "ErrorCode": int(crier.CodeAccountMissing)})
			continue
		}
		result := map[string]any{"To_Account": p.User, field: p.State}
		if detail == 1 {
			result["Detail"] = sessionDetails(p.Sessions, instances == 1)
		}
		results = append(results, result)
	}
	return answer{"QueryResult": results, "ErrorList": missing}, nil
}

func sessionDetails(sessions []crier.SessionPresence, instances bool) []map[string]any {
	list := []map[string]any{}
	for i, s := range sessions {
		d := map[string]any{"Platform": s.Platform, "Status": s.State}
		if instances {
			d["Instid"] = i + 1
		}
		list = append(list, d)
	}
	return list
}
