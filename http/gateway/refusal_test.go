package gateway_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
	"github.com/crier-im/crier/usersig"
)

// serve runs a handler until the test ends and returns the address of the gateway in it.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + gateway.Path
}

func TestRefusedLogins(t *testing.T) {
	t.Parallel()
	app := gatewaytest.App()
	keyless := &crier.App{ID: 1400000002}
	disabled := &crier.App{ID: 1400000003, Key: gatewaytest.Key, Disabled: true}
	hub := gatewaytest.NewHub(app, keyless, disabled)
	hub.OnConnect = func(ctx context.Context, l crier.Login, _ crier.Conn) error {
		switch l.User {
		case "kicked":
			return crier.Errorf(crier.CodeSigRevoked, "the UserSig is from before the kick")
		case "slow":
			<-ctx.Done()
			return ctx.Err()
		case "fault":
			return fmt.Errorf("read the account: %w", io.ErrUnexpectedEOF)
		}
		return nil
	}
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.ConnectTimeout = 50 * time.Millisecond })
	sign := func(app crier.AppID, at time.Time) string {
		return usersig.Sign(gatewaytest.Key, app, "alice", at, time.Hour, nil)
	}
	for name, c := range map[string]struct {
		change func(*frame.Login)
		code   crier.Code
		close  int
	}{
		"no sdkappid":        {func(l *frame.Login) { l.SDKAppID = 0 }, crier.CodeMissingSDKAppID, 4105},
		"no identifier":      {func(l *frame.Login) { l.Identifier = "" }, crier.CodeBadAccount, 4105},
		"33 bytes":           {func(l *frame.Login) { l.Identifier = strings.Repeat("a", 33) }, crier.CodeBadAccount, 4105},
		"unknown platform":   {func(l *frame.Login) { l.Platform = "Toaster" }, crier.CodeBadParameter, 4105},
		"long instance":      {func(l *frame.Login) { l.Instance = strings.Repeat("x", crier.MaxInstance+1) }, crier.CodeBadParameter, 4105},
		"no usersig":         {func(l *frame.Login) { l.UserSig = "" }, crier.CodeSigMissing, 4105},
		"malformed usersig":  {func(l *frame.Login) { l.UserSig = "x" }, crier.CodeSigMalformed, 4105},
		"unknown app":        {func(l *frame.Login) { l.SDKAppID = 5 }, crier.CodeUnknownApp, 4105},
		"app without a key":  {func(l *frame.Login) { l.SDKAppID = keyless.ID }, crier.CodeAppWithoutKey, 4105},
		"of another app":     {func(l *frame.Login) { l.UserSig = sign(9, time.Now()) }, crier.CodeSigSDKAppID, 4105},
		"of another account": {func(l *frame.Login) { l.UserSig = gatewaytest.UserSig("bob") }, crier.CodeSigIdentifier, 4105},
		"expired":            {func(l *frame.Login) { l.UserSig = sign(app.ID, time.Now().Add(-2*time.Hour)) }, crier.CodeSigExpired, 4105},
		"wrong key":          {func(l *frame.Login) { l.UserSig = usersig.Sign("other", app.ID, "alice", time.Now(), time.Hour, nil) }, crier.CodeSigWrong, 4105},
		"disabled app": {
			func(l *frame.Login) { l.SDKAppID, l.UserSig = disabled.ID, sign(disabled.ID, time.Now()) },
			crier.CodeAppDisabled, 4103,
		},
		"kicked": {func(l *frame.Login) { *l = *login("kicked") }, crier.CodeSigRevoked, 4105},
		"slow":   {func(l *frame.Login) { *l = *login("slow") }, crier.CodeTimeout, 4004},
		"fault":  {func(l *frame.Login) { *l = *login("fault") }, crier.CodeInternal, 4004},
	} {
		for _, codec := range frame.Codecs() {
			t.Run(name+"/"+codec.Subprotocol(), func(t *testing.T) {
				p := dial(t, s.URL, codec)
				l := login("alice")
				c.change(l)
				p.send(l)
				p.wantError(c.code, c.close)
			})
		}
		for deadline := time.Now().Add(10 * time.Second); s.Value(t, "crier_gateway_logins_total", "code", fmt.Sprint(int(c.code))) < 2; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: refused logins with code %d are not counted", name, int(c.code))
			}
		}
	}
	if n := len(hub.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		joined bool
		codec  frame.Codec
		binary bool
		data   string
		code   crier.Code
		close  int
	}{
		"ack before login":          {false, frame.JSON, false, `{"type":"ack","seqs":[1]}`, crier.CodeSigMissing, 4104},
		"ping before login":         {false, frame.JSON, false, `{"type":"ping"}`, crier.CodeSigMissing, 4104},
		"proto ping before login":   {false, frame.Proto, true, "\x2a\x00", crier.CodeSigMissing, 4104},
		"malformed before login":    {false, frame.JSON, false, `{`, crier.CodeBadJSON, 4104},
		"over 4 KB before login":    {false, frame.JSON, false, strings.Repeat(" ", 4097), crier.CodeBodyTooLarge, 1009},
		"over 16 KB before login":   {false, frame.JSON, false, strings.Repeat(" ", 16<<10+1), crier.CodeBodyTooLarge, 1009},
		"binary on JSON":            {true, frame.JSON, true, `{"type":"ping"}`, crier.CodeBadJSON, 1003},
		"binary login on JSON":      {false, frame.JSON, true, `{"type":"ping"}`, crier.CodeBadJSON, 1003},
		"text on proto":             {true, frame.Proto, false, "\x2a\x00", crier.CodeBadJSON, 1003},
		"malformed":                 {true, frame.JSON, false, `{"type":`, crier.CodeBadJSON, 4104},
		"malformed proto":           {true, frame.Proto, true, "\xff", crier.CodeBadJSON, 4104},
		"empty":                     {true, frame.JSON, false, ``, crier.CodeBadJSON, 4104},
		"empty proto":               {true, frame.Proto, true, ``, crier.CodeBadJSON, 4104},
		"unknown type":              {true, frame.JSON, false, `{"type":"shout"}`, crier.CodeBadJSON, 4104},
		"second login":              {true, frame.JSON, false, `{"type":"login"}`, crier.CodeBadJSON, 4104},
		"over 16 KB":                {true, frame.JSON, false, strings.Repeat(" ", 16<<10+1), crier.CodeBodyTooLarge, 1009},
		"100 KB":                    {true, frame.JSON, false, strings.Repeat(" ", 100<<10), crier.CodeBodyTooLarge, 1009},
		"text that is not UTF-8":    {true, frame.JSON, false, "{\"type\":\"\xff\"}", crier.CodeBadJSON, 1007},
		"background before login":   {false, frame.JSON, false, `{"type":"background","unread":1}`, crier.CodeSigMissing, 4104},
		"foreground before login":   {false, frame.JSON, false, `{"type":"foreground"}`, crier.CodeSigMissing, 4104},
		"unknown type before login": {false, frame.JSON, false, `{"type":"welcome"}`, crier.CodeBadJSON, 4104},
		"proto malformed early":     {false, frame.Proto, true, "\x0a\xff", crier.CodeBadJSON, 4104},
		"proto over 4 KB early":     {false, frame.Proto, true, strings.Repeat("\x00", 4097), crier.CodeBodyTooLarge, 1009},
		"text login on proto":       {false, frame.Proto, false, `{"type":"ping"}`, crier.CodeBadJSON, 1003},
		"empty before login":        {false, frame.JSON, false, ``, crier.CodeBadJSON, 4104},
		"unknown proto kind":        {true, frame.Proto, true, "\xfa\x01\x00", crier.CodeBadJSON, 4104},
		"proto over 16 KB":          {true, frame.Proto, true, strings.Repeat("\x00", 16<<10+1), crier.CodeBodyTooLarge, 1009},
		"second proto login":        {true, frame.Proto, true, secondLogin(t, frame.Proto), crier.CodeBadJSON, 4104},
		"second login, a good one":  {true, frame.JSON, false, secondLogin(t, frame.JSON), crier.CodeBadJSON, 4104},
		"a server's frame":          {true, frame.JSON, false, `{"type":"pong"}`, crier.CodeBadJSON, 4104},
		"no type":                   {true, frame.JSON, false, `{"seqs":[1]}`, crier.CodeBadJSON, 4104},
		"type null":                 {true, frame.JSON, false, `{"type":null}`, crier.CodeBadJSON, 4104},
		"type that is a number":     {true, frame.JSON, false, `{"type":1}`, crier.CodeBadJSON, 4104},
		"a list":                    {true, frame.JSON, false, `[{"type":"ping"}]`, crier.CodeBadJSON, 4104},
		"two frames in one":         {true, frame.JSON, false, `{"type":"ping"}{"type":"ping"}`, crier.CodeBadJSON, 4104},
		"nested 8000 deep":          {true, frame.JSON, false, `{"type":"ack","seqs":` + strings.Repeat("[", 8000) + strings.Repeat("]", 8000) + `}`, crier.CodeBadJSON, 4104},
		"seqs that are no list":     {true, frame.JSON, false, `{"type":"ack","seqs":5}`, crier.CodeBadJSON, 4104},
		"a seq that is text":        {true, frame.JSON, false, `{"type":"ack","seqs":["5"]}`, crier.CodeBadJSON, 4104},
		"a seq below 0":             {true, frame.JSON, false, `{"type":"ack","seqs":[-1]}`, crier.CodeBadJSON, 4104},
		"a seq over 64 bits":        {true, frame.JSON, false, `{"type":"ack","seqs":[18446744073709551616]}`, crier.CodeBadJSON, 4104},
		"unread over 32 bits":       {true, frame.JSON, false, `{"type":"background","unread":4294967296}`, crier.CodeBadJSON, 4104},
		"unread that is no integer": {true, frame.JSON, false, `{"type":"background","unread":-1}`, crier.CodeBadJSON, 4104},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := gatewaytest.NewHub(gatewaytest.App())
			s := gatewaytest.Start(t, hub, nil)
			var p *peer
			if c.joined {
				p = join(t, s, c.codec, "alice")
			} else {
				p = dial(t, s.URL, c.codec)
			}
			p.sendRaw(c.binary, []byte(c.data))
			p.wantError(c.code, c.close)
			if c.joined {
				wantClosed(t, session(t, hub, 0), crier.CloseBadFrame)
			}
		})
	}
}

// secondLogin is a login that would be good as the first frame.
func secondLogin(t *testing.T, codec frame.Codec) string {
	t.Helper()
	data, err := codec.EncodeClient(login("alice"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Fields that this version does not know are ignored, so that clients can be newer than the server.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		codec      frame.Codec
		more, ping string
	}{
		"JSON":  {frame.JSON, `,"nosuch":{"seqs":[1]},"other":null}`, `{"nosuch":[1],"type":"ping","unread":"x"}`},
		"proto": {frame.Proto, "\xfa\x01\x03new", "\x2a\x05\xfa\x01\x02hi"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), nil)
			p := dial(t, s.URL, c.codec)
			p.sendRaw(c.codec.Binary(), []byte(strings.TrimSuffix(secondLogin(t, c.codec), "}")+c.more))
			if w, ok := p.receive().(*frame.Welcome); !ok {
				t.Fatalf("got %+v", w)
			}
			p.sendRaw(c.codec.Binary(), []byte(c.ping))
			if f, ok := p.receive().(*frame.Pong); !ok {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestLargestFramesAreTaken(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, nil)
	p := dial(t, s.URL, frame.JSON)
	data, err := frame.JSON.EncodeClient(login("alice"))
	if err != nil {
		t.Fatal(err)
	}
	p.sendRaw(false, append(data, strings.Repeat(" ", 4096-len(data))...))
	if w, ok := p.receive().(*frame.Welcome); !ok {
		t.Fatalf("got %+v", w)
	}
	p.sendRaw(false, []byte(`{"type":"ping"}`+strings.Repeat(" ", 16<<10-15)))
	if _, ok := p.receive().(*frame.Pong); !ok {
		t.Error("no pong")
	}
}

// rawDial connects over a bare TCP connection, for what no WebSocket library would send.
func rawDial(t *testing.T, s *gatewaytest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(s.URL, "ws://"), gateway.Path)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: crier.v1.json\r\n\r\n", gateway.Path)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "crier.v1.json" {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return conn, r
}

// rawJoin logs in over such a connection.
func rawJoin(t *testing.T, s *gatewaytest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, r := rawDial(t, s)
	data, err := frame.JSON.EncodeClient(login("raw"))
	if err != nil {
		t.Fatal(err)
	}
	// A masking key of zeros leaves the payload as it is.
	head := binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(data)))
	if _, err := conn.Write(append(append(head, 0, 0, 0, 0), data...)); err != nil {
		t.Fatal(err)
	}
	if first, payload := readRaw(t, r); first != 0x81 || !strings.Contains(payload, "welcome") {
		t.Fatalf("got %x %s", first, payload)
	}
	return conn, r
}

func readRaw(t *testing.T, r *bufio.Reader) (first byte, payload string) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatalf("read a frame: %v", err)
	}
	n := int64(head[1])
	if n == 126 {
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			t.Fatal(err)
		}
		n = int64(binary.BigEndian.Uint16(long[:]))
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return head[0], string(b)
}

func TestFramesThatBreakWebSocket(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data string
		code uint16
	}{
		"length of 2^64-1":   {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1002},
		"length of 2^63":     {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1002},
		"length of 2^62":     {"\x81\xff\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1009},
		"not masked":         {"\x81\x02{}", 1002},
		"reserved bit":       {"\xc1\x82\x00\x00\x00\x00{}", 1002},
		"unknown opcode":     {"\x83\x80\x00\x00\x00\x00", 1002},
		"long ping":          {"\x89\xfe\x00\x80\x00\x00\x00\x00", 1002},
		"stray continuation": {"\x80\x80\x00\x00\x00\x00", 1002},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := gatewaytest.NewHub(gatewaytest.App())
			s := gatewaytest.Start(t, hub, nil)
			conn, r := rawJoin(t, s)
			if _, err := io.WriteString(conn, c.data); err != nil {
				t.Fatal(err)
			}
			if first, payload := readRaw(t, r); first != 0x81 || !strings.Contains(payload, `"type":"error"`) {
				t.Errorf("got %x %s", first, payload)
			}
			if first, payload := readRaw(t, r); first != 0x88 || binary.BigEndian.Uint16([]byte(payload)) != c.code {
				t.Errorf("got %x %q, want close %d", first, payload, c.code)
			}
			wantClosed(t, session(t, hub, 0), crier.CloseBadFrame)
		})
	}
}

func TestFragmentsAreJoined(t *testing.T) {
	t.Parallel()
	s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), nil)
	conn, r := rawJoin(t, s)
	if _, err := io.WriteString(conn, "\x01\x87\x00\x00\x00\x00{\"type\"\x80\x88\x00\x00\x00\x00:\"ping\"}"); err != nil {
		t.Fatal(err)
	}
	if _, payload := readRaw(t, r); payload != `{"type":"pong"}` {
		t.Errorf("got %s", payload)
	}
}

func TestNoLoginInTime(t *testing.T) {
	t.Parallel()
	s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) { cfg.LoginTimeout = 50 * time.Millisecond })
	for _, codec := range frame.Codecs() {
		dial(t, s.URL, codec).wantError(crier.CodeSigMissing, 4005)
	}
}

// The deadline of the login is that of a whole frame: fragments that trickle in, and pings, don't put it off.
func TestTrickleIsNoLogin(t *testing.T) {
	t.Parallel()
	s := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) { cfg.LoginTimeout = 300 * time.Millisecond })
	conn, r := rawDial(t, s)
	begin, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; time.Since(begin) < 20*time.Second; i++ {
			data := "\x89\x80\x00\x00\x00\x00" // a ping
			if i == 0 {
				data = "\x01\x81\x00\x00\x00\x00{" // the beginning of a text
			}
			if _, err := io.WriteString(conn, data); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for {
		first, payload := readRaw(t, r)
		if first == 0x88 {
			if code := binary.BigEndian.Uint16([]byte(payload)); code != 4005 {
				t.Errorf("close %d", code)
			}
			break
		}
		if first == 0x81 && !strings.Contains(payload, "70002") {
			t.Errorf("got %s", payload)
		}
	}
	_ = conn.Close()
	<-ended
}

func TestSilentClient(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Heartbeat = time.Second })
	begin := time.Now()
	p := join(t, s, frame.JSON, "alice")
	for time.Since(begin) < 3*time.Second { // it lives while something is heard
		p.send(&frame.Ping{})
		if _, ok := p.receive().(*frame.Pong); !ok {
			t.Fatal("no pong")
		}
		time.Sleep(200 * time.Millisecond)
	}
	last := time.Now()
	p.wantClose(4003)
	if d := time.Since(last); d < 1900*time.Millisecond || d > 6*time.Second {
		t.Errorf("given up after %v", d)
	}
	wantClosed(t, session(t, hub, 0), crier.CloseHeartbeat)
}

// A receiver that stops reading is closed, and nobody else notices.
func TestSlowReceiver(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Limits.QueueFrames = 64 })
	rawJoin(t, s) // never reads again
	slow := session(t, hub, 0)
	quick := join(t, s, frame.JSON, "quick")
	quickSession := session(t, hub, 1)

	text := strings.Repeat("x", 64<<10)
	for i := uint64(1); len(slow.Closes()) == 0 && i < 2000; i++ {
		slow.Conn.Deliver(gatewaytest.Message(i, text))
		if i%10 == 0 {
			quickSession.Conn.Deliver(gatewaytest.Message(1000_000+i, "small"))
			if m, ok := quick.receive().(*frame.Message); !ok || m.Seq != 1000_000+i {
				t.Fatalf("the quick one got %+v", m)
			}
		}
	}
	wantClosed(t, slow, crier.CloseSlow)
	wantValue(t, s, 1, "crier_gateway_closes_total", "reason", "slow")
	deadline := time.Now().Add(20 * time.Second)
	for s.Connections() != 1 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.Connections(); n != 1 {
		t.Errorf("%d connections are left", n)
	}
}

// A receiver that is only late reads the close code.
func TestLateReceiverReadsWhy(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Limits.QueueFrames = 1 })
	p := join(t, s, frame.JSON, "alice")
	sess := session(t, hub, 0)
	text := strings.Repeat("x", 200<<10)
	for i := uint64(1); len(sess.Closes()) == 0 && i < 2000; i++ {
		sess.Conn.Deliver(gatewaytest.Message(i, text))
	}
	for last := uint64(0); ; {
		_, data, err := p.ws.Read(p.ctx)
		if err != nil {
			if got := websocket.CloseStatus(err); got != 4001 {
				t.Errorf("got %v, want close 4001", err)
			}
			return
		}
		f, err := frame.JSON.DecodeServer(data)
		if m, ok := f.(*frame.Message); err != nil || !ok || m.Seq != last+1 {
			t.Fatalf("after %d: %+v, %v", last, f, err)
		}
		last++
	}
}

func TestFloodIsHeldBackNotLost(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Limits.FramesPerSecond = 100 })
	p := join(t, s, frame.JSON, "alice")
	sess := session(t, hub, 0)
	begin := time.Now()
	for i := range uint64(300) { // 200 at once, then 100 a second
		p.send(&frame.Ack{Seqs: []uint64{i}})
	}
	if err := sess.WaitForAcks(p.ctx, 300); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 900*time.Millisecond {
		t.Errorf("300 frames in %v", d)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	dialStatus := func(s *gatewaytest.Server, forwarded string) int {
		ws, resp, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{
			Subprotocols: []string{"crier.v1.json"}, HTTPHeader: http.Header{"X-Forwarded-For": {forwarded}},
		})
		if err == nil {
			t.Cleanup(func() { _ = ws.CloseNow() })
		}
		if resp == nil {
			t.Fatalf("no answer: %v", err)
		}
		return resp.StatusCode
	}
	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: status %d, want %d", what, got, want)
		}
	}

	full := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) { cfg.Limits.Connections = 1 })
	join(t, full, frame.JSON, "alice")
	want("a second connection", dialStatus(full, ""), http.StatusServiceUnavailable)

	pending := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) { cfg.Limits.LoginsPerIP = 1 })
	join(t, pending, frame.JSON, "alice") // counts no longer once logged in
	want("one without login", dialStatus(pending, ""), http.StatusSwitchingProtocols)
	want("two without login", dialStatus(pending, ""), http.StatusTooManyRequests)
	want("a header that anyone can write", dialStatus(pending, "192.0.2.1"), http.StatusTooManyRequests)

	proxied := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) {
		cfg.Limits.LoginsPerIP, cfg.TrustedProxies = 1, []string{"127.0.0.0/8", "::1", "10.0.0.1"}
	})
	want("behind a proxy", dialStatus(proxied, "192.0.2.1, 10.0.0.1"), http.StatusSwitchingProtocols)
	want("the same one", dialStatus(proxied, "198.51.100.7, 192.0.2.1"), http.StatusTooManyRequests)
	want("another one", dialStatus(proxied, "192.0.2.2"), http.StatusSwitchingProtocols)

	failing := gatewaytest.Start(t, gatewaytest.NewHub(gatewaytest.App()), func(cfg *gateway.Config) { cfg.Limits.FailuresPerIP = 2 })
	for range 2 {
		p := dial(t, failing.URL, frame.JSON)
		p.send(&frame.Login{SDKAppID: 1, Identifier: "a", Platform: crier.Web})
		p.wantError(crier.CodeSigMissing, 4105)
	}
	want("after two failures", dialStatus(failing, ""), http.StatusTooManyRequests)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*gateway.Config){
		"Hub":               func(c *gateway.Config) { c.Hub = nil },
		"LoginTimeout":      func(c *gateway.Config) { c.LoginTimeout = -1 },
		"Heartbeat":         func(c *gateway.Config) { c.Heartbeat = 1500 * time.Millisecond },
		"Limits":            func(c *gateway.Config) { c.Limits.QueueFrames = -1 },
		"TrustedProxies[1]": func(c *gateway.Config) { c.TrustedProxies = []string{"::1", "x"} },
	} {
		cfg := gateway.Config{Hub: gatewaytest.NewHub(), Logger: discard, Registerer: prometheus.NewRegistry()}
		change(&cfg)
		if _, err := gateway.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestCompression(t *testing.T) {
	t.Parallel()
	hub := gatewaytest.NewHub(gatewaytest.App())
	s := gatewaytest.Start(t, hub, func(cfg *gateway.Config) { cfg.Compress = true })
	ws, resp, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{
		Subprotocols: []string{"crier.v1.json"}, CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if !strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Fatalf("not agreed: %v", resp.Header)
	}
	p := &peer{t, t.Context(), ws, frame.JSON}
	p.send(login("alice"))
	p.receive()
	text := strings.Repeat("all the same ", 200)
	sess := session(t, hub, 0)
	before := s.Value(t, "crier_gateway_sent_bytes_total")
	for i := range uint64(3) {
		sess.Conn.Deliver(gatewaytest.Message(i, text))
		if m, ok := p.receive().(*frame.Message); !ok || m.Notification.Text != text || m.Seq != i {
			t.Fatalf("got %+v", m)
		}
	}
	if sent := s.Value(t, "crier_gateway_sent_bytes_total") - before; sent > float64(len(text)) {
		t.Errorf("three messages of twice %d bytes took %v", len(text), sent)
	}
}
