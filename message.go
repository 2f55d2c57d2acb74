package crier

import (
	"encoding/json"
	"strings"
)

// ElementType is the MsgType of a message element.
type ElementType string

// The element types of the wire contract.
const (
	TextElement     ElementType = "TIMTextElem"
	LocationElement ElementType = "TIMLocationElem"
	FaceElement     ElementType = "TIMFaceElem"
	CustomElement   ElementType = "TIMCustomElem"
	SoundElement    ElementType = "TIMSoundElem"
	ImageElement    ElementType = "TIMImageElem"
	FileElement     ElementType = "TIMFileElem"
	VideoElement    ElementType = "TIMVideoFileElem"
)

// Element is one part of a message.
type Element struct {
	Type    ElementType     `json:"MsgType"`
	Content json.RawMessage `json:"MsgContent"` // a JSON object, as the caller gave it
}

// Message is what a push carries to its receivers.
type Message struct {
	From     UserID
	Elements []Element
	Offline  OfflinePush
}

// OfflinePush is OfflinePushInfo: how the notification looks.
type OfflinePush struct {
	NoVendor bool            // PushFlag 1: no vendor notification
	Title    string          // notification title
	Desc     string          // overrides the text composed from the elements
	Ext      string          // handed through to the app
	Raw      json.RawMessage // the whole object as given, for the vendors' own fields; nil where it was absent
}

// elementSchema is the fields of an element's MsgContent and the JSON type of
// each: 's' string, 'n' number. Media elements have no schema: they are carried through.
var elementSchema = map[ElementType]map[string]byte{
	TextElement:     {"Text": 's'},
	LocationElement: {"Desc": 's', "Latitude": 'n', "Longitude": 'n'},
	FaceElement:     {"Index": 'n', "Data": 's'},
	CustomElement:   {"Data": 's', "Desc": 's', "Ext": 's', "Sound": 's'},
	SoundElement:    nil,
	ImageElement:    nil,
	FileElement:     nil,
	VideoElement:    nil,
}

// mediaTexts are the notification texts of elements without one of their own.
var mediaTexts = map[ElementType]map[Language]string{
	LocationElement: {English: "[Location]", Chinese: "[位置]"},
	FaceElement:     {English: "[Face]", Chinese: "[表情]"},
	SoundElement:    {English: "[Voice]", Chinese: "[语音]"},
	ImageElement:    {English: "[Image]", Chinese: "[图片]"},
	FileElement:     {English: "[File]", Chinese: "[文件]"},
	VideoElement:    {English: "[Video]", Chinese: "[视频]"},
}

// CheckElements checks the elements of a message: known types, fields of the
// right JSON type (a field that is absent or null counts as empty, but a TIMTextElem
// needs its Text), at most one TIMCustomElem. Errors carry CodeNoMsgBody or CodeBadElement.
func CheckElements(elements []Element) error {
	if len(elements) == 0 {
		return Errorf(CodeNoMsgBody, "MsgBody is empty")
	}
	customs := 0
	for i, e := range elements {
		schema, known := elementSchema[e.Type]
		if !known {
			return Errorf(CodeBadElement, "MsgBody[%d].MsgType %s is unknown", i, Quote(string(e.Type)))
		}
		var content map[string]json.RawMessage
		if err := json.Unmarshal(e.Content, &content); err != nil || content == nil {
			return Errorf(CodeBadElement, "MsgBody[%d].MsgContent is missing or not an object", i)
		}
		for field, kind := range schema {
			if raw, ok := content[field]; ok && !hasKind(raw, kind) {
				return Errorf(CodeBadElement, "MsgBody[%d].MsgContent.%s is not a %s", i, field, kindNames[kind])
			}
		}
		if text := content["Text"]; e.Type == TextElement && (text == nil || string(text) == "null") {
			return Errorf(CodeBadElement, "MsgBody[%d].MsgContent.Text is missing", i)
		}
		if e.Type == CustomElement {
			customs++
		}
	}
	if customs > 1 {
		return Errorf(CodeBadElement, "MsgBody has %d elements of type TIMCustomElem, the limit is 1", customs)
	}
	return nil
}

var kindNames = map[byte]string{'s': "string", 'n': "number"}

func hasKind(raw json.RawMessage, kind byte) bool {
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "null":
		return true
	case kind == 's':
		return strings.HasPrefix(text, `"`)
	default:
		return text != "" && (text[0] == '-' || text[0] >= '0' && text[0] <= '9')
	}
}

// Notification is what a device shows of a message.
type Notification struct {
	Title string `json:"title,omitempty"`
	Text  string `json:"text,omitempty"` // empty: nothing is to be shown
	Ext   string `json:"ext,omitempty"`
	Sound string `json:"sound,omitempty"`
}

// Notifies reports whether a vendor has something to do for the message: a text to show, or an
// app to wake. A TIMCustomElem without Desc has neither.
func (m *Message) Notifies() bool {
	apns, _ := m.Offline.ApnsOptions() // usable all the same
	return apns.ContentAvailable || m.Notification(English).Text != ""
}

// Notification composes the notification of the message: the elements' texts
// one after another with nothing between, unless OfflinePushInfo has its own. Without
// OfflinePushInfo, Ext and Sound come from a TIMCustomElem.
func (m *Message) Notification(lang Language) Notification {
	if lang == "" {
		lang = English
	}
	n := Notification{Title: m.Offline.Title, Text: m.Offline.Desc, Ext: m.Offline.Ext}
	var text strings.Builder
	for _, e := range m.Elements {
		switch e.Type { // the content was checked when it was accepted
		case TextElement:
			text.WriteString(readObject("MsgContent", e.Content).text("Text"))
		case CustomElement:
			c := readObject("MsgContent", e.Content)
			text.WriteString(c.text("Desc"))
			if m.Offline.Raw == nil {
				n.Ext, n.Sound = c.text("Ext"), c.text("Sound")
			}
		default:
			text.WriteString(mediaTexts[e.Type][lang])
		}
	}
	if n.Text == "" {
		n.Text = text.String()
	}
	return n
}
