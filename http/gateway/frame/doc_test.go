package frame_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

var update = flag.Bool("update", false, "write the generated parts of docs/gateway.md")

const docPath = "../../../docs/gateway.md"

// examples are the frames in docs/gateway.md, in its order: one of each type.
var examples = []struct {
	frame any
	about string
}{
	{
		&frame.Login{SDKAppID: 1400000001, Identifier: "alice", UserSig: "eJw...", Platform: crier.Web, Client: "crier-js", Version: "1.0", Instance: "q7Kx2b9V", Attempt: 3},
		"Client: who it is. `client` and `version` are for the server's logs and may be absent. `instance` and `attempt` tell which of the client's logins is the latest, " +
			"see [Logging in](#logging-in).",
	},
	{
		&frame.Ack{Seqs: []uint64{42}, Cumulative: true},
		"Client: it has the kept messages with these numbers or, if `cumulative`, every one that was sent on this connection up to the highest of them.",
	},
	{&frame.Background{Unread: 3}, "Client: the app is not in front; `unread`, 0 to 4294967295, is the base of the badge."},
	{&frame.Foreground{}, "Client: the app is in front."},
	{&frame.Ping{}, "Client: a heartbeat."},
	{
		&frame.RegisterDevice{Vendor: crier.APNs, Token: "8f4e2c...", Target: "com.example.app", Sandbox: true, Language: "zh-Hans"},
		"Client: a vendor can reach the device by this token. `vendor` is `apns`, `fcm` or `webpush`.",
	},
	{&frame.Logout{}, "Client: the user logs out. A close follows."},
	{
		&frame.Welcome{Session: "N3XV6YQ2", Heartbeat: 60, Time: 1700000000000},
		"Server: the login was accepted. `heartbeat` is in seconds; `time` is the server's clock.",
	},
	{&frame.Message{
		Task: "1400000001_1700000000000_5_42", Seq: 42, From: "administrator", Time: 1700000000000,
		Elements:     []crier.Element{{Type: crier.TextElement, Content: json.RawMessage(`{"Text":"hello"}`)}},
		Notification: crier.Notification{Title: "News", Text: "hello", Ext: "x=1"}, Kept: true, Expires: 1700003600000,
	}, "Server: a message. `task` names it, `seq` is what `ack` takes, `time` is when the push was accepted."},
	{&frame.Pong{}, "Server: the answer to `ping`."},
	{
		&frame.Kicked{Reason: crier.CloseReplaced, Text: frame.CloseFor(crier.CloseReplaced).Text},
		"Server: the session is over; `reason` is `replaced`, `kicked`, `deleted` or `disabled`. A close follows.",
	},
	{
		&frame.Error{Code: crier.CodeSigExpired, Text: "usersig expired at 2026-11-24T00:00:00Z"},
		"Server: what the client did wrong, a code of the API's table and words. A close follows.",
	},
	{
		&frame.Bye{Reason: crier.CloseGoingAway, Text: frame.CloseFor(crier.CloseGoingAway).Text},
		"Server: it ends the session, `reason` is `going-away` or `moved`: connect again. A close follows.",
	},
	{
		&frame.Device{Code: crier.CodeBadParameter, Text: `vendor "pager" is not apns, fcm or webpush`},
		"Server: the answer to `register_device`: `ok`, or a code of the API's table and words. The connection stays open.",
	},
}

func encode(t *testing.T, codec frame.Codec, f any) []byte {
	t.Helper()
	var data []byte
	var err error
	switch f := f.(type) {
	case frame.Client:
		data, err = codec.EncodeClient(f)
	case frame.Server:
		data, err = codec.EncodeServer(f)
	}
	if err != nil {
		t.Fatalf("%T: %v", f, err)
	}
	return data
}

func framesSection(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, e := range examples {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n```json\n%s\n```\n\n```hex\n", frame.Type(e.frame), e.about, encode(t, frame.JSON, e.frame))
		for digits := hex.EncodeToString(encode(t, frame.Proto, e.frame)); digits != ""; {
			n := min(96, len(digits))
			fmt.Fprintln(&b, digits[:n])
			digits = digits[n:]
		}
		b.WriteString("```\n")
	}
	return b.String() + "\n"
}

func closesSection() string {
	var b strings.Builder
	b.WriteString("\n| code | reason | why | connect again |\n| --- | --- | --- | --- |\n")
	for _, c := range frame.Closes() {
		again := "no"
		if c.Reconnect() {
			again = "yes"
		}
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", c.Code, c.Reason, c.Text, again)
	}
	return b.String() + "\n"
}

func TestDocumentIsOfThisCode(t *testing.T) {
	data, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for name, want := range map[string]string{"frames": framesSection(t), "closes": closesSection()} {
		part := regexp.MustCompile(`(?s)(<!-- ` + name + `: .*? -->\n)(.*?)(<!-- /` + name + ` -->)`)
		m := part.FindStringSubmatchIndex(doc)
		if m == nil {
			t.Fatalf("the markers of %s are gone", name)
		}
		if doc[m[4]:m[5]] != want && !*update {
			t.Errorf("%s differ from the code: run go test ./http/gateway/frame -update", name)
		}
		doc = doc[:m[4]] + want + doc[m[5]:]
	}
	if *update {
		if err := os.WriteFile(docPath, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A reader of the document decodes what stands there, so that is what is decoded here.
func TestExamplesInTheDocumentDecode(t *testing.T) {
	data, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(json|hex)\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) != 2*len(examples) {
		t.Fatalf("%d blocks, want %d", len(blocks), 2*len(examples))
	}
	for i, block := range blocks {
		want, codec, raw := examples[i/2].frame, frame.JSON, []byte(block[2])
		if block[1] == "hex" {
			codec = frame.Proto
			if raw, err = hex.DecodeString(strings.ReplaceAll(block[2], "\n", "")); err != nil {
				t.Fatal(err)
			}
		}
		var got any
		if _, ok := want.(frame.Client); ok {
			got, err = codec.DecodeClient(raw)
		} else {
			got, err = codec.DecodeServer(raw)
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: got %+v, %v", block[1], frame.Type(want), got, err)
		}
	}
}

func TestDocumentNamesEveryFrameType(t *testing.T) {
	var got []string
	for _, e := range examples {
		got = append(got, frame.Type(e.frame))
	}
	want := map[string]bool{}
	for _, f := range clientFrames() {
		want[frame.Type(f)] = true
	}
	for _, f := range serverFrames() {
		want[frame.Type(f)] = true
	}
	for _, name := range got {
		delete(want, name)
	}
	if len(want) != 0 {
		t.Errorf("no example of %v", want)
	}
}
