package contract

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/usersig"
)

// gatewayPath is where devices connect (docs/gateway.md).
const gatewayPath = "/v1/connect"

// device is a connection to the gateway. It acknowledges nothing by itself.
type device struct {
	t      *testing.T
	ctx    context.Context
	ws     *websocket.Conn
	frames chan frame.Server // closed at the end of the connection
}

// connect logs in.
func (a *tenant) connect(t *testing.T, user crier.UserID, platform crier.Platform) *device {
	t.Helper()
	d := a.dial(t)
	d.send(&frame.Login{
		SDKAppID: a.id, Identifier: string(user), Platform: platform, UserSig: usersig.Sign(a.key, a.id, user, time.Now(), time.Hour, nil),
	})
	if f, ok := d.next().(*frame.Welcome); !ok {
		t.Fatalf("no welcome: %+v", f)
	}
	return d
}

// dial connects without logging in.
func (a *tenant) dial(t *testing.T) *device {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(a.target.URL, "http")+gatewayPath, &websocket.DialOptions{
		Subprotocols: []string{frame.JSON.Subprotocol()},
		HTTPClient: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test server's own certificate
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t, ctx, ws, make(chan frame.Server, 100)}
	go d.read()
	t.Cleanup(func() { _ = ws.CloseNow() })
	return d
}

func (d *device) read() {
	defer close(d.frames)
	for {
		_, data, err := d.ws.Read(d.ctx)
		if err != nil {
			return
		}
		f, err := frame.JSON.DecodeServer(data)
		if errors.Is(err, frame.ErrUnknownType) {
			continue
		}
		if err != nil {
			d.t.Errorf("%s: %v", data, err)
			return
		}
		d.frames <- f
	}
}

func (d *device) send(f frame.Client) {
	d.t.Helper()
	data, err := frame.JSON.EncodeClient(f)
	if err == nil {
		err = d.ws.Write(d.ctx, websocket.MessageText, data)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// next waits for a frame; nil is the end of the connection.
func (d *device) next() frame.Server {
	d.t.Helper()
	select {
	case f := <-d.frames:
		return f
	case <-d.ctx.Done():
		d.t.Fatal("no frame within a minute")
		return nil
	}
}

// quiet fails if a frame comes within a short time.
func (d *device) quiet(what string) {
	d.t.Helper()
	select {
	case f := <-d.frames:
		d.t.Errorf("%s: %+v", what, f)
	case <-time.After(200 * time.Millisecond):
	}
}

// message waits for a message and returns its place.
func (d *device) message() uint64 {
	d.t.Helper()
	m, ok := d.next().(*frame.Message)
	if !ok {
		d.t.Fatalf("got %+v, want a message", m)
	}
	return m.Seq
}

// online waits until so many sessions of the account are known, and returns the presence.
func (a *tenant) online(t *testing.T, user string, sessions int) reply {
	t.Helper()
	var r reply
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		r = a.ok(t, "openim/query_online_status", `{"To_Account":["`+user+`"],"IsNeedDetail":1,"IsReturnInstid":1}`)
		if strings.Count(encode(r["QueryResult"]), `"Platform"`) == sessions {
			return r
		}
	}
	t.Fatalf("not %d sessions: %v", sessions, r)
	return nil
}

func sessionsPerUser(t *testing.T, a *tenant) {
	a.patch(t, `{"session_policy":"many"}`)
	a.limit(t, "sessions_per_user", 3)
	first := a.connect(t, "u0", "Web")
	for _, platform := range []crier.Platform{"Android", "iPhone"} {
		a.connect(t, "u0", platform)
	}
	first.quiet("three sessions are allowed")
	const one = `{"Instid":%d,"Platform":"%s","Status":"Online"}`
	detail := func(platforms ...any) string {
		return fmt.Sprintf(`[{"Detail":[`+one+`,`+one+`,`+one+`],"Status":"Online","To_Account":"u0"}]`, 1, platforms[0], 2, platforms[1], 3, platforms[2])
	}
	equal(t, a.online(t, "u0", 3), "QueryResult", detail("Web", "Android", "iPhone"))
	a.connect(t, "u0", "PC")
	if f, ok := first.next().(*frame.Kicked); !ok || f.Reason != crier.CloseReplaced {
		t.Errorf("the oldest session got %+v", f)
	}
	equal(t, a.online(t, "u0", 3), "QueryResult", detail("Android", "iPhone", "PC"))
	equal(t, a.ok(t, "openim/querystate", `{"To_Account":"u0"}`), "QueryResult", `[{"State":"Online","To_Account":"u0"}]`)
	a.limit(t, "sessions_per_user", 0)
	a.connect(t, "u0", "Mac")
	a.online(t, "u0", 4)
}

func inFlightMessages(t *testing.T, a *tenant) {
	a.limit(t, "in_flight_messages", 3)
	p := new(pusher)
	for range 5 {
		task, _ := a.ok(t, push, p.body(`,"MsgLifeTime":60`))["TaskId"].(string)
		a.done(t, task)
	}
	d := a.connect(t, "u0", "Web")
	seqs := []uint64{d.message(), d.message(), d.message()}
	d.quiet("three messages are not acknowledged, the limit is 3")
	d.send(&frame.Ack{Seqs: seqs[:1]})
	d.message()
	d.quiet("three messages are not acknowledged again")
	a.limit(t, "in_flight_messages", 0)
	e := a.connect(t, "u1", "Web")
	for range 5 {
		e.message()
	}
}

// refusedLogins is about logins at the gateway, which answer codes of the same table.
func refusedLogins(t *testing.T, s *suite) {
	a, other := s.newTenant(t), s.newTenant(t)
	a.accounts(t, "a")
	a.ok(t, login+"kick", `{"UserID":"a"}`)
	old := time.Now().Add(-time.Minute)
	sign := func(key string, id crier.AppID, user crier.UserID, at time.Time) string {
		return usersig.Sign(key, id, user, at, time.Hour, nil)
	}
	for name, c := range map[string]struct {
		login frame.Login
		code  crier.Code
	}{
		"unknown app":      {frame.Login{SDKAppID: 4294967295, Identifier: "a", UserSig: sign(a.key, a.id, "a", old)}, crier.CodeUnknownApp},
		"other app":        {frame.Login{SDKAppID: other.id, Identifier: "a", UserSig: sign(a.key, a.id, "a", old)}, crier.CodeSigSDKAppID},
		"other identifier": {frame.Login{SDKAppID: a.id, Identifier: "b", UserSig: sign(a.key, a.id, "a", old)}, crier.CodeSigIdentifier},
		"wrong key":        {frame.Login{SDKAppID: a.id, Identifier: "a", UserSig: sign(other.key, a.id, "a", old)}, crier.CodeSigWrong},
		"expired":          {frame.Login{SDKAppID: a.id, Identifier: "a", UserSig: sign(a.key, a.id, "a", old.Add(-time.Hour))}, crier.CodeSigExpired},
		"kicked since":     {frame.Login{SDKAppID: a.id, Identifier: "a", UserSig: sign(a.key, a.id, "a", old)}, crier.CodeSigRevoked},
		"NUL in the name":  {frame.Login{SDKAppID: a.id, Identifier: "a\x00", UserSig: sign(a.key, a.id, "a\x00", old)}, crier.CodeBadAccount},
		"a bomb":           {frame.Login{SDKAppID: a.id, Identifier: "a", UserSig: bomb(t, 2)}, crier.CodeSigMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			d := a.dial(t)
			c.login.Platform = "Web"
			d.send(&c.login)
			e, ok := d.next().(*frame.Error)
			if !ok || e.Code != c.code {
				t.Fatalf("got %+v, want %v", e, c.code)
			}
			a.seen.code("", e.Code)
			if f := d.next(); f != nil {
				t.Errorf("after the refusal came %+v", f)
			}
		})
	}
}
