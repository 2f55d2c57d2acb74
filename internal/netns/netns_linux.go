// Package netns makes networks of Linux network namespaces, one for each host, for tests that run a cluster's processes and cut,
// slow down or garble what is between them. The hosts have no cable: each has a TUN interface, and this process passes their packets on, so
// that it can drop and delay them as it likes, one direction of two hosts at a time, on any kernel. Nothing has a name outside
// this process: with it the namespaces and the processes in them are gone, however it ends.
package netns

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnsupported is why there can be no network here: it takes root's rights and /dev/net/tun.
var ErrUnsupported = errors.New("network namespaces need root and /dev/net/tun")

const (
	// mtu is larger than Ethernet's: each packet costs two system calls of this process.
	mtu = 9000
	// maxHosts is as many as have an address in a /24, with this process.
	maxHosts = 254
	// An IPv4 header is at least so long, and has the address of the receiver there.
	headerLength, destination = 20, 16
)

// Link is one direction from one host to another. The zero Link passes everything at once.
type Link struct {
	Cut   bool          // nothing passes
	Loss  float64       // of packets, 0 to 1
	Delay time.Duration // of each packet; packets may overtake one another by a little
}

// Network is hosts and what is between them: host 0 is this process in the namespace that it has, the others have one of their own. Safe for
// concurrent use.
type Network struct {
	hosts   []*host
	prefix  [3]byte                  // of all addresses
	links   [][]atomic.Pointer[Link] // from, to
	readers sync.WaitGroup
}

// host is one end: its namespace, and the packets that leave and enter it.
type host struct {
	namespace *os.File // nil: that of this process
	tun       *os.File
}

// New makes a network of this process and more hosts, up to 253. Its addresses are of 198.18.0.0/15, which is for tests of networks. The error
// is ErrUnsupported where this process may not.
func New(hosts int) (*Network, error) {
	if hosts < 1 || hosts >= maxHosts {
		return nil, fmt.Errorf("a network of %d hosts: it must be 1..%d", hosts, maxHosts-1)
	}
	n := &Network{links: make([][]atomic.Pointer[Link], hosts+1)}
	for from := range n.links {
		n.links[from] = make([]atomic.Pointer[Link], hosts+1)
	}
	if err := n.choosePrefix(); err != nil {
		return nil, err
	}
	n.Heal()
	for i := range hosts + 1 {
		h := new(host)
		n.hosts = append(n.hosts, h)
		if err := n.plug(h, i); err != nil {
			return nil, errors.Join(fmt.Errorf("host %d: %w", i, err), n.Close())
		}
	}
	for from, h := range n.hosts {
		n.readers.Go(func() { n.pass(from, h.tun) })
	}
	return n, nil
}

// choosePrefix finds a /24 that no interface of this process has.
func (n *Network) choosePrefix() error {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
next:
	for range 1000 {
		n.prefix = [3]byte{198, 18, byte(rand.IntN(256))}
		for _, a := range taken {
			if ip, ok := a.(*net.IPNet); ok && ip.Contains(n.Address(0).AsSlice()) {
				continue next
			}
		}
		return nil
	}
	return errors.New("every address of 198.18.0.0/16 is taken")
}

// Address returns the address of a host.
func (n *Network) Address(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{n.prefix[0], n.prefix[1], n.prefix[2], byte(host + 1)})
}

// plug gives a host its namespace, unless it is 0, and its interface.
func (n *Network) plug(h *host, number int) error {
	if number == 0 {
		return n.openTUN(h, number)
	}
	return visit(nil, func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return unsupported("make a namespace", err)
		}
		if h.namespace, err = current(); err != nil {
			return err
		}
		if err := configure("lo", up); err != nil {
			return err
		}
		return n.openTUN(h, number)
	})
}

// openTUN makes the interface in the namespace of the calling thread. It goes when its file is closed.
func (n *Network) openTUN(h *host, number int) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return unsupported("open /dev/net/tun", err)
	}
	ifr, err := unix.NewIfreq("crier%d")
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return errors.Join(unsupported("make an interface", err), unix.Close(fd))
	}
	h.tun = os.NewFile(uintptr(fd), "tun") // not before it is an interface: there is nothing to wait for until then
	return configure(ifr.Name(), func(do ioctl, ifr *unix.Ifreq) error {
		for _, a := range []struct {
			request uint
			address []byte
		}{{unix.SIOCSIFADDR, n.Address(number).AsSlice()}, {unix.SIOCSIFNETMASK, net.CIDRMask(24, 32)}} {
			if err := ifr.SetInet4Addr(a.address); err != nil {
				return err
			}
			if err := do(a.request, ifr); err != nil {
				return err
			}
		}
		ifr.SetUint32(mtu)
		if err := do(unix.SIOCSIFMTU, ifr); err != nil {
			return err
		}
		return up(do, ifr)
	})
}

// ioctl asks the kernel to change an interface.
type ioctl func(request uint, ifr *unix.Ifreq) error

// configure changes an interface of the calling thread's namespace.
func configure(name string, change func(ioctl, *unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := change(func(request uint, ifr *unix.Ifreq) error { return unix.IoctlIfreq(fd, request, ifr) }, ifr); err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	return nil
}

func up(do ioctl, ifr *unix.Ifreq) error {
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return do(unix.SIOCSIFFLAGS, ifr)
}

// unsupported tells whether an error is for want of rights.
func unsupported(what string, err error) error {
	for _, want := range []error{unix.EPERM, unix.EACCES, unix.ENOENT, unix.ENODEV, unix.ENOSYS, unix.EINVAL} {
		if errors.Is(err, want) {
			return fmt.Errorf("%w: %s: %w", ErrUnsupported, what, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// current opens the namespace of the calling thread.
func current() (*os.File, error) { return os.Open("/proc/thread-self/ns/net") }

// visit runs f on a thread that enters the namespace and comes back: a nil namespace is the one that it is in. What f starts stays there.
func visit(namespace *os.File, f func() error) error {
	runtime.LockOSThread()
	home, err := current()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if namespace != nil {
		err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
	}
	if err == nil {
		err = f()
	}
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("come back from a namespace: %w", back)) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// In runs f on a thread that is in the namespace of a host: the sockets that f opens itself, and the processes that it starts, are of
// that host. What f leaves to other goroutines is not.
func (n *Network) In(host int, f func() error) error { return visit(n.hosts[host].namespace, f) }

// Start starts a process on a host. It is killed when this process ends.
func (n *Network) Start(host int, c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return n.In(host, c.Start)
}

// Set makes the direction from one host to another what l says, from the next packet on.
func (n *Network) Set(from, to int, l Link) { n.links[from][to].Store(&l) }

// Heal makes every link whole.
func (n *Network) Heal() {
	whole := new(Link)
	for from := range n.links {
		for to := range n.links[from] {
			n.links[from][to].Store(whole)
		}
	}
}

// pass passes on what a host sends, until its interface is closed.
func (n *Network) pass(from int, tun *os.File) {
	packet := make([]byte, mtu)
	for {
		size, err := tun.Read(packet)
		if err != nil {
			return
		}
		if size < headerLength || packet[0]>>4 != 4 || [3]byte(packet[destination:]) != n.prefix {
			continue // IPv6 looks for neighbours
		}
		to := int(packet[destination+3]) - 1
		if to < 0 || to >= len(n.hosts) {
			continue
		}
		l := n.links[from][to].Load()
		switch {
		case l.Cut || l.Loss > 0 && rand.Float64() < l.Loss:
		case l.Delay > 0:
			late := bytes.Clone(packet[:size])
			time.AfterFunc(l.Delay, func() { n.deliver(to, late) })
		default:
			n.deliver(to, packet[:size])
		}
	}
}

// deliver gives a host a packet. One that it can't take, as while the network closes, is lost, as packets are.
func (n *Network) deliver(to int, packet []byte) { _, _ = n.hosts[to].tun.Write(packet) }

// Close removes the interfaces, and the namespaces in which no process is left. A second Close is harmless.
func (n *Network) Close() error {
	var errs []error
	for _, h := range n.hosts {
		for _, f := range []*os.File{h.tun, h.namespace} {
			if f == nil {
				continue
			}
			if err := f.Close(); !errors.Is(err, os.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	n.readers.Wait()
	return errors.Join(errs...)
}
