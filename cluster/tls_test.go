package cluster_test

import (
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/cluster"
	"github.com/crier-im/crier/cluster/transport/transporttest"
)

// Actors of nodes speak mutual TLS: who has no certificate of the CA for the nodes' name is turned away, and the log says so.
func TestActorsTurnStrangersAway(t *testing.T) {
	ours, theirs := transporttest.NewAuthority(t), transporttest.NewAuthority(t)
	log := new(lines)
	c := newNodes(t, 2, 8, func(cfg *cluster.Config) {
		cfg.TLS = ours.Node("nodes", "nodes")
		cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	for p := range crier.PartitionID(8) { // friends get in
		if n, err := c.count(int(p)%2, p); err != nil || n != 1 {
			t.Errorf("partition %s: %d, %v", p, n, err)
		}
	}
	address := c.nodes[0].Members()[0].ActorAddress
	friend := ours.Node("nodes", "nodes")
	enter := func(config *tls.Config) error {
		raw, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer raw.Close()
		if err := raw.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		conn := tls.Client(raw, config)
		if err := conn.Handshake(); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 the server's refusal comes after the client's handshake
		return err
	}
	config := func(from *tls.Config) *tls.Config {
		k := friend.Clone()
		k.NextProtos, k.GetClientCertificate = []string{"h2"}, nil
		if from != nil {
			k.GetClientCertificate = from.GetClientCertificate
		}
		return k
	}
	for name, from := range map[string]*tls.Config{"no certificate": nil, "one of another CA": theirs.Node("nodes", "nodes"), "one of another name": ours.Node("others", "others")} {
		if err := enter(config(from)); err == nil || !strings.Contains(err.Error(), "tls") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := enter(config(friend)); err != nil {
		t.Errorf("a friend: %v", err)
	}
	if !strings.Contains(log.String(), "a connection to the actors was turned away") {
		t.Error("the log does not tell")
	}
}
