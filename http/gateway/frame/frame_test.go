package frame_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

func clientFrames() []frame.Client {
	return []frame.Client{
		&frame.Login{SDKAppID: 1400000001, Identifier: "用户一", UserSig: "eJx*", Platform: crier.Web, Client: "crier-go", Version: "1.0"},
		&frame.Ack{Seqs: []uint64{1, 1 << 53}, Cumulative: true},
		&frame.Ack{Seqs: []uint64{7}},
		&frame.Foreground{},
		&frame.Background{Unread: 3},
		&frame.Background{},
		&frame.Ping{},
		&frame.RegisterDevice{Vendor: crier.APNs, Token: "0a1b", Target: "com.example.app", Sandbox: true, Language: "zh-Hans"},
		&frame.RegisterDevice{Vendor: crier.WebPush, Token: `{"endpoint":"https://push.example/<1>","keys":{"p256dh":"BA==","auth":"Ag"}}`},
		&frame.Logout{},
	}
}

func serverFrames() []frame.Server {
	return []frame.Server{
		&frame.Welcome{Session: "s", Heartbeat: 60, Time: 1700000000000},
		&frame.Message{
			Task: "1400000001_1700000000000_1_42", Seq: 42, From: "administrator", Time: 1700000000000,
			Elements: []crier.Element{
				{Type: crier.TextElement, Content: json.RawMessage(`{"Text":"<b>&\u2028 你好"}`)},
				{Type: crier.CustomElement, Content: json.RawMessage(`{"Data":"{\"a\":1}","Desc":"d"}`)},
			},
			Notification: crier.Notification{Title: "t", Text: "x", Ext: "e", Sound: "s"}, Kept: true, Expires: 1700000060000,
		},
		&frame.Message{Task: "t", Seq: 1, Elements: []crier.Element{{Type: crier.FaceElement, Content: json.RawMessage(`{}`)}}},
		&frame.Pong{},
		&frame.Kicked{Reason: crier.CloseReplaced, Text: "why"},
		&frame.Error{Code: crier.CodeSigExpired, Text: "expired"},
		&frame.Bye{Reason: crier.CloseGoingAway, Text: "back soon"},
		&frame.Device{OK: true},
		&frame.Device{Code: crier.CodeBadParameter, Text: "vendor \"pager\" is not apns, fcm or webpush"},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, codec := range frame.Codecs() {
		for _, f := range clientFrames() {
			data, err := codec.EncodeClient(f)
			if err != nil {
				t.Fatalf("%s: %T: %v", codec.Subprotocol(), f, err)
			}
			if got, err := codec.DecodeClient(data); err != nil || !reflect.DeepEqual(got, f) {
				t.Errorf("%s: %T %s:\n got %+v, %v\nwant %+v", codec.Subprotocol(), f, data, got, err, f)
			}
		}
		for _, f := range serverFrames() {
			data, err := codec.EncodeServer(f)
			if err != nil {
				t.Fatalf("%s: %T: %v", codec.Subprotocol(), f, err)
			}
			if got, err := codec.DecodeServer(data); err != nil || !reflect.DeepEqual(got, f) {
				t.Errorf("%s: %T %s:\n got %+v, %v\nwant %+v", codec.Subprotocol(), f, data, got, err, f)
			}
		}
	}
}

func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		codec frame.Codec
		data  string
		want  error
	}{
		"empty":             {frame.JSON, ``, frame.ErrMalformed},
		"not JSON":          {frame.JSON, `{`, frame.ErrMalformed},
		"null":              {frame.JSON, `null`, frame.ErrMalformed},
		"an array":          {frame.JSON, `[{"type":"ping"}]`, frame.ErrMalformed},
		"no type":           {frame.JSON, `{"seqs":[1]}`, frame.ErrMalformed},
		"type a number":     {frame.JSON, `{"type":1}`, frame.ErrMalformed},
		"unknown type":      {frame.JSON, `{"type":"shout"}`, frame.ErrUnknownType},
		"a server's type":   {frame.JSON, `{"type":"welcome"}`, frame.ErrUnknownType},
		"two values":        {frame.JSON, `{"type":"ping"}{"type":"ping"}`, frame.ErrMalformed},
		"negative seq":      {frame.JSON, `{"type":"ack","seqs":[-1]}`, frame.ErrMalformed},
		"seq with a point":  {frame.JSON, `{"type":"ack","seqs":[1.5]}`, frame.ErrMalformed},
		"sdkappid too big":  {frame.JSON, `{"type":"login","sdkappid":4294967296}`, frame.ErrMalformed},
		"identifier 5":      {frame.JSON, `{"type":"login","identifier":5}`, frame.ErrMalformed},
		"vendor 5":          {frame.JSON, `{"type":"register_device","vendor":5}`, frame.ErrMalformed},
		"token an object":   {frame.JSON, `{"type":"register_device","vendor":"webpush","token":{"endpoint":"https://x"}}`, frame.ErrMalformed},
		"sandbox a number":  {frame.JSON, `{"type":"register_device","sandbox":1}`, frame.ErrMalformed},
		"token not UTF-8":   {frame.JSON, "{\"type\":\"register_device\",\"token\":\"\xff\"}", frame.ErrMalformed},
		"not UTF-8":         {frame.JSON, "{\"type\":\"login\",\"identifier\":\"a\xff\"}", frame.ErrMalformed},
		"deep nesting":      {frame.JSON, strings.Repeat("[", 16<<10), frame.ErrMalformed},
		"proto: empty":      {frame.Proto, ``, frame.ErrMalformed},
		"proto: garbage":    {frame.Proto, "\xff\xff\xff", frame.ErrMalformed},
		"proto: JSON":       {frame.Proto, `{"type":"ping"}`, frame.ErrMalformed},
		"proto: not UTF-8":  {frame.Proto, "\x0a\x03\x12\x01\xff", frame.ErrMalformed},
		"proto: token \xff": {frame.Proto, "\x32\x03\x12\x01\xff", frame.ErrMalformed},
		"proto: cut token":  {frame.Proto, "\x32\x03\x12\x05a", frame.ErrMalformed},
		"proto: kind 15":    {frame.Proto, "\x7a\x00", frame.ErrUnknownType},
	} {
		if f, err := c.codec.DecodeClient([]byte(c.data)); !errors.Is(err, c.want) || f != nil {
			t.Errorf("%s: got %v, %v, want %v", name, f, err, c.want)
		}
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	f, err := frame.JSON.DecodeClient([]byte(`{"new":{"a":[1]},"type":"background","unread":4}`))
	if err != nil || !reflect.DeepEqual(f, &frame.Background{Unread: 4}) {
		t.Errorf("%v, %v", f, err)
	}
}

// A browser drops a connection over a text message that is not UTF-8, and
// protobuf refuses to encode one: neither may befall a whole audience.
func TestMessageWithBytesThatAreNotUTF8(t *testing.T) {
	t.Parallel()
	bad := "a\xffb"
	m := &frame.Message{
		Task: "t", From: crier.UserID(bad), Notification: crier.Notification{Title: bad, Text: bad, Ext: bad},
		Elements: []crier.Element{{Type: crier.TextElement, Content: json.RawMessage("{\"Text\":\"a\xffb\"}")}},
	}
	for _, codec := range frame.Codecs() {
		data, err := codec.EncodeServer(m)
		if err != nil {
			t.Fatalf("%s: %v", codec.Subprotocol(), err)
		}
		if !codec.Binary() && !utf8.Valid(data) {
			t.Errorf("%s: %q is not UTF-8", codec.Subprotocol(), data)
		}
		f, err := codec.DecodeServer(data)
		if err != nil {
			t.Fatalf("%s: %v", codec.Subprotocol(), err)
		}
		if got := f.(*frame.Message); string(got.Elements[0].Content) != "{\"Text\":\"a\uFFFDb\"}" || got.Notification.Title != "a\uFFFDb" {
			t.Errorf("%s: got %s, %q", codec.Subprotocol(), got.Elements[0].Content, got.Notification.Title)
		}
	}
}

func TestMessageWhoseContentIsNotJSON(t *testing.T) {
	t.Parallel()
	m := &frame.Message{Elements: []crier.Element{{Type: crier.TextElement, Content: json.RawMessage(`{`)}}}
	for _, codec := range frame.Codecs() {
		if data, err := codec.EncodeServer(m); err == nil {
			t.Errorf("%s: got %q", codec.Subprotocol(), data)
		}
	}
}

func TestNewMessage(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1700000000123)
	d := &crier.Delivery{Task: "t", Seq: 5, From: "a", Accepted: at}
	if m := frame.NewMessage(d); m.Time != 1700000000123 || m.Expires != 0 || m.Seq != 5 || m.Task != "t" || m.From != "a" {
		t.Errorf("%+v", m)
	}
	d.Kept, d.Expires = true, at.Add(time.Second)
	if m := frame.NewMessage(d); !m.Kept || m.Expires != 1700000001123 {
		t.Errorf("%+v", m)
	}
}

func TestForSubprotocol(t *testing.T) {
	t.Parallel()
	for _, codec := range frame.Codecs() {
		if frame.ForSubprotocol(codec.Subprotocol()) != codec {
			t.Errorf("%s is not found", codec.Subprotocol())
		}
	}
	if frame.ForSubprotocol("crier.v2.json") != nil {
		t.Error("an unknown name is found")
	}
}

// fuzz checks that any bytes are an error or a frame that survives a round trip.
func fuzz(f *testing.F, codec frame.Codec) {
	for _, c := range clientFrames() {
		data, _ := codec.EncodeClient(c)
		f.Add(data)
	}
	for _, s := range serverFrames() {
		data, _ := codec.EncodeServer(s)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := codec.DecodeClient(data); err == nil {
			again, err := codec.EncodeClient(c)
			if err != nil {
				t.Fatalf("encode %+v: %v", c, err)
			}
			if _, err := codec.DecodeClient(again); err != nil {
				t.Fatalf("decode %q: %v", again, err)
			}
		} else if !errors.Is(err, frame.ErrMalformed) && !errors.Is(err, frame.ErrUnknownType) {
			t.Fatalf("%v", err)
		}
		if s, err := codec.DecodeServer(data); err == nil {
			again, err := codec.EncodeServer(s)
			if err != nil {
				t.Fatalf("encode %+v: %v", s, err)
			}
			if _, err := codec.DecodeServer(again); err != nil {
				t.Fatalf("decode %q: %v", again, err)
			}
		} else if !errors.Is(err, frame.ErrMalformed) && !errors.Is(err, frame.ErrUnknownType) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzJSON(f *testing.F)  { fuzz(f, frame.JSON) }
func FuzzProto(f *testing.F) { fuzz(f, frame.Proto) }
