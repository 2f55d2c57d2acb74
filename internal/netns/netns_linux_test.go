package netns_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier/internal/netns"
)

// port is where each host of a test listens.
const port = 7000

// network is three hosts and this process. Each host tells who asks it the number of the host.
func network(t *testing.T) *netns.Network {
	t.Helper()
	n, err := netns.New(3)
	if errors.Is(err, netns.ErrUnsupported) {
		t.Skipf("NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	for host := 1; host <= 3; host++ {
		var l *net.UDPConn
		err := n.In(host, func() (err error) {
			l, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(endpoint(n, host)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			buf := make([]byte, 100)
			for {
				_, from, err := l.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				_, _ = l.WriteToUDPAddrPort(fmt.Append(nil, host), from)
			}
		}()
	}
	return n
}

func endpoint(n *netns.Network, host int) netip.AddrPort {
	return netip.AddrPortFrom(n.Address(host), port)
}

// asker is a socket on one host that is connected to another.
func asker(t *testing.T, n *netns.Network, from, to int) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := n.In(from, func() (err error) {
		c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(endpoint(n, to)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends packets until one is answered, n at most, and returns how long that one took; false if none is. An answer that was on its way for longer than within
// is not waited for.
func ask(t *testing.T, c *net.UDPConn, n int, within time.Duration) (time.Duration, bool) {
	t.Helper()
	for range n {
		began := time.Now()
		if _, err := c.Write([]byte("who are you?")); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 10)); err == nil {
			return time.Since(began), true
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	return 0, false
}

const (
	tries = 20
	soon  = 500 * time.Millisecond // within which an answer comes, at one of the tries
	quiet = 100 * time.Millisecond // after which none is expected any more
)

func TestEveryHostReachesEveryOther(t *testing.T) {
	n := network(t)
	for from := range 4 {
		for to := 1; to <= 3; to++ {
			if _, ok := ask(t, asker(t, n, from, to), tries, soon); !ok {
				t.Errorf("%d does not reach %d", from, to)
			}
		}
	}
}

func TestCut(t *testing.T) {
	n := network(t)
	there, back, other := asker(t, n, 1, 2), asker(t, n, 2, 1), asker(t, n, 1, 3)
	for _, cut := range [][2]int{{1, 2}, {2, 1}} { // what asks is lost, then what answers
		n.Set(cut[0], cut[1], netns.Link{Cut: true})
		for _, c := range []*net.UDPConn{there, back} {
			if _, ok := ask(t, c, 3, quiet); ok {
				t.Errorf("from %v comes an answer with %v cut", c.LocalAddr(), cut)
			}
		}
		if _, ok := ask(t, other, tries, soon); !ok {
			t.Errorf("with %v cut, 1 does not reach 3", cut)
		}
		n.Heal()
		if _, ok := ask(t, there, tries, soon); !ok {
			t.Error("no answer though all is healed")
		}
	}
}

// One direction of two is cut: what is sent arrives, the answers do not.
func TestOneDirection(t *testing.T) {
	n := network(t)
	var l *net.UDPConn
	if err := n.In(3, func() (err error) {
		l, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.Address(3), port+1)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.Set(3, 1, netns.Link{Cut: true})
	var c *net.UDPConn
	if err := n.In(1, func() (err error) {
		c, err = net.DialUDP("udp4", nil, l.LocalAddr().(*net.UDPAddr))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("one way")); err != nil {
		t.Fatal(err)
	}
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	size, err := l.Read(buf)
	if err != nil || string(buf[:size]) != "one way" {
		t.Errorf("%q, %v", buf[:size], err)
	}
}

func TestDelay(t *testing.T) {
	n := network(t)
	c := asker(t, n, 1, 2)
	const delay = 50 * time.Millisecond
	n.Set(1, 2, netns.Link{Delay: delay})
	if took, ok := ask(t, c, tries, soon); !ok || took < delay {
		t.Errorf("%v, %v", took, ok)
	}
}

func TestLoss(t *testing.T) {
	n := network(t)
	c := asker(t, n, 1, 2)
	n.Set(1, 2, netns.Link{Loss: 1})
	if _, ok := ask(t, c, 3, quiet); ok {
		t.Error("an answer though every packet is lost")
	}
	n.Set(1, 2, netns.Link{Loss: 0.5})
	lost, came := 0, 0
	for range 1000 {
		if _, ok := ask(t, c, 1, quiet); ok {
			came++
		} else {
			lost++
		}
		if lost > 0 && came > 0 {
			return
		}
	}
	t.Errorf("%d are lost, %d come", lost, came)
}

// A process that is started on a host is in its network.
func TestStart(t *testing.T) {
	n := network(t)
	of := func(host int) string {
		c := exec.Command("cat", "/proc/net/fib_trie") // every address of the namespace
		var out bytes.Buffer
		c.Stdout = &out
		if err := n.Start(host, c); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if all := of(2); !strings.Contains(all, n.Address(2).String()+"\n") || strings.Contains(all, n.Address(0).String()+"\n") {
		t.Errorf("host 2 has other addresses:\n%s", all)
	}
	if all := of(0); !strings.Contains(all, n.Address(0).String()+"\n") {
		t.Errorf("host 0 is not where this process is:\n%s", all)
	}
}

// Nothing is left in this process's namespace.
func TestClose(t *testing.T) {
	n := network(t)
	has := func() bool {
		all, err := net.InterfaceAddrs()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(a net.Addr) bool { return strings.HasPrefix(a.String(), n.Address(0).String()+"/") })
	}
	if !has() {
		t.Error("this process is not in the network")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if has() {
		t.Error("this process is in the network still")
	}
}

func TestHosts(t *testing.T) {
	for _, hosts := range []int{-1, 0, 254} {
		if _, err := netns.New(hosts); err == nil || errors.Is(err, netns.ErrUnsupported) {
			t.Errorf("a network of %d hosts: %v", hosts, err)
		}
	}
}
