package rest

import (
	"fmt"

	"github.com/crier-im/crier"
)

// offlineFields are the known fields of OfflinePushInfo and the JSON kind of each;
// '{' has fields of its own below, "" holds any.
var offlineFields = map[string]map[string]byte{
	"": {
		"PushFlag": '0', "Title": '"', "Desc": '"', "Ext": '"', "MultiLanguageContent": '[', "BadgeAddNum": '0', "BadgeSetNum": '0',
		"PushTemplateId": '"', "PushTemplateParam": '{', "AndroidInfo": '{', "ApnsInfo": '{', "HarmonyInfo": '{',
	},
	"AndroidInfo": {
		"Sound": '"', "PushStyle": '0', "XiaoMiChannelID": '"', "OPPOChannelID": '"', "OPPOCategory": '"', "OPPONotifyLevel": '0',
		"OPPOPrivateMsgTemplateId": '"', "OPPOPrivateTitleParameters": '{', "OPPOPrivateContentParameters": '{', "VIVOClassification": '0',
		"VIVOCategory": '"', "VIVONotifyType": '"', "HuaWeiChannelID": '"', "HuaWeiImportance": '"', "HuaWeiCategory": '"', "HuaWeiImage": '"', "HonorImage": '"',
		"HonorImportance": '"', "GoogleImage": '"', "GooglePriority": '"', "GoogleChannelID": '"', "MeiZuNoticeMsgType": '0', "ExtAsHuaweiIntentParam": '0',
	},
	"ApnsInfo": {
		"BadgeMode": '0', "Title": '"', "SubTitle": '"', "Image": '"', "MutableContent": '0', "Sound": '"', "InterruptionLevel": '"',
		"ContentAvailable": '0', "IsVoipPush": '0', "LiveActivity": '{',
	},
	"HarmonyInfo": {"Title": '"', "Category": '"', "Image": '"', "Sound": '"', "SoundDuration": '0'},
}

// languageFields are those of an entry of MultiLanguageContent.
var languageFields = map[string]byte{"Language": '"', "Title": '"', "Desc": '"'}

var kindNames = map[byte]string{'0': "an integer", '"': "a string", '[': "an array", '{': "an object"}

// readOffline reads OfflinePushInfo. Vendors' own fields are checked for their kind, and kept in
// the one form that what reads them later knows.
func readOffline(c *call, req *crier.PushRequest) error {
	v := c.body.get("OfflinePushInfo")
	switch {
	case v == nil:
		return nil
	case v.is('[') && len(v.list) == 0:
		v = &value{kind: '{'}
	case !v.is('{'):
		return crier.Errorf(crier.CodeBadOfflinePush, "OfflinePushInfo is not an object")
	}
	if err := normalOffline(v); err != nil {
		return err
	}
	flag, _ := v.get("PushFlag").integer()
	if flag != 0 && flag != 1 {
		return crier.Errorf(crier.CodeBadOfflinePush, "OfflinePushInfo.PushFlag is not 0 or 1")
	}
	text := func(name string) string {
		if f := v.get(name); f != nil {
			return f.text
		}
		return ""
	}
	req.Message.Offline = crier.OfflinePush{
		NoVendor: flag == 1, Title: text("Title"), Desc: text("Desc"), Ext: text("Ext"), Raw: v.normalJSON(),
	}
	_, err := req.Message.Offline.ApnsOptions() // the ranges of its numbers and words
	return err
}

// normalOffline checks the known fields of OfflinePushInfo, and puts them into their one form.
func normalOffline(v *value) error {
	if err := normalFields(v, "OfflinePushInfo", offlineFields[""]); err != nil {
		return err
	}
	for part, fields := range offlineFields {
		if f := v.get(part); f != nil && part != "" {
			if err := normalFields(f, "OfflinePushInfo."+part, fields); err != nil {
				return err
			}
		}
	}
	if f := v.get("MultiLanguageContent"); f != nil {
		for i, e := range f.list {
			name := fmt.Sprintf("OfflinePushInfo.MultiLanguageContent[%d]", i)
			if e == nil {
				continue
			}
			if !e.is('{') {
				return crier.Errorf(crier.CodeBadOfflinePush, "%s is not an object", name)
			}
			if err := normalFields(e, name, languageFields); err != nil {
				return err
			}
		}
	}
	return nil
}

// normalFields checks the fields of one object, called name. An empty list becomes an empty object and an object
// a list of one, where such a one belongs, and 5.0 becomes 5.
func normalFields(v *value, name string, fields map[string]byte) error {
	for field, kind := range fields {
		f := v.get(field)
		if f == nil {
			continue
		}
		n, whole := f.integer()
		switch {
		case kind == '0' && whole:
			f.setInteger(n)
		case kind == '0':
			return crier.Errorf(crier.CodeBadOfflinePush, "%s.%s is not %s", name, field, kindNames[kind])
		case kind == '{' && f.is('[') && len(f.list) == 0:
			*f = value{kind: '{'}
		case kind == '[' && f.is('{'):
			one := *f
			*f = value{kind: '[', list: []*value{&one}}
		case f.kind != kind:
			return crier.Errorf(crier.CodeBadOfflinePush, "%s.%s is not %s", name, field, kindNames[kind])
		}
	}
	return nil
}
