package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

func aCluster() *crier.ClusterStatus {
	return &crier.ClusterStatus{
		Coordinator: "11111111-a", Waiting: "partition 0: 33333333-c is catching up", Moving: 1,
		Nodes: []crier.NodeStatus{
			{Node: crier.Node{ID: "11111111-a", State: crier.NodeMember}, Alive: true, Address: "10.0.0.1:7946", Version: "v1", Replicas: 1, Leads: 1},
			{Node: crier.Node{ID: "22222222-b", State: crier.NodeMember}, Away: 65, Replicas: 1},
			{Node: crier.Node{ID: "44444444-d", State: crier.NodeRemoved}},
		},
		Partitions: []crier.PartitionStatus{
			{Partition: "0", Leader: "11111111-a", Steps: []string{"add 33333333-c"}, Replicas: []crier.ReplicaStatus{
				{Node: "11111111-a", Votes: true, Alive: true}, {Node: "22222222-b", Votes: true}, {Node: "33333333-c", Alive: true, Lag: 7},
			}},
			{Partition: "1"},
		},
	}
}

func TestClusterStatus(t *testing.T) {
	t.Parallel()
	url := answers(t, map[string]any{"/v1/cluster": aCluster()})
	out, err := run(t, "cluster", "status", "--url", url, "--token", "secret")
	const want = `NODE          STATE   ALIVE         ADDRESS        REPLICAS  LEADS  VERSION
11111111-a *  member  yes           10.0.0.1:7946  1         1      v1
22222222-b    member  no, for 1m5s                 1         0      

PARTITION  LEADER    REPLICAS                         NEXT
0          11111111  11111111 22222222! (33333333-7)  add 33333333-c
1          none                                       

not settled: partition 0: 33333333-c is catching up; 1 partitions are moving (* coordinates)
`
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = run(t, "cluster", "status", "--json", "--url", url, "--token", "secret"); err != nil || !strings.Contains(out, `"coordinator": "11111111-a"`) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestReplicaWords(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]crier.ReplicaStatus{
		"1a2b3c4d":           {Node: "1a2b3c4d-e", Votes: true, Alive: true},
		"1a2b3c4d-7":         {Node: "1a2b3c4d-e", Votes: true, Alive: true, Lag: 7},
		"1a2b3c4d!":          {Node: "1a2b3c4d-e", Votes: true, Lag: 7},
		"(1a2b3c4d)":         {Node: "1a2b3c4d-e", Alive: true},
		"(1a2b3c4d-7 stuck)": {Node: "1a2b3c4d-e", Alive: true, Lag: 7, Stuck: true},
		"(1a2b3c4d! stuck)":  {Node: "1a2b3c4d-e", Stuck: true},
	} {
		if got := replicaWords([]crier.ReplicaStatus{r}); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestClusterWait(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := answers(t, map[string]any{"/v1/cluster": func() any {
		s := aCluster()
		n := asked.Add(1)
		s.Settled, s.Age = n > 2, 0
		if n == 3 {
			s.Age = time.Hour.Milliseconds() // as it was before
		}
		return s
	}})
	if _, err := run(t, "cluster", "wait", "--url", url, "--token", "secret"); err != nil || asked.Load() != 4 {
		t.Errorf("%v after %d answers", err, asked.Load())
	}
	url = answers(t, map[string]any{"/v1/cluster": aCluster()})
	if _, err := run(t, "cluster", "wait", "--timeout", "10ms", "--url", url, "--token", "secret"); err == nil || !strings.Contains(err.Error(), "not settled") {
		t.Errorf("got %v", err)
	}
}

func TestClusterCommands(t *testing.T) {
	t.Parallel()
	url := answers(t, map[string]any{"/v1/cluster/nodes/abc/drain": struct{}{}, "/v1/cluster/nodes/def": struct{}{}, "/v1/cluster/rebalance": struct{}{}})
	for _, args := range [][]string{{"drain", "abc"}, {"drain", "abc", "--cancel"}, {"remove", "def"}, {"rebalance"}} {
		args = append([]string{"cluster"}, append(args, "--url", url, "--token", "secret")...)
		if _, err := run(t, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := run(t, "cluster", "drain", "xyz", "--url", url, "--token", "secret"); err == nil || !strings.Contains(err.Error(), "not for you") {
		t.Errorf("a refusal: %v", err)
	}
}
