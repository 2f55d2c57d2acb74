package rest

import (
	"context"
	"slices"

	"github.com/crier-im/crier"
)

// command is one call of the API. The table of them is the one source of
// routing, of the list in docs/api.md, and of what the contract tests must cover.
type command struct {
	services  []string // the path prefixes that it answers under
	name      string
	about     string
	fields    string       // of the request, as docs/api.md shows them
	answers   string       // fields of the answer
	codes     []crier.Code // beside those that every call has
	notAdmin  crier.Code   // for an identifier that is no admin
	unlimited bool         // no limit of calls a second: it has one of its own
	handle    func(context.Context, *call) (answer, error)
}

// commonCodes are those that every command can answer.
var commonCodes = []crier.Code{
	crier.CodeBadRequest, crier.CodeMissingSDKAppID, crier.CodeBadSDKAppID, crier.CodeUnknownApp, crier.CodeAppDisabled,
	crier.CodeBadIdentifier, crier.CodeSigMissing, crier.CodeSigMalformed, crier.CodeSigSDKAppID, crier.CodeSigIdentifier,
	crier.CodeSigExpired, crier.CodeSigWrong, crier.CodeAppWithoutKey, crier.CodeRateLimited, crier.CodeBadJSON,
	crier.CodeBodyTooLarge, crier.CodeTimeout, crier.CodeInternal,
}

var push, account, presence = []string{"openim", "all_member_push"}, []string{"im_open_login_svc"}, []string{"openim"}

var commands []*command

func init() {
	users := []crier.Code{crier.CodeBadAccountCount, crier.CodeBadAccount, crier.CodeBadIdentifier, crier.CodeUnknownAccount}
	with := func(codes ...crier.Code) []crier.Code { return append(slices.Clone(users), codes...) }
	commands = []*command{
		{
			services: push, name: "im_push", about: "Push to all accounts, by tags, or by attributes.",
			fields:  "`MsgRandom`, `MsgBody`, [`MsgLifeTime`], [`From_Account`], [`Condition`], [`OfflinePushInfo`]",
			answers: "`TaskId`", unlimited: true, handle: imPush,
			codes: []crier.Code{
				crier.CodeBadMsgRandom, crier.CodeNoMsgBody, crier.CodeMsgBodyNotArray, crier.CodeBadElement, crier.CodeBadLifeTime,
				crier.CodeLifeTimeTooLong, crier.CodeBadIdentifier, crier.CodeBadAccount, crier.CodeUnknownAccount, crier.CodeBadCondition, crier.CodeMixedCondition,
				crier.CodeTooManyTags, crier.CodeTagTooLong, crier.CodeTagEmpty, crier.CodeTagTwice, crier.CodeTagBadValue, crier.CodeBadAttr,
				crier.CodeBadOfflinePush, crier.CodePushOff, crier.CodePushTooSoon, crier.CodePushQuota, crier.CodePushRepeated, crier.CodePushBodyTooLarge,
			},
		},
		{
			services: push, name: "im_get_push_report", about: "How far pushes are.", fields: "`TaskIds`: up to 500",
			answers: "`Reports`: [`TaskId`, `Status` 0 waiting, 1 running, 2 done, `StartTime` in UTC+8, `Finished`, `Total`]",
			codes:   []crier.Code{crier.CodeNoTasks, crier.CodeTooManyTasks, crier.CodeUnknownTask}, handle: imGetPushReport,
		},
		{services: push, name: "im_set_attr_name", about: "Name the app's attributes.", fields: "`AttrNames`: {\"0\": name, ... \"9\"}", codes: []crier.Code{crier.CodeBadAttr}, handle: imSetAttrName},
		{services: push, name: "im_get_attr_name", about: "The app's attribute names.", answers: "`AttrNames`, the set ones", handle: imGetAttrName},
		{
			services: push, name: "im_set_attr", about: "Set attributes of accounts; others keep their value.",
			fields: "`UserAttrs` (or `Attrs`): [`To_Account`, `Attrs`: {name: value}]", codes: with(crier.CodeBadSetAttr, crier.CodeBadAttr), handle: imSetAttr,
		},
		{
			services: push, name: "im_remove_attr", about: "Remove attributes of accounts.",
			fields: "`UserAttrs` (or `Attrs`): [`To_Account`, `Attrs`: [name]]", codes: with(crier.CodeBadRemoveAttr, crier.CodeBadAttr), handle: imRemoveAttr,
		},
		{
			services: push, name: "im_get_attr", about: "Attributes of accounts.", fields: "`To_Account`",
			answers: "`UserAttrs` and `Attrs`: [`To_Account`, `Attrs`]", codes: with(crier.CodeBadGetAttr), handle: imGetAttr,
		},
		{
			services: push, name: "im_add_tag", about: "Add tags to accounts: up to 10 an account a call, 100 an account in all.",
			fields: "`UserTags` (or `Tags`): up to 100 of [`To_Account`, `Tags`]",
			codes:  with(crier.CodeTooManyTags, crier.CodeTagTooLong, crier.CodeTagEmpty, crier.CodeTagBadValue, crier.CodeAccountTagsFull), handle: imAddTag,
		},
		{services: push, name: "im_get_tag", about: "Tags of accounts.", fields: "`To_Account`", answers: "`UserTags` and `Tags`: [`To_Account`, `Tags`]", codes: with(crier.CodeNoToAccount), handle: imGetTag},
		{
			services: push, name: "im_remove_tag", about: "Remove tags of accounts.", fields: "`UserTags` (or `Tags`): [`To_Account`, `Tags`]",
			codes: with(crier.CodeTooManyTags, crier.CodeTagTooLong, crier.CodeTagEmpty, crier.CodeTagBadValue), handle: imRemoveTag,
		},
		{services: push, name: "im_remove_all_tags", about: "Remove every tag of accounts.", fields: "`To_Account`", codes: with(crier.CodeNoToAccount), handle: imRemoveAllTags},
		{
			services: presence, name: "querystate", about: "Who is connected, as the older SDKs ask.", fields: "`To_Account`: up to 500",
			answers: "`QueryResult`: [`To_Account`, `State`], `ErrorList`", codes: presenceCodes, handle: queryState,
		},
		{
			services: presence, name: "query_online_status", about: "Who is connected.", fields: "`To_Account`: up to 500, [`IsNeedDetail`, `IsReturnInstid`: 0 or 1]",
			answers: "`QueryResult`: [`To_Account`, `Status`, [`Detail`: [`Platform`, `Status`, [`Instid`]]]], `ErrorList`", codes: presenceCodes, handle: queryOnlineStatus,
		},
		{services: account, name: "account_import", about: "Create an account, or update its profile.", fields: "`UserID` (or `Identifier`), [`Nick`], [`FaceUrl`]", codes: []crier.Code{crier.CodeBadParameter}, handle: accountImport},
		{services: account, name: "multiaccount_import", about: "Create up to 100 accounts.", fields: "`AccountList`: [`UserID`, [`Nick`], [`FaceUrl`]], or `Accounts`: [name]", answers: "`FailAccounts`: names that are none", codes: []crier.Code{crier.CodeBadParameter}, handle: multiaccountImport},
		{services: account, name: "account_check", about: "Which of up to 100 accounts exist.", fields: "`CheckItem`: [`UserID`]", answers: "`ResultItem`: [`UserID`, `ResultCode`, `ResultInfo`, `AccountStatus`]", codes: []crier.Code{crier.CodeBadParameter}, handle: accountCheck},
		{services: account, name: "account_delete", about: "Delete up to 100 accounts, their mailboxes and sessions.", fields: "`DeleteItem`: [`UserID`]", answers: "`ResultItem`: [`UserID`, `ResultCode`, `ResultInfo`]", codes: []crier.Code{crier.CodeBadParameter, crier.CodeAccountMissing}, handle: accountDelete},
		{services: account, name: "kick", about: "Close an account's sessions; UserSigs made up to now stop working.", fields: "`UserID` (or `Identifier`)", codes: []crier.Code{crier.CodeBadParameter, crier.CodeAccountMissing}, handle: kick},
	}
	for _, c := range commands {
		c.notAdmin = crier.CodeNotAppAdmin
		if &c.services[0] == &account[0] {
			c.notAdmin = crier.CodeNotAdmin
		}
	}
}

var presenceCodes = []crier.Code{crier.CodeNoToAccount, crier.CodeTooManyPresence, crier.CodeBadAccount, crier.CodeBadIdentifier}

// find returns a command by its path, nil if there is none. Case matters.
func find(service, name string) *command {
	for _, c := range commands {
		if slices.Contains(c.services, service) && c.name == name {
			return c
		}
	}
	return nil
}

// Command describes a call of the API, for documents and tests.
type Command struct {
	Services        []string
	Name, About     string
	Fields, Answers string       // Markdown
	Codes           []crier.Code // that it can answer, those of every command included
}

// Commands returns every call of the API, in the order of the documents.
func Commands() []Command {
	all := make([]Command, len(commands))
	for i, c := range commands {
		all[i] = Command{c.services, c.name, c.about, c.fields, c.answers, slices.Concat(c.codes, []crier.Code{c.notAdmin}, commonCodes)}
	}
	return all
}
