package gateway_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
)

// wantDevice expects the answer to a registration; code 0: it was accepted.
func (p *peer) wantDevice(code crier.Code) *frame.Device {
	p.t.Helper()
	got := p.receive()
	f, ok := got.(*frame.Device)
	if !ok || f.OK != (code == 0) || f.Code != code || (f.Text == "") != f.OK {
		p.t.Fatalf("got %+v, want the answer %d to a registration", got, int(code))
	}
	return f
}

func (p *peer) wantPong() {
	p.t.Helper()
	p.send(&frame.Ping{})
	if got := p.receive(); frame.Type(got) != "pong" {
		p.t.Fatalf("got %+v, want a pong", got)
	}
}

// holding makes a hub whose registrations wait for the test.
func holding() (*gatewaytest.Hub, chan func(error)) {
	hub, held := gatewaytest.NewHub(gatewaytest.App()), make(chan func(error), 10)
	hub.OnRegister = func(_ crier.Device, done func(error)) { held <- done }
	return hub, held
}

func TestRegisterDevice(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec frame.Codec) {
		hub := gatewaytest.NewHub(gatewaytest.App())
		s := gatewaytest.Start(t, hub, nil)
		p := join(t, s, codec, "alice")
		long := crier.Device{
			Vendor: crier.APNs, Token: strings.Repeat("a", 4096), Target: strings.Repeat("b", 255), Language: strings.Repeat("c", 35), Sandbox: true, Platform: crier.Web,
		}
		want := []crier.Device{
			{Vendor: crier.FCM, Token: "f:1", Target: "project", Language: "zh-Hans", Platform: crier.Web},
			{Vendor: crier.WebPush, Token: `{"endpoint":"https://push.example/1?a=<&>"}`, Platform: crier.Web},
			long,
		}
		for _, d := range want {
			p.send(&frame.RegisterDevice{Vendor: d.Vendor, Token: d.Token, Target: d.Target, Sandbox: d.Sandbox, Language: d.Language})
			p.wantDevice(0)
		}
		if got, err := session(t, hub, 0).WaitForDevices(p.ctx, len(want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
		wantValue(t, s, 3, "crier_gateway_device_registrations_total", "code", "0")
	})
}

// A registration that breaks a bound is answered in words, and nothing else happens.
func TestRegistrationsOutOfBounds(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec frame.Codec) {
		hub := gatewaytest.NewHub(gatewaytest.App())
		s := gatewaytest.Start(t, hub, nil)
		p := join(t, s, codec, "alice")
		for word, f := range map[string]*frame.RegisterDevice{
			`vendor ""`:        {Token: "1"},
			`vendor "pager"`:   {Vendor: "pager", Token: "1"},
			`vendor "APNS"`:    {Vendor: "APNS", Token: "1"},
			"token is empty":   {Vendor: crier.FCM},
			"over 4096 bytes":  {Vendor: crier.FCM, Token: strings.Repeat("x", 4097)},
			"target is over":   {Vendor: crier.FCM, Token: "1", Target: strings.Repeat("x", 256)},
			"language is over": {Vendor: crier.FCM, Token: "1", Language: strings.Repeat("x", 36)},
		} {
			p.send(f)
			if got := p.wantDevice(crier.CodeBadParameter); !strings.Contains(got.Text, word) {
				t.Errorf("%q does not say %s", got.Text, word)
			}
		}
		p.wantPong()
		if got, err := session(t, hub, 0).WaitForDevices(p.ctx, 0); err != nil || len(got) != 0 {
			t.Errorf("the session was told of %+v", got)
		}
		wantValue(t, s, 7, "crier_gateway_device_registrations_total", "code", "70402")
	})
}

func TestRegistrationsThatTheSessionRefuses(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec frame.Codec) {
		hub := gatewaytest.NewHub(gatewaytest.App())
		hub.OnRegister = func(d crier.Device, done func(error)) {
			if d.Token == "fault" {
				go done(io.ErrUnexpectedEOF)
				return
			}
			done(crier.Errorf(crier.CodeBadParameter, "the token is not hexadecimal"))
		}
		p := join(t, gatewaytest.Start(t, hub, nil), codec, "alice")
		p.send(&frame.RegisterDevice{Vendor: crier.APNs, Token: "xyz"})
		if got := p.wantDevice(crier.CodeBadParameter); got.Text != "the token is not hexadecimal" {
			t.Errorf("got %q", got.Text)
		}
		p.send(&frame.RegisterDevice{Vendor: crier.APNs, Token: "fault"})
		if got := p.wantDevice(crier.CodeInternal); strings.Contains(got.Text, "EOF") {
			t.Errorf("the cause is given away: %q", got.Text)
		}
		p.wantPong()
	})
}

// The second registration, and all after it, is read when the first has its answer.
func TestOneRegistrationAtATime(t *testing.T) {
	t.Parallel()
	hub, held := holding()
	s := gatewaytest.Start(t, hub, nil)
	p := join(t, s, frame.JSON, "alice")
	sess := session(t, hub, 0)
	p.send(&frame.RegisterDevice{Vendor: crier.FCM, Token: "1"})
	first := <-held
	p.wantPong() // other frames don't wait
	p.send(&frame.RegisterDevice{Vendor: crier.FCM, Token: "2"})
	p.send(&frame.Ping{})
	wantValue(t, s, 2, "crier_gateway_frames_received_total", "type", "register_device")
	sess.Conn.Deliver(gatewaytest.Message(1, "meanwhile"))
	if m, ok := p.receive().(*frame.Message); !ok || m.Seq != 1 {
		t.Errorf("got %+v", m)
	}
	if got, _ := sess.WaitForDevices(p.ctx, 1); len(got) != 1 {
		t.Errorf("two at a time: %+v", got)
	}
	first(crier.Errorf(crier.CodeBadParameter, "the first"))
	p.wantDevice(crier.CodeBadParameter)
	if got := p.receive(); frame.Type(got) != "pong" {
		t.Errorf("got %+v", got)
	}
	(<-held)(nil)
	p.wantDevice(0)
}

func TestRegistrationWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	hub, held := holding()
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.RegisterTimeout = 50 * time.Millisecond })
	p := join(t, s, frame.JSON, "alice")
	p.send(&frame.RegisterDevice{Vendor: crier.FCM, Token: "1"})
	p.wantDevice(crier.CodeTimeout)
	p.send(&frame.RegisterDevice{Vendor: crier.FCM, Token: "2"})
	(<-held)(nil) // too late: told already
	late := <-held
	p.wantDevice(crier.CodeTimeout)
	late(nil)
	p.wantPong()
}

// An answer may come when nobody is there any more, and more than once. A reader that waits for one ends with the connection.
func TestAnswerAfterTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*peer, *gatewaytest.Session){
		"by the client":    func(p *peer, _ *gatewaytest.Session) { p.ws.CloseNow() },
		"by the actor":     func(_ *peer, s *gatewaytest.Session) { s.Conn.Close(crier.CloseMoved) },
		"while one waits":  func(p *peer, s *gatewaytest.Session) { p.send(register("2")); s.Conn.Close(crier.CloseMoved) },
		"after a logout":   func(p *peer, _ *gatewaytest.Session) { p.send(&frame.Logout{}) },
		"after a bad type": func(p *peer, _ *gatewaytest.Session) { p.sendRaw(false, []byte(`{"type":"x"}`)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub, held := holding()
			p := join(t, gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.RegisterTimeout = time.Hour }), frame.JSON, "alice")
			p.send(register("1"))
			done := <-held
			sess := session(t, hub, 0)
			end(p, sess)
			if _, err := sess.WaitForClosed(p.ctx); err != nil {
				t.Fatal(err)
			}
			done(nil)
			done(errors.New("again"))
		})
	}
}

func register(token string) *frame.RegisterDevice {
	return &frame.RegisterDevice{Vendor: crier.FCM, Token: token}
}

func TestBadDeviceFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		joined bool
		codec  frame.Codec
		data   string
		code   crier.Code
		close  int
	}{
		"register before login":       {false, frame.JSON, `{"type":"register_device","vendor":"fcm","token":"1"}`, crier.CodeSigMissing, 4104},
		"logout before login":         {false, frame.JSON, `{"type":"logout"}`, crier.CodeSigMissing, 4104},
		"proto register before login": {false, frame.Proto, "\x32\x08\x0a\x03fcm\x12\x011", crier.CodeSigMissing, 4104},
		"proto logout before login":   {false, frame.Proto, "\x3a\x00", crier.CodeSigMissing, 4104},
		"token an object":             {true, frame.JSON, `{"type":"register_device","vendor":"webpush","token":{}}`, crier.CodeBadJSON, 4104},
		"sandbox a text":              {true, frame.JSON, `{"type":"register_device","sandbox":"yes"}`, crier.CodeBadJSON, 4104},
		"proto, a cut token":          {true, frame.Proto, "\x32\x03\x12\x05a", crier.CodeBadJSON, 4104},
		"a server's type":             {true, frame.JSON, `{"type":"device","ok":true}`, crier.CodeBadJSON, 4104},
		"over 16 KB":                  {true, frame.JSON, `{"type":"register_device","vendor":"fcm","token":"` + strings.Repeat("x", 16<<10) + `"}`, crier.CodeBodyTooLarge, 1009},
		"proto, over 16 KB":           {true, frame.Proto, "\x32\x84\x80\x01\x12\x80\x80\x01" + strings.Repeat("x", 16<<10), crier.CodeBodyTooLarge, 1009},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := gatewaytest.NewHub(gatewaytest.App())
			s := gatewaytest.Start(t, hub, nil)
			p := dial(t, s.URL, c.codec)
			if c.joined {
				p = join(t, s, c.codec, "alice")
			}
			p.sendRaw(c.codec.Binary(), []byte(c.data))
			p.wantError(c.code, c.close)
			for _, sess := range hub.Sessions() {
				if devices, _ := sess.WaitForDevices(p.ctx, 0); len(devices) != 0 || sess.Logouts() != 0 {
					t.Errorf("the session was told of %+v", devices)
				}
			}
		})
	}
}

func TestLogout(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec frame.Codec) {
		hub := gatewaytest.NewHub(gatewaytest.App())
		p := join(t, gatewaytest.Start(t, hub, nil), codec, "alice")
		sess := session(t, hub, 0)
		p.send(&frame.Logout{})
		p.send(&frame.Logout{}) // too late to be read
		_, data, err := p.ws.Read(p.ctx)
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != 4006 || closed.Reason != string(crier.CloseByClient) {
			t.Errorf("got %q, %v", data, err)
		}
		wantClosed(t, sess, crier.CloseByClient)
		sess.Conn.Deliver(gatewaytest.Message(1, "too late"))
		if n := sess.Logouts(); n != 1 || len(sess.Closes()) != 1 {
			t.Errorf("%d logouts, closed for %v", n, sess.Closes())
		}
	})
}

// What waits when the user logs out is not for the next one at the device.
func TestLogoutDropsWhatWaits(t *testing.T) {
	t.Parallel()
	const n = 100
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) {
		cfg.Limits.QueueFrames, cfg.Limits.QueueBytes = n+10, 1<<30
		cfg.WriteTimeout = 10 * time.Minute // nobody reads before the logout, which may take a slow machine long
	})
	p := join(t, s, frame.JSON, "alice")
	sess := session(t, hub, 0)
	text := strings.Repeat("x", 200<<10)
	for i := uint64(1); i <= n; i++ {
		sess.Conn.Deliver(gatewaytest.Message(i, text))
	}
	p.send(&frame.Logout{})
	wantClosed(t, sess, crier.CloseByClient)
	got := 0
	for {
		_, _, err := p.ws.Read(p.ctx)
		if err != nil {
			if code := websocket.CloseStatus(err); code != 4006 {
				t.Errorf("got %v, want close 4006", err)
			}
			break
		}
		got++
	}
	if got >= n {
		t.Errorf("all %d messages came after the logout", got)
	}
}
