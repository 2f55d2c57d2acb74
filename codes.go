package crier

import "strconv"

// Code is an error code of the wire contract. It is an error itself, so that a
// wrapped one is found with errors.Is.
type Code int

// Error returns the number and what it means.
func (c Code) Error() string { return strconv.Itoa(int(c)) + ": " + c.Text() }

// Text returns what the code means in general, "" for a code that Crier never uses.
func (c Code) Text() string { return codeTexts[c] }

// Codes returns every code that Crier uses, in no order.
func Codes() []Code {
	codes := make([]Code, 0, len(codeTexts))
	for c := range codeTexts {
		codes = append(codes, c)
	}
	return codes
}

// The codes. Their numbers and meanings are the wire contract's (docs/api.md
// lists which command answers which).
const (
	CodeBadRequest       Code = 60002 // HTTP or URL form
	CodeBadEnvelope      Code = 60003 // body is not a JSON object; only before a command is known
	CodeBadSDKAppID      Code = 60006
	CodeRateLimited      Code = 60007
	CodeTimeout          Code = 60008
	CodeUnknownCommand   Code = 60009
	CodeNotAdmin         Code = 60010
	CodeMissingSDKAppID  Code = 60012
	CodeBadIdentifier    Code = 60015
	CodeAppDisabled      Code = 60016
	CodeSigExpired       Code = 70001
	CodeSigMissing       Code = 70002
	CodeSigMalformed     Code = 70003
	CodeSigWrong         Code = 70009
	CodeSigIdentifier    Code = 70013
	CodeSigSDKAppID      Code = 70014
	CodeAppWithoutKey    Code = 70016
	CodeUnknownApp       Code = 70020
	CodeTooManyFailures  Code = 70050
	CodeSigRevoked       Code = 70052
	CodeAccountMissing   Code = 70107
	CodeBadParameter     Code = 70402
	CodeAccountAdmin     Code = 70403
	CodeAccountInternal  Code = 70500
	CodeBadJSON          Code = 90001
	CodeNoMsgBody        Code = 90002
	CodeNoToAccount      Code = 90003
	CodeBadMsgRandom     Code = 90005
	CodeMsgBodyNotArray  Code = 90007
	CodeNotAppAdmin      Code = 90009
	CodeBadElement       Code = 90010
	CodeTooManyPresence  Code = 90011
	CodeTooManyTasks     Code = 90014
	CodeNoTasks          Code = 90015
	CodeUnknownTask      Code = 90016
	CodeBadAccountCount  Code = 90018
	CodeBadSetAttr       Code = 90019
	CodeTagTooLong       Code = 90020
	CodeBadRemoveAttr    Code = 90021
	CodeTagTwice         Code = 90022
	CodeBadGetAttr       Code = 90023
	CodePushTooSoon      Code = 90024
	CodePushRepeated     Code = 90025
	CodeLifeTimeTooLong  Code = 90026
	CodeBadCondition     Code = 90027
	CodeTooManyTags      Code = 90032
	CodeBadAttr          Code = 90033
	CodeTagBadValue      Code = 90034
	CodeBadAccount       Code = 90035
	CodeMixedCondition   Code = 90039
	CodeTagEmpty         Code = 90040
	CodeBadOfflinePush   Code = 90043
	CodeBadLifeTime      Code = 90044
	CodePushOff          Code = 90045
	CodeAccountTagsFull  Code = 90046
	CodePushQuota        Code = 90047
	CodeUnknownAccount   Code = 90048
	CodePushBodyTooLarge Code = 90056
	CodeInternal         Code = 91000
	CodeBodyTooLarge     Code = 93000
)

var codeTexts = map[Code]string{
	CodeBadRequest:       "the HTTP request or its URL is malformed",
	CodeBadEnvelope:      "the body is not a JSON object",
	CodeBadSDKAppID:      "sdkappid is invalid",
	CodeRateLimited:      "too many calls of this command in a second",
	CodeTimeout:          "the call could not be finished in time; its outcome is unknown, try again",
	CodeUnknownCommand:   "no such service or command",
	CodeNotAdmin:         "identifier is not an admin of the app",
	CodeMissingSDKAppID:  "sdkappid is missing",
	CodeBadIdentifier:    "identifier or account name is not a string",
	CodeAppDisabled:      "the app is disabled",
	CodeSigExpired:       "the UserSig has expired",
	CodeSigMissing:       "the UserSig is missing",
	CodeSigMalformed:     "the UserSig can't be decoded",
	CodeSigWrong:         "the UserSig's signature is wrong: made with another app's key, or an old one",
	CodeSigIdentifier:    "the UserSig was made for another identifier",
	CodeSigSDKAppID:      "the UserSig was made for another sdkappid",
	CodeAppWithoutKey:    "the app has no key",
	CodeUnknownApp:       "no such app",
	CodeTooManyFailures:  "too many failed logins, wait a minute",
	CodeSigRevoked:       "the UserSig was made before the account was kicked",
	CodeAccountMissing:   "the account does not exist",
	CodeBadParameter:     "a parameter is invalid",
	CodeAccountAdmin:     "the call needs an admin of the app",
	CodeAccountInternal:  "internal error of the account service, try again",
	CodeBadJSON:          "the body is not the JSON that the command takes",
	CodeNoMsgBody:        "MsgBody is missing or empty",
	CodeNoToAccount:      "To_Account is missing or malformed",
	CodeBadMsgRandom:     "MsgRandom is missing or not an integer in 0..4294967295",
	CodeMsgBodyNotArray:  "MsgBody is not an array",
	CodeNotAppAdmin:      "identifier is not an admin of the app",
	CodeBadElement:       "a message element is malformed",
	CodeTooManyPresence:  "too many accounts in a presence query",
	CodeTooManyTasks:     "too many TaskIds",
	CodeNoTasks:          "no TaskIds",
	CodeUnknownTask:      "no such TaskId",
	CodeBadAccountCount:  "no account, or too many in one call",
	CodeBadSetAttr:       "an entry of im_set_attr is malformed",
	CodeTagTooLong:       "a tag is over 50 bytes",
	CodeBadRemoveAttr:    "an entry of im_remove_attr is malformed",
	CodeTagTwice:         "a tag stands in TagsOr and in TagsAnd",
	CodeBadGetAttr:       "an entry of im_get_attr is malformed",
	CodePushTooSoon:      "the last push was too short a time ago",
	CodePushRepeated:     "the MsgRandom was used before",
	CodeLifeTimeTooLong:  "MsgLifeTime is over 7 days",
	CodeBadCondition:     "Condition is malformed",
	CodeTooManyTags:      "too many tags in a condition or in one call",
	CodeBadAttr:          "an attribute name or value is invalid, or the app has not set the name",
	CodeTagBadValue:      "a tag or attribute value is invalid",
	CodeBadAccount:       "not an account name",
	CodeMixedCondition:   "a condition can't mix tags and attributes",
	CodeTagEmpty:         "a tag is empty",
	CodeBadOfflinePush:   "OfflinePushInfo is malformed",
	CodeBadLifeTime:      "MsgLifeTime is not an integer of 0 or more",
	CodePushOff:          "push is not enabled for the app",
	CodeAccountTagsFull:  "the account would have too many tags",
	CodePushQuota:        "the app's quota of pushes is used up",
	CodeUnknownAccount:   "the account does not exist",
	CodePushBodyTooLarge: "the body of the push is too large",
	CodeInternal:         "internal error, try again",
	CodeBodyTooLarge:     "the body is too large",
}
