package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

// kinds are a value of every JSON kind, by a letter. The list and the object
// hold what is wrong in every list and object of the API.
var kinds = map[rune]string{'n': "null", 's': `"x"`, 'i': "5", 'f': "1.5", 'b': "true", 'l': "[[]]", 'o': `{"x":{}}`}

var kindNames = map[rune]string{'n': "null", 's': "a string", 'i': "an integer", 'f': "a fraction", 'b': "a boolean", 'l': "a list", 'o': "an object"}

// field is one field of a command, and the outcome of each kind of value: codes maps the letters
// of kinds to a code, 0 for success. The body has %s in the place of the value, and %r in that of a fresh MsgRandom.
type field struct {
	command, name, body string
	codes               map[string]crier.Code
}

const (
	element  = `{"MsgRandom":%r,"MsgBody":[{"MsgType":"%t","MsgContent":%s}]}`
	notFound = crier.CodeUnknownAccount
)

// fields are those of every command. Every JSON kind is tried in each.
var fields = append(append(append(append([]field{
	{"im_push", "MsgRandom", `{"MsgRandom":%s,"MsgBody":` + hello + `}`, map[string]crier.Code{"i": 0, "nsfblo": crier.CodeBadMsgRandom}},
	{"im_push", "MsgBody", `{"MsgRandom":%r,"MsgBody":%s}`, map[string]crier.Code{"n": crier.CodeNoMsgBody, "l": crier.CodeBadElement, "sifbo": crier.CodeMsgBodyNotArray}},
	{"im_push", "an element", `{"MsgRandom":%r,"MsgBody":[%s]}`, map[string]crier.Code{"nsifblo": crier.CodeBadElement}},
	{"im_push", "MsgType", `{"MsgRandom":%r,"MsgBody":[{"MsgType":%s,"MsgContent":{}}]}`, map[string]crier.Code{"nsifblo": crier.CodeBadElement}},
	{"im_push", "MsgLifeTime", pushWith("MsgLifeTime"), map[string]crier.Code{"ni": 0, "sfblo": crier.CodeBadLifeTime}},
	{"im_push", "From_Account", pushWith("From_Account"), map[string]crier.Code{"n": 0, "s": notFound, "ifblo": crier.CodeBadIdentifier}},
	{"im_push", "Condition", pushWith("Condition"), map[string]crier.Code{"n": 0, "sifblo": crier.CodeBadCondition}},
	{"im_push", "OfflinePushInfo", pushWith("OfflinePushInfo"), map[string]crier.Code{"no": 0, "sifbl": crier.CodeBadOfflinePush}},
	{"im_get_push_report", "TaskIds", `{"TaskIds":%s}`, map[string]crier.Code{"n": crier.CodeNoTasks, "sifblo": crier.CodeUnknownTask}},
	{"im_get_push_report", "a TaskId", `{"TaskIds":[%s]}`, map[string]crier.Code{"nsifblo": crier.CodeUnknownTask}},
	{"im_set_attr_name", "AttrNames", `{"AttrNames":%s}`, map[string]crier.Code{"nsifblo": crier.CodeBadAttr}},
	{"im_set_attr_name", "a name", `{"AttrNames":{"7":%s}}`, map[string]crier.Code{"ns": 0, "ifblo": crier.CodeBadAttr}},
	{"im_set_attr_name", "a name of a list", `{"AttrNames":[%s]}`, map[string]crier.Code{"n": 0, "sifblo": crier.CodeBadAttr}}, // "x" is the name of slot 7
}, elementFields()...), conditionFields()...), offlineFields()...), accountFields()...)

// pushWith is a good push but for one field.
func pushWith(name string) string {
	return `{"MsgRandom":%r,"MsgBody":` + hello + `,"` + name + `":%s}`
}

func elementFields() (all []field) {
	add := func(kind, name string, codes map[string]crier.Code) {
		all = append(all, field{"im_push", kind + "." + name, strings.NewReplacer("%t", kind, "%s", `{"`+name+`":%s}`).Replace(element), codes})
	}
	for _, kind := range []string{"TIMTextElem", "TIMLocationElem", "TIMFaceElem", "TIMCustomElem", "TIMSoundElem", "TIMImageElem", "TIMFileElem", "TIMVideoFileElem"} {
		codes := map[string]crier.Code{"o": 0, "nsifbl": crier.CodeBadElement}
		if kind == "TIMTextElem" { // which needs its Text
			codes = map[string]crier.Code{"nsifblo": crier.CodeBadElement}
		}
		all = append(all, field{"im_push", kind + ".MsgContent", strings.Replace(element, "%t", kind, 1), codes})
	}
	text := map[string]crier.Code{"ns": 0, "ifblo": crier.CodeBadElement}
	number := map[string]crier.Code{"nif": 0, "sblo": crier.CodeBadElement}
	add("TIMTextElem", "Text", map[string]crier.Code{"s": 0, "nifblo": crier.CodeBadElement})
	add("TIMLocationElem", "Desc", text)
	add("TIMLocationElem", "Latitude", number)
	add("TIMLocationElem", "Longitude", number)
	add("TIMFaceElem", "Index", number)
	for kind, names := range map[string][]string{"TIMFaceElem": {"Data"}, "TIMCustomElem": {"Data", "Desc", "Ext", "Sound"}} {
		for _, name := range names {
			add(kind, name, text)
		}
	}
	for _, kind := range []string{"TIMSoundElem", "TIMImageElem", "TIMFileElem", "TIMVideoFileElem"} {
		add(kind, "Any", map[string]crier.Code{"nsifblo": 0}) // carried through as given
	}
	return all
}

func conditionFields() (all []field) {
	add := func(name, value string, codes map[string]crier.Code) {
		all = append(all, field{"im_push", "Condition." + name, strings.Replace(pushWith("Condition"), "%s", value, 1), codes})
	}
	for _, name := range []string{"TagsOr", "TagsAnd", "TagsNot"} {
		add(name, `{"`+name+`":%s}`, map[string]crier.Code{"n": 0, "sifblo": crier.CodeBadCondition})
		add(name+"[0]", `{"`+name+`":[%s]}`, map[string]crier.Code{"s": 0, "nifblo": crier.CodeBadCondition})
	}
	for _, name := range []string{"AttrsOr", "AttrsAnd"} {
		add(name, `{"`+name+`":%s}`, map[string]crier.Code{"n": 0, "sifblo": crier.CodeBadCondition})
		add(name+".sex", `{"`+name+`":{"sex":%s}}`, map[string]crier.Code{"sifb": 0, "n": crier.CodeBadAttr, "lo": crier.CodeBadCondition})
	}
	add("Unknown", `{"Unknown":%s}`, map[string]crier.Code{"n": 0, "sifblo": crier.CodeBadCondition})
	return all
}

// offlineFields are those of OfflinePushInfo, by the kind that each takes.
func offlineFields() (all []field) {
	wrong := crier.CodeBadOfflinePush
	codes := map[string]map[string]crier.Code{
		"text": {"ns": 0, "ifblo": wrong}, "integer": {"ni": 0, "sfblo": wrong}, "object": {"no": 0, "sifbl": wrong},
	}
	for part, byKind := range map[string]map[string]string{
		"": {
			"text": "Title Desc Ext PushTemplateId", "integer": "BadgeAddNum BadgeSetNum",
			"object": "PushTemplateParam AndroidInfo ApnsInfo HarmonyInfo",
		},
		"AndroidInfo": {
			"text": "Sound XiaoMiChannelID OPPOChannelID OPPOCategory OPPOPrivateMsgTemplateId VIVOCategory VIVONotifyType HuaWeiChannelID HuaWeiImportance HuaWeiCategory HuaWeiImage " +
				"HonorImage HonorImportance GoogleImage GooglePriority GoogleChannelID",
			"integer": "PushStyle OPPONotifyLevel VIVOClassification MeiZuNoticeMsgType ExtAsHuaweiIntentParam",
			"object":  "OPPOPrivateTitleParameters OPPOPrivateContentParameters",
		},
		"ApnsInfo": {
			"text": "Title SubTitle Image Sound", "integer": "MutableContent ContentAvailable IsVoipPush", "object": "LiveActivity",
		},
		"HarmonyInfo": {"text": "Title Category Image Sound", "integer": "SoundDuration"},
	} {
		for kind, names := range byKind {
			for _, name := range strings.Fields(names) {
				value, path := `{"`+name+`":%s}`, name
				if part != "" {
					value, path = `{"`+part+`":`+value+`}`, part+"."+name
				}
				all = append(all, field{"im_push", "OfflinePushInfo." + path, strings.Replace(pushWith("OfflinePushInfo"), "%s", value, 1), codes[kind]})
			}
		}
	}
	// 5 is no flag and no mode, "x" no level: these have their good values in the cases of pushes.
	for path, value := range map[string]string{
		"PushFlag":           `{"PushFlag":%s}`,
		"ApnsInfo.BadgeMode": `{"ApnsInfo":{"BadgeMode":%s}}`, "ApnsInfo.InterruptionLevel": `{"ApnsInfo":{"InterruptionLevel":%s}}`,
	} {
		all = append(all, field{
			"im_push", "OfflinePushInfo." + path, strings.Replace(pushWith("OfflinePushInfo"), "%s", value, 1), map[string]crier.Code{"n": 0, "sifblo": wrong},
		})
	}
	// An object stands for a list of one.
	all = append(all, field{
		"im_push", "OfflinePushInfo.MultiLanguageContent", strings.Replace(pushWith("OfflinePushInfo"), "%s", `{"MultiLanguageContent":%s}`, 1), map[string]crier.Code{"no": 0, "sifbl": wrong},
	})
	return all
}

// accountFields are those of the commands on accounts.
func accountFields() (all []field) {
	add := func(commands, name, body string, codes map[string]crier.Code) {
		for _, command := range strings.Fields(commands) {
			all = append(all, field{command, name, body, codes})
		}
	}
	none := crier.CodeBadAccountCount
	accounts := map[string]crier.Code{"n": crier.CodeBadAccount, "s": notFound, "ifblo": crier.CodeBadIdentifier}
	for _, list := range []string{"UserAttrs", "Attrs"} {
		body := `{"` + list + `":%s}`
		add("im_set_attr", list, body, map[string]crier.Code{"n": none, "o": crier.CodeBadAccount, "sifbl": crier.CodeBadSetAttr})
		add("im_remove_attr", list, body, map[string]crier.Code{"n": none, "o": crier.CodeBadAccount, "sifbl": crier.CodeBadRemoveAttr})
	}
	add("im_set_attr im_remove_attr", "To_Account", `{"UserAttrs":[{"To_Account":%s,"Attrs":[]}]}`, accounts)
	add("im_set_attr", "Attrs of an entry", `{"UserAttrs":[{"To_Account":"a","Attrs":%s}]}`, map[string]crier.Code{"nsifblo": crier.CodeBadSetAttr})
	add("im_set_attr", "a value", `{"UserAttrs":[{"To_Account":"a","Attrs":{"sex":%s}}]}`, map[string]crier.Code{"nsifb": 0, "lo": crier.CodeBadSetAttr})
	add("im_remove_attr", "Attrs of an entry", `{"UserAttrs":[{"To_Account":"a","Attrs":%s}]}`,
		map[string]crier.Code{"s": crier.CodeBadAttr, "o": crier.CodeBadAttr, "nifbl": crier.CodeBadRemoveAttr}) // a name, and the key of a map, that the app has not
	add("im_remove_attr", "a name", `{"UserAttrs":[{"To_Account":"a","Attrs":["sex",%s]}]}`, map[string]crier.Code{"s": crier.CodeBadAttr, "nifblo": crier.CodeBadRemoveAttr})
	for _, list := range []string{"UserTags", "Tags"} {
		add("im_add_tag im_remove_tag", list, `{"`+list+`":%s}`, map[string]crier.Code{"n": none, "o": crier.CodeBadAccount, "sifbl": crier.CodeTagBadValue})
	}
	add("im_add_tag im_remove_tag", "To_Account", `{"UserTags":[{"To_Account":%s,"Tags":[]}]}`, accounts)
	add("im_add_tag im_remove_tag", "Tags of an entry", `{"UserTags":[{"To_Account":"a","Tags":%s}]}`, map[string]crier.Code{"s": 0, "nifblo": crier.CodeTagBadValue})
	add("im_add_tag im_remove_tag", "a tag", `{"UserTags":[{"To_Account":"a","Tags":["y",%s]}]}`, map[string]crier.Code{"s": 0, "nifblo": crier.CodeTagBadValue})

	add("im_get_attr", "To_Account", `{"To_Account":%s}`, map[string]crier.Code{"n": none, "s": notFound, "l": crier.CodeBadIdentifier, "ifbo": crier.CodeBadGetAttr})
	add("im_get_tag im_remove_all_tags", "To_Account", `{"To_Account":%s}`, map[string]crier.Code{"n": none, "s": notFound, "l": crier.CodeBadIdentifier, "ifbo": crier.CodeNoToAccount})
	add("im_get_attr im_get_tag im_remove_all_tags", "an account", `{"To_Account":["a",%s]}`, accounts)
	const presence = "querystate query_online_status"
	add(presence, "To_Account", `{"To_Account":%s}`, map[string]crier.Code{"s": 0, "l": crier.CodeBadIdentifier, "nifbo": crier.CodeNoToAccount})
	add(presence, "an account", `{"To_Account":["a",%s]}`, map[string]crier.Code{"n": crier.CodeBadAccount, "s": 0, "ifblo": crier.CodeBadIdentifier})
	for _, name := range []string{"IsNeedDetail", "IsReturnInstid"} {
		add(presence, name, `{"To_Account":"a","`+name+`":%s}`, map[string]crier.Code{"nsifblo": 0}) // anything but 1 is 0
	}

	name, text := map[string]crier.Code{"s": 0, "nifblo": crier.CodeBadParameter}, map[string]crier.Code{"ns": 0, "ifblo": crier.CodeBadParameter}
	for _, user := range []string{"UserID", "Identifier"} {
		add("account_import", user, `{"`+user+`":%s}`, name)
		add("kick", user, `{"`+user+`":%s}`, map[string]crier.Code{"s": 0, "nifblo": crier.CodeBadParameter})
		add("multiaccount_import", "AccountList."+user, `{"AccountList":[{"`+user+`":%s}]}`, name)
		add("account_check", "CheckItem."+user, `{"CheckItem":[{"`+user+`":%s}]}`, name)
		add("account_delete", "DeleteItem."+user, `{"DeleteItem":[{"`+user+`":%s}]}`, name)
	}
	for _, profile := range []string{"Nick", "FaceUrl"} {
		add("account_import", profile, `{"UserID":"a","`+profile+`":%s}`, text)
		add("multiaccount_import", profile, `{"AccountList":[{"UserID":"a","`+profile+`":%s}]}`, text)
	}
	add("account_import", "Type", `{"UserID":"a","Type":%s}`, map[string]crier.Code{"nsifblo": 0})
	for command, lists := range map[string][]string{"multiaccount_import": {"AccountList", "Accounts"}, "account_check": {"CheckItem"}, "account_delete": {"DeleteItem"}} {
		for _, list := range lists {
			add(command, list, `{"`+list+`":%s}`, name)
			add(command, "an item of "+list, `{"`+list+`":["late",%s]}`, name)
		}
	}
	return all
}

// types tries every JSON kind in every field of every command.
func types(t *testing.T, s *suite) {
	random := 1000
	tenants := make(map[string]*tenant) // one a command, so that what one creates exists for no other
	for _, f := range fields {
		if tenants[f.command] == nil {
			tenants[f.command] = s.typesTenant(t, f.command)
		}
		a := tenants[f.command]
		t.Run(f.command+"/"+f.name, func(t *testing.T) {
			left := len(kinds)
			for letters, code := range f.codes {
				for _, kind := range letters {
					left--
					random++
					body := strings.NewReplacer("%r", fmt.Sprint(random), "%s", kinds[kind]).Replace(f.body)
					if r := a.call(t, s.path(f.command), body); r.code() != code {
						t.Errorf("%s: %s: %v, want %v", kindNames[kind], body, r, code)
					}
				}
			}
			if left != 0 {
				t.Errorf("%d kinds have no outcome", left)
			}
		})
	}
}

// typesTenant is an app with the account a and the attribute sex; also with the account x for kick, which takes
// only what exists, and the attribute x for im_set_attr_name.
func (s *suite) typesTenant(t *testing.T, command string) *tenant {
	t.Helper()
	a := s.newTenant(t)
	a.accounts(t, "a")
	if command == "kick" {
		a.accounts(t, "x")
	}
	names := `{"AttrNames":{"0":"sex"}}`
	if command == "im_set_attr_name" {
		names = `{"AttrNames":{"0":"sex","7":"x"}}`
	}
	a.ok(t, "openim/im_set_attr_name", names)
	return a
}
