package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/http/gateway/gatewaytest"
)

// sink counts what all its connections receive, in bytes, at the least cost.
type sink struct {
	got   atomic.Int64
	conns []net.Conn
	group sync.WaitGroup
}

// connect upgrades a bare TCP connection; after it, after sends what a client would.
func (s *sink) connect(b *testing.B, url, protocol string, after []byte) {
	b.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "ws://"), "/")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		b.Fatal(err)
	}
	s.conns = append(s.conns, conn)
	fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, protocol)
	r := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		b.Fatalf("upgrade: %v, %v", resp, err)
	}
	if after != nil {
		if _, err := conn.Write(after); err != nil {
			b.Fatal(err)
		}
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil || head[1] > 125 {
			b.Fatalf("welcome: %x, %v", head, err)
		}
		if _, err := io.CopyN(io.Discard, r, int64(head[1])); err != nil {
			b.Fatal(err)
		}
	}
	if r.Buffered() > 0 {
		b.Fatal("more than the answer came")
	}
}

// read begins to count on every connection.
func (s *sink) read() {
	for _, conn := range s.conns {
		s.group.Go(func() {
			buf := make([]byte, 512)
			for {
				n, err := conn.Read(buf)
				s.got.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
}

func (s *sink) waitFor(n int64) {
	for s.got.Load() < n {
		runtime.Gosched()
		time.Sleep(20 * time.Microsecond)
	}
}

func (s *sink) close() {
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.group.Wait()
}

// maskedLogin is a login frame with a masking key of zeros.
func maskedLogin(b *testing.B, user string) []byte {
	b.Helper()
	data, err := frame.JSON.EncodeClient(login(crier.UserID(user)))
	if err != nil || len(data) < 126 {
		b.Fatalf("login of %d bytes, %v", len(data), err)
	}
	return append([]byte{0x81, 0x80 | 126, byte(len(data) >> 8), byte(len(data)), 0, 0, 0, 0}, data...)
}

// bareEvents is the bare library's server: it keeps its sockets.
type bareEvents struct {
	gws.BuiltinEventHandler
	mu      sync.Mutex
	sockets []*gws.Conn
}

func (e *bareEvents) OnOpen(c *gws.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sockets = append(e.sockets, c)
}

func (e *bareEvents) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sockets)
}

const broadcastConns = 1000

func broadcastMessage(i int) *crier.Delivery {
	return gatewaytest.Message(uint64(1_000_000_000+i), strings.Repeat("x", 60))
}

// BenchmarkBroadcast measures one push to 1000 connections, in frames a second: with the bare library, which
// writes one prepared frame, and through Conn.Deliver. Both write the same bytes to the same kind of reader.
func BenchmarkBroadcast(b *testing.B) {
	payload, err := frame.JSON.EncodeServer(frame.NewMessage(broadcastMessage(0)))
	if err != nil {
		b.Fatal(err)
	}
	size := int64(len(payload) + 4)
	report := func(b *testing.B) {
		b.ReportMetric(float64(b.N)*broadcastConns/b.Elapsed().Seconds(), "frames/s")
	}
	b.Run("bare", func(b *testing.B) {
		events := new(bareEvents)
		upgrader := gws.NewUpgrader(events, &gws.ServerOption{ReadBufferSize: 512})
		url := serve(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if socket, err := upgrader.Upgrade(w, r); err == nil {
				go socket.ReadLoop()
			}
		}))
		s := new(sink)
		for range broadcastConns {
			s.connect(b, url, "x", nil)
		}
		for events.count() < broadcastConns {
			time.Sleep(time.Millisecond)
		}
		s.read()
		defer s.close()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			data, err := frame.JSON.EncodeServer(frame.NewMessage(broadcastMessage(i)))
			if err != nil {
				b.Fatal(err)
			}
			broadcaster := gws.NewBroadcaster(gws.OpcodeText, data)
			for _, socket := range events.sockets {
				if err := broadcaster.Broadcast(socket); err != nil {
					b.Fatal(err)
				}
			}
			_ = broadcaster.Close()
			s.waitFor(int64(i+1) * broadcastConns * size)
		}
		report(b)
	})
	b.Run("crier", func(b *testing.B) {
		hub := gatewaytest.NewHub(gatewaytest.App())
		server := gatewaytest.Start(b, hub, nil)
		s := new(sink)
		for i := range broadcastConns {
			s.connect(b, server.URL, "crier.v1.json", maskedLogin(b, "user"+strconv.Itoa(i)))
		}
		session(b, hub, broadcastConns-1)
		sessions := hub.Sessions()
		s.read()
		defer s.close()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			d := broadcastMessage(i)
			for _, session := range sessions {
				session.Conn.Deliver(d)
			}
			s.waitFor(int64(i+1) * broadcastConns * size)
		}
		report(b)
	})
}

// BenchmarkIdleConnections measures what 5000 idle connections take of this process's heap and stacks, with the
// bare other ends in the same process taken out, and of its resident memory, with them.
func BenchmarkIdleConnections(b *testing.B) {
	const n = 5000
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(b, hub, nil)
	s := new(sink)
	defer s.close()
	for range b.N {
		heap, rss := inUse(), resident(b)
		for i := range n {
			s.connect(b, server.URL, "crier.v1.json", maskedLogin(b, "user"+strconv.Itoa(i)))
		}
		session(b, hub, n-1)
		b.ReportMetric(float64(inUse()-heap)/n, "heap+stack-B/conn")
		b.ReportMetric(float64(resident(b)-rss)/n, "rss-B/conn")
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	for range 8 { // pools are emptied in two rounds, and each halves the stacks that logins grew
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func resident(b *testing.B) uint64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("resident memory is read from /proc")
	}
	pages, err := strconv.ParseUint(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}

// BenchmarkDeliver measures one Deliver of a message that is already prepared, the write included.
func BenchmarkDeliver(b *testing.B) {
	hub := gatewaytest.NewHub(gatewaytest.App())
	server := gatewaytest.Start(b, hub, func(cfg *gateway.Config) { cfg.Limits.QueueFrames, cfg.Limits.QueueBytes = 1<<30, 1<<40 })
	s := new(sink)
	s.connect(b, server.URL, "crier.v1.json", maskedLogin(b, "alice"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sess, err := hub.WaitForSession(ctx, 0)
	if err != nil {
		b.Fatal(err)
	}
	s.read()
	defer s.close()
	d := broadcastMessage(1)
	payload, err := frame.JSON.EncodeServer(frame.NewMessage(d))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		sess.Conn.Deliver(d)
	}
	s.waitFor(int64(b.N) * int64(len(payload)+4))
}
