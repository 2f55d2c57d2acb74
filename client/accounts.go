package client

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/crier-im/crier"
)

// Import creates accounts that do not exist, up to 100.
func (c *Client) Import(ctx context.Context, users ...crier.UserID) error {
	_, err := c.call(ctx, "im_open_login_svc/multiaccount_import", false, map[string]any{"Accounts": users}, nil)
	return err
}

// ImportProfile creates an account that does not exist, and sets what of its profile is not empty.
func (c *Client) ImportProfile(ctx context.Context, user crier.UserID, profile crier.Profile) error {
	in := map[string]any{"UserID": user, "Nick": profile.Nick, "FaceUrl": profile.FaceURL}
	_, err := c.call(ctx, "im_open_login_svc/account_import", false, in, nil)
	return err
}

// ImportProfiles creates accounts that do not exist, up to 100, and sets what of their profiles is not empty.
// It returns those whose names the server takes for no account names; the others are imported.
func (c *Client) ImportProfiles(ctx context.Context, profiles map[crier.UserID]crier.Profile) ([]crier.UserID, error) {
	type item struct {
		UserID  crier.UserID
		Nick    string `json:",omitempty"`
		FaceUrl string `json:",omitempty"`
	}
	list := make([]item, 0, len(profiles))
	for _, user := range slices.Sorted(maps.Keys(profiles)) {
		list = append(list, item{user, profiles[user].Nick, profiles[user].FaceURL})
	}
	var out struct{ FailAccounts []crier.UserID }
	_, err := c.call(ctx, "im_open_login_svc/multiaccount_import", false, map[string]any{"AccountList": list}, &out)
	return out.FailAccounts, err
}

// Kick ends the sessions of an account; its UserSigs made until now work no
// more. It is tried once: a later kick would turn away later UserSigs.
func (c *Client) Kick(ctx context.Context, user crier.UserID) error {
	_, err := c.call(ctx, "im_open_login_svc/kick", true, map[string]any{"UserID": user}, nil)
	return err
}

type userID struct{ UserID crier.UserID }

func userIDs(users []crier.UserID) []userID {
	list := make([]userID, 0, len(users))
	for _, u := range users {
		list = append(list, userID{u})
	}
	return list
}

// Delete deletes accounts, up to 100. The result has an error for each account
// that could not be deleted. It is tried once: an account may be created anew between two tries.
func (c *Client) Delete(ctx context.Context, users ...crier.UserID) (map[crier.UserID]error, error) {
	var out struct {
		ResultItem []struct {
			UserID     crier.UserID
			ResultCode crier.Code
			ResultInfo string
		}
	}
	if _, err := c.call(ctx, "im_open_login_svc/account_delete", true, map[string]any{"DeleteItem": userIDs(users)}, &out); err != nil {
		return nil, err
	}
	failed := make(map[crier.UserID]error)
	for _, item := range out.ResultItem {
		if item.ResultCode != 0 {
			failed[item.UserID] = &crier.Error{Code: item.ResultCode, Info: item.ResultInfo}
		}
	}
	return failed, nil
}

// Exist reports which of up to 100 accounts exist.
func (c *Client) Exist(ctx context.Context, users ...crier.UserID) (map[crier.UserID]bool, error) {
	var out struct {
		ResultItem []struct {
			UserID        crier.UserID
			AccountStatus string
		}
	}
	if _, err := c.call(ctx, "im_open_login_svc/account_check", false, map[string]any{"CheckItem": userIDs(users)}, &out); err != nil {
		return nil, err
	}
	exist := make(map[crier.UserID]bool)
	for _, item := range out.ResultItem {
		exist[item.UserID] = item.AccountStatus == "Imported"
	}
	return exist, nil
}

// Presence tells who of up to 500 accounts is connected, and on which platforms.
// Accounts that do not exist come last, without Exists.
func (c *Client) Presence(ctx context.Context, users ...crier.UserID) ([]crier.Presence, error) {
	var out struct {
		QueryResult []struct {
			To_Account crier.UserID
			Status     crier.PresenceState
			Detail     []struct {
				Platform crier.Platform
				Status   crier.PresenceState
			}
		}
		ErrorList []struct {
			To_Account crier.UserID
		}
	}
	in := map[string]any{"To_Account": users, "IsNeedDetail": 1}
	if _, err := c.call(ctx, "openim/query_online_status", false, in, &out); err != nil {
		return nil, err
	}
	list := make([]crier.Presence, 0, len(users))
	for _, r := range out.QueryResult {
		p := crier.Presence{User: r.To_Account, Exists: true, State: r.Status}
		for _, d := range r.Detail {
			p.Sessions = append(p.Sessions, crier.SessionPresence{Platform: d.Platform, State: d.Status})
		}
		list = append(list, p)
	}
	for _, e := range out.ErrorList {
		list = append(list, crier.Presence{User: e.To_Account, State: crier.Offline})
	}
	return list, nil
}

// SetAttrNames names the app's attribute slots 0 to 9; slots not given keep their names.
func (c *Client) SetAttrNames(ctx context.Context, names map[int]string) error {
	bySlot := make(map[string]string)
	for slot, name := range names {
		bySlot[strconv.Itoa(slot)] = name
	}
	_, err := c.call(ctx, "openim/im_set_attr_name", false, map[string]any{"AttrNames": bySlot}, nil)
	return err
}

// AttrNames returns the names of the slots that have one.
func (c *Client) AttrNames(ctx context.Context) (map[int]string, error) {
	var out struct{ AttrNames map[string]string }
	if _, err := c.call(ctx, "openim/im_get_attr_name", false, struct{}{}, &out); err != nil {
		return nil, err
	}
	names := make(map[int]string)
	for text, name := range out.AttrNames {
		if slot, err := strconv.Atoi(text); err == nil {
			names[slot] = name
		}
	}
	return names, nil
}

type userAttrs struct {
	To_Account crier.UserID
	Attrs      any
}

// SetAttrs sets attributes of accounts; others keep their values.
func (c *Client) SetAttrs(ctx context.Context, attrs map[crier.UserID]map[string]string) error {
	var list []userAttrs
	for user, values := range attrs {
		list = append(list, userAttrs{user, values})
	}
	_, err := c.call(ctx, "openim/im_set_attr", false, map[string]any{"UserAttrs": list}, nil)
	return err
}

// RemoveAttrs removes the attributes with these names from accounts.
func (c *Client) RemoveAttrs(ctx context.Context, names map[crier.UserID][]string) error {
	var list []userAttrs
	for user, values := range names {
		list = append(list, userAttrs{user, values})
	}
	_, err := c.call(ctx, "openim/im_remove_attr", false, map[string]any{"UserAttrs": list}, nil)
	return err
}

// Attrs returns the attributes of accounts.
func (c *Client) Attrs(ctx context.Context, users ...crier.UserID) (map[crier.UserID]map[string]string, error) {
	var out struct {
		UserAttrs []struct {
			To_Account crier.UserID
			Attrs      map[string]string
		}
	}
	if _, err := c.call(ctx, "openim/im_get_attr", false, map[string]any{"To_Account": users}, &out); err != nil {
		return nil, err
	}
	attrs := make(map[crier.UserID]map[string]string)
	for _, r := range out.UserAttrs {
		attrs[r.To_Account] = r.Attrs
	}
	return attrs, nil
}

type userTags struct {
	To_Account crier.UserID
	Tags       []string
}

func tagList(tags map[crier.UserID][]string) map[string]any {
	var list []userTags
	for user, values := range tags {
		list = append(list, userTags{user, values})
	}
	return map[string]any{"UserTags": list}
}

// AddTags adds tags to accounts.
func (c *Client) AddTags(ctx context.Context, tags map[crier.UserID][]string) error {
	_, err := c.call(ctx, "openim/im_add_tag", false, tagList(tags), nil)
	return err
}

// RemoveTags removes tags from accounts.
func (c *Client) RemoveTags(ctx context.Context, tags map[crier.UserID][]string) error {
	_, err := c.call(ctx, "openim/im_remove_tag", false, tagList(tags), nil)
	return err
}

// RemoveAllTags removes every tag from accounts.
func (c *Client) RemoveAllTags(ctx context.Context, users ...crier.UserID) error {
	_, err := c.call(ctx, "openim/im_remove_all_tags", false, map[string]any{"To_Account": users}, nil)
	return err
}

// Tags returns the tags of accounts.
func (c *Client) Tags(ctx context.Context, users ...crier.UserID) (map[crier.UserID][]string, error) {
	var out struct{ UserTags []userTags }
	if _, err := c.call(ctx, "openim/im_get_tag", false, map[string]any{"To_Account": users}, &out); err != nil {
		return nil, err
	}
	tags := make(map[crier.UserID][]string)
	for _, r := range out.UserTags {
		tags[r.To_Account] = r.Tags
	}
	return tags, nil
}
