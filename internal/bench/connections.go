package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/http/gateway"
	"github.com/crier-im/crier/http/gateway/frame"
	"github.com/crier-im/crier/internal/freeport"
	"github.com/crier-im/crier/usersig"
)

const (
	// pushRounds is how often a push to all connections is timed.
	pushRounds = 21
	// dialersAtOnce is how many connections are opened at a time.
	dialersAtOnce = 64
	arriveWithin  = time.Minute
	// bareFrame is the size of the bare library's frame, about that of the push.
	bareFrame = 230
)

// measureConnections opens idle connections to a server process and to a process
// of the bare WebSocket library, and times one frame to all of each.
func measureConnections(ctx context.Context, cfg Config) ([]Result, error) {
	n, err := startNode(cfg, "connections")
	if err != nil {
		return nil, err
	}
	defer n.stop()
	c, err := n.client()
	if err != nil {
		return nil, err
	}
	if err := importDevices(ctx, c, cfg.Connections); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // the accounts are on the disk
	before, err := residentBytes(n.pid)
	if err != nil {
		return nil, err
	}
	s := new(sink)
	defer s.close()
	if err := s.logIn(ctx, cfg.Connections, n.url, n.app, n.key, 0); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // the last logins settle
	after, err := residentBytes(n.pid)
	if err != nil {
		return nil, err
	}
	ours, err := s.time(pushing(ctx, c))
	if err != nil {
		return nil, err
	}
	n.stop()
	s.close()
	bare, err := measureBare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	rate := func(d time.Duration) float64 { return float64(cfg.Connections) / d.Seconds() }
	return []Result{
		{
			Name:  fmt.Sprintf("an idle connection, of %d", cfg.Connections),
			Value: fmt.Sprintf("%.1f KB", float64(after-before)/float64(cfg.Connections)/1024), Limit: "-", Ratio: "-", Goal: "under 20 KB",
		},
		{
			Name:  fmt.Sprintf("one push to %d connections, from the call to the last receiver", cfg.Connections),
			Value: fmt.Sprintf("%.0f frames/s", rate(ours)), Limit: fmt.Sprintf("%.0f frames/s, bare library", rate(bare)),
			Ratio: fmt.Sprintf("%.2f", bare.Seconds()/ours.Seconds()), Goal: "0.6 or more",
		},
	}, nil
}

func device(i int) crier.UserID { return crier.UserID(fmt.Sprintf("device%06d", i)) }

// importDevices makes the accounts first, so that what they cost is not counted
// as the connections'.
func importDevices(ctx context.Context, c *client.Client, n int) error {
	for from := 0; from < n; from += batch {
		var users []crier.UserID
		for i := from; i < min(from+batch, n); i++ {
			users = append(users, device(i))
		}
		if err := c.Import(ctx, users...); err != nil {
			return err
		}
	}
	return nil
}

// pushing returns what pushes to everybody who is connected. All frames are as long: every TaskId has as many digits.
func pushing(ctx context.Context, c *client.Client) func() error {
	random := uint32(4_000_000_000)
	return func() error {
		random++
		_, err := c.Push(ctx, client.Push{Text: "One message to everybody who is connected.", Random: random})
		return err
	}
}

// measureBare times the bare library's prepared frame.
func measureBare(ctx context.Context, cfg Config) (time.Duration, error) {
	address, err := freeport.Address()
	if err != nil {
		return 0, err
	}
	_, stop, err := child(cfg, "bench", "--bare", address)
	if err != nil {
		return 0, err
	}
	defer stop()
	for deadline := time.Now().Add(startWait); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			break
		} else if time.Now().After(deadline) {
			return 0, err
		}
	}
	s := new(sink)
	defer s.close()
	if err := s.open(ctx, cfg.Connections, address, "/", "", nil); err != nil {
		return 0, err
	}
	return s.time(func() error {
		resp, err := http.Post("http://"+address+"/go", "text/plain", nil)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// ServeBare is the process of the bare library: it upgrades every connection, and
// writes one prepared frame to all of them for each POST /go. It blocks.
func ServeBare(address string) error {
	var mu sync.Mutex
	var conns []*gws.Conn
	upgrader := gws.NewUpgrader(new(gws.BuiltinEventHandler), &gws.ServerOption{ReadBufferSize: 512, WriteBufferSize: 512})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /go", func(http.ResponseWriter, *http.Request) {
		b := gws.NewBroadcaster(gws.OpcodeBinary, bytes.Repeat([]byte("x"), bareFrame))
		defer func() { _ = b.Close() }()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = b.Broadcast(c) // a connection that is gone
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		go c.ReadLoop() // ends with the connection
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// sink is many receivers that cost as little as they can: they count bytes.
type sink struct {
	mu    sync.Mutex
	conns []net.Conn
	got   atomic.Int64
	size  int64 // of the frame that is sent
	group sync.WaitGroup
}

// open opens connections, 127.0.0.1 to 127.0.0.1, and reads what the server says first.
func (s *sink) open(ctx context.Context, n int, address, path, protocol string, login func(int) ([]byte, error)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dialersAtOnce)
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var first []byte
			if login != nil {
				var err error
				if first, err = login(i); err != nil {
					return err
				}
			}
			if err := s.connect(address, path, protocol, first); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// logIn opens connections of n accounts of an app to a node, the first of which has the number.
func (s *sink) logIn(ctx context.Context, n int, url string, app crier.AppID, key string, first int) error {
	return s.open(ctx, n, strings.TrimPrefix(url, "http://"), gateway.Path, frame.Proto.Subprotocol(), func(i int) ([]byte, error) {
		user := device(first + i)
		return frame.Proto.EncodeClient(&frame.Login{
			SDKAppID: app, Identifier: string(user), Platform: crier.Android, UserSig: usersig.Sign(key, app, user, time.Now(), time.Hour, nil),
		})
	})
}

func (s *sink) connect(address, path, protocol string, login []byte) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", path)
	if protocol != "" {
		request += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return err
	}
	r := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade: %s", resp.Status)
	}
	if login != nil {
		if err := s.login(conn, r, login); err != nil {
			return err
		}
	}
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
	return nil
}

// login sends the first frame, masked with zeros, and reads the welcome.
func (s *sink) login(conn net.Conn, r *bufio.Reader, login []byte) error {
	head := []byte{0x82, 0x80 | 126}
	head = binary.BigEndian.AppendUint16(head, uint16(len(login)))
	head = append(head, 0, 0, 0, 0)
	if _, err := conn.Write(append(head, login...)); err != nil {
		return err
	}
	first := make([]byte, 2)
	if _, err := io.ReadFull(r, first); err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	if first[0] != 0x82 || first[1] > 125 {
		return fmt.Errorf("the login was not welcome: %x", first)
	}
	if _, err := io.CopyN(io.Discard, r, int64(first[1])); err != nil {
		return err
	}
	if r.Buffered() > 0 {
		return fmt.Errorf("more than the welcome came")
	}
	return nil
}

// time sends several rounds and returns the median time until all have one more
// frame.
func (s *sink) time(send func() error) (time.Duration, error) {
	if err := s.warmUp(send); err != nil {
		return 0, err
	}
	return s.rounds(pushRounds, send)
}

// warmUp sends one round that is not timed: it tells how long a frame is.
func (s *sink) warmUp(send func() error) error {
	before, started := s.got.Load(), time.Now()
	if err := send(); err != nil {
		return err
	}
	_, err := s.wait(before, 0, started)
	s.size = (s.got.Load() - before) / int64(len(s.conns))
	return err
}

// rounds is time after warmUp.
func (s *sink) rounds(n int, send func() error) (time.Duration, error) {
	var all []time.Duration
	for range n {
		before, started := s.got.Load(), time.Now()
		if err := send(); err != nil {
			return 0, err
		}
		took, err := s.wait(before, s.size, started)
		if err != nil {
			return 0, err
		}
		all = append(all, took)
	}
	return median(all), nil
}

// wait waits until every connection has a frame of the size; where the size is
// not known yet, until nothing more comes for two seconds.
func (s *sink) wait(before, size int64, started time.Time) (time.Duration, error) {
	want := size * int64(len(s.conns))
	last, since := before, time.Now()
	for {
		got := s.got.Load()
		switch {
		case size > 0 && got-before >= want:
			return time.Since(started), nil
		case got != last:
			last, since = got, time.Now()
		case size == 0 && got > before && time.Since(since) > 2*time.Second:
			return 0, nil
		case time.Since(started) > arriveWithin:
			return 0, fmt.Errorf("%d of %d bytes arrived within %v", got-before, want, arriveWithin)
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func (s *sink) close() {
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.group.Wait()
}

// residentBytes returns the resident memory of a process (Linux).
func residentBytes(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm has %d fields", len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
