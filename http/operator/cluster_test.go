package operator_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/crier-im/crier"
)

func (m *memory) Status(context.Context) (*crier.ClusterStatus, error) {
	if m.err != nil {
		return nil, m.err
	}
	return &crier.ClusterStatus{Coordinator: "a", Settled: true, Nodes: []crier.NodeStatus{{Node: crier.Node{ID: "a", State: crier.NodeMember}, Alive: true}}}, nil
}

func (m *memory) Drain(_ context.Context, node string) error {
	m.asked = append(m.asked, "drain "+node)
	return m.err
}

func (m *memory) Remove(_ context.Context, node string) error {
	m.asked = append(m.asked, "remove "+node)
	return m.err
}

func (m *memory) Rebalance(context.Context) error {
	m.asked = append(m.asked, "rebalance")
	return m.err
}

func TestCluster(t *testing.T) {
	t.Parallel()
	s := newServer()
	var status crier.ClusterStatus
	if err := json.Unmarshal([]byte(s.want(t, http.StatusOK, http.MethodGet, "/v1/cluster", "")), &status); err != nil || !status.Settled || status.Nodes[0].ID != "a" {
		t.Errorf("%+v, %v", status, err)
	}
	s.want(t, http.StatusAccepted, http.MethodPost, "/v1/cluster/nodes/a/drain", "")
	s.want(t, http.StatusAccepted, http.MethodDelete, "/v1/cluster/nodes/b", "")
	s.want(t, http.StatusAccepted, http.MethodPost, "/v1/cluster/rebalance", "")
	if got := strings.Join(s.asked, ", "); got != "drain a, remove b, rebalance" {
		t.Errorf("asked for %s", got)
	}
	for code, status := range map[crier.Code]int{crier.CodeBadParameter: http.StatusBadRequest, crier.CodeTimeout: http.StatusServiceUnavailable} {
		s.err = crier.Errorf(code, "no")
		s.want(t, status, http.MethodGet, "/v1/cluster", "")
		s.want(t, status, http.MethodPost, "/v1/cluster/nodes/a/drain", "")
		s.want(t, status, http.MethodDelete, "/v1/cluster/nodes/b", "")
		s.want(t, status, http.MethodPost, "/v1/cluster/rebalance", "")
	}
	if got, _ := send(s.handler, "Bearer wrong", http.MethodDelete, "/v1/cluster/nodes/b", ""); got != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", got)
	}
}
