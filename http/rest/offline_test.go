package rest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

// pushStub is a stub that keeps what was pushed last.
type pushStub struct {
	stub
	last *crier.PushRequest
}

func (s *pushStub) Push(_ context.Context, req *crier.PushRequest) (crier.TaskID, error) {
	s.last = req
	return "1_2_3_4", nil
}

// pushed makes a push with more fields, from a comma on, and returns the message that was accepted.
func pushed(t *testing.T, more string) *crier.Message {
	t.Helper()
	_, query := handler()
	app := &crier.App{ID: 1, Key: "key", Admins: []crier.UserID{"admin"}, PushEnabled: true, Limits: crier.DefaultLimits()}
	s := &pushStub{stub: stub{app}}
	e := gin.New()
	New(Config{Service: s, Logger: slog.New(slog.DiscardHandler)}).Register(e)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/openim/im_push?"+query, strings.NewReader(`{"MsgRandom":1`+more+`}`)))
	if s.last == nil {
		t.Fatalf("%s: %s", more, w.Body)
	}
	return &s.last.Message
}

// What is kept of OfflinePushInfo has one form, whichever of its forms came.
func TestOfflinePushInfoIsKeptInOneForm(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`{}`: `{}`,
		`[]`: `{}`,
		`{"ApnsInfo":[],"AndroidInfo":[ ],"HarmonyInfo":[],"PushTemplateParam":[]}`:    `{"ApnsInfo":{},"AndroidInfo":{},"HarmonyInfo":{},"PushTemplateParam":{}}`,
		`{"ApnsInfo":{"LiveActivity":[]}}`:                                             `{"ApnsInfo":{"LiveActivity":{}}}`,
		`{"AndroidInfo":{"OPPOPrivateTitleParameters":[],"Sound":null}}`:               `{"AndroidInfo":{"OPPOPrivateTitleParameters":{}}}`,
		`{"BadgeAddNum":5e0,"BadgeSetNum":10.0,"ApnsInfo":{"BadgeMode":1.0}}`:          `{"BadgeAddNum":5,"BadgeSetNum":10,"ApnsInfo":{"BadgeMode":1}}`,
		`{"MultiLanguageContent":{"Language":"zh","Title":"t"}}`:                       `{"MultiLanguageContent":[{"Language":"zh","Title":"t"}]}`,
		`{"MultiLanguageContent":[null,{"Language":"zh","Title":null}]}`:               `{"MultiLanguageContent":[null,{"Language":"zh"}]}`,
		` { "Unknown" : [ 1.0 , {"a\"b":null,"c":[]} ] , "\u0054itle" : "\u00e9\n" } `: `{"Unknown":[1.0,{"c":[]}],"Title":"\u00e9\n"}`,
	} {
		m := pushed(t, `,"MsgBody":{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}},"OfflinePushInfo":`+given)
		if got := string(m.Offline.Raw); got != want {
			t.Errorf("%s is kept as %s, want %s", given, got, want)
		}
	}
}

func TestNumbersAndListsReachApnsOptions(t *testing.T) {
	t.Parallel()
	m := pushed(t, `,"MsgBody":{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}},"OfflinePushInfo":{"BadgeAddNum":5e0,"MultiLanguageContent":{"Language":"zh","Desc":"d"},
		"ApnsInfo":{"BadgeMode":1.0,"MutableContent":1.0,"LiveActivity":[]}}`)
	a, err := m.Offline.ApnsOptions()
	if err != nil || a.BadgeAddNum != 5 || a.BadgeMode == nil || *a.BadgeMode != 1 || !a.MutableContent || a.Local("zh") != 0 || a.Languages[0].Desc != "d" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAnEmptyListIsAnEmptyContent(t *testing.T) {
	t.Parallel()
	m := pushed(t, `,"MsgBody":{"MsgType":"TIMImageElem","MsgContent":[ ]}`)
	if got := string(m.Elements[0].Content); got != "{}" {
		t.Errorf("%s", got)
	}
}

// An OfflinePushInfo without fields is there, so that Ext and Sound don't come from the element.
func TestAnEmptyOfflinePushInfoIsNotAbsent(t *testing.T) {
	t.Parallel()
	for offline, ext := range map[string]string{``: "e", `,"OfflinePushInfo":null`: "e", `,"OfflinePushInfo":{}`: "", `,"OfflinePushInfo":[]`: ""} {
		m := pushed(t, `,"MsgBody":{"MsgType":"TIMCustomElem","MsgContent":{"Desc":"d","Ext":"e","Sound":"s"}}`+offline)
		if n := m.Notification(crier.English); n.Ext != ext {
			t.Errorf("%q: %+v", offline, n)
		}
	}
}
