package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
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

func (m *memory) CancelDrain(_ context.Context, node string) error {
	m.asked = append(m.asked, "keep "+node)
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

func (m *memory) PlanRecovery(_ context.Context, force bool) (*crier.Recovery, error) {
	if m.err != nil {
		return nil, m.err
	}
	plan := &crier.Recovery{Lost: []string{"b"}, Partitions: []crier.PartitionRecovery{{Partition: "0", Node: "a"}}}
	if force {
		plan.Electing = []string{"1"}
	}
	return plan, nil
}

func (m *memory) Recover(_ context.Context, plan *crier.Recovery, force bool) error {
	if len(plan.Partitions) == 0 {
		return crier.Errorf(crier.CodeBadParameter, "no partition is named")
	}
	m.asked = append(m.asked, fmt.Sprint("recover ", plan.Partitions[0].Partition, plan.Lost, force))
	return m.err
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	s := newServer()
	const path = "/v1/cluster/recovery"
	plan := s.want(t, http.StatusOK, http.MethodGet, path, "")
	if forced := s.want(t, http.StatusOK, http.MethodGet, path+"?force=true", ""); forced == plan {
		t.Errorf("forced: %s", forced)
	}
	s.want(t, http.StatusOK, http.MethodPost, path, plan)
	s.want(t, http.StatusOK, http.MethodPost, path+"?force=true", plan)
	if got := strings.Join(s.asked, ", "); got != "recover 0[b] false, recover 0[b] true" {
		t.Errorf("asked for %s", got)
	}
	s.want(t, http.StatusBadRequest, http.MethodPost, path, `{"partitions":7}`)
	s.err = crier.Errorf(crier.CodeBadParameter, "look again")
	s.want(t, http.StatusBadRequest, http.MethodPost, path, plan)
	s.err = crier.Errorf(crier.CodeTimeout, "a node does not answer")
	s.want(t, http.StatusServiceUnavailable, http.MethodGet, path, "")
}

func TestCluster(t *testing.T) {
	t.Parallel()
	s := newServer()
	var status crier.ClusterStatus
	if err := json.Unmarshal([]byte(s.want(t, http.StatusOK, http.MethodGet, "/v1/cluster", "")), &status); err != nil || !status.Settled || status.Nodes[0].ID != "a" {
		t.Errorf("%+v, %v", status, err)
	}
	s.want(t, http.StatusAccepted, http.MethodPost, "/v1/cluster/nodes/a/drain", "")
	s.want(t, http.StatusAccepted, http.MethodDelete, "/v1/cluster/nodes/a/drain", "")
	s.want(t, http.StatusAccepted, http.MethodDelete, "/v1/cluster/nodes/b", "")
	s.want(t, http.StatusAccepted, http.MethodPost, "/v1/cluster/rebalance", "")
	if got := strings.Join(s.asked, ", "); got != "drain a, keep a, remove b, rebalance" {
		t.Errorf("asked for %s", got)
	}
	for code, status := range map[crier.Code]int{crier.CodeBadParameter: http.StatusBadRequest, crier.CodeTimeout: http.StatusServiceUnavailable} {
		s.err = crier.Errorf(code, "no")
		s.want(t, status, http.MethodGet, "/v1/cluster", "")
		s.want(t, status, http.MethodPost, "/v1/cluster/nodes/a/drain", "")
		s.want(t, status, http.MethodDelete, "/v1/cluster/nodes/a/drain", "")
		s.want(t, status, http.MethodDelete, "/v1/cluster/nodes/b", "")
		s.want(t, status, http.MethodPost, "/v1/cluster/rebalance", "")
	}
	if got, _ := send(s.handler, "Bearer wrong", http.MethodDelete, "/v1/cluster/nodes/b", ""); got != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", got)
	}
}
