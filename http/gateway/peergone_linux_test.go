package gateway

import (
	"net"
	"testing"
	"time"
)

// What a client has sent and nobody has read yet does not hide that it has gone.
func TestPeerGone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write([]byte("a login")); err != nil {
		t.Fatal(err)
	}
	if peerGone(server) {
		t.Error("it is gone though it is there")
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !peerGone(server); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is there though it is gone")
		}
	}
}
