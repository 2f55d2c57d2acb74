package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/crier-im/crier"
)

func nodes(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("2f1c6a1e-0000-4000-8000-%012d", i))
	}
	return all
}

func everybody(string) bool { return true }

// nowhere is groups that nobody holds yet.
func nowhere(groups int) map[crier.PartitionID][]string {
	held := make(map[crier.PartitionID][]string)
	for p := range groups {
		held[crier.PartitionID(p)] = nil
	}
	return held
}

// wantEven checks that each group has its replicas, on different nodes, and that no node is more than 5 % from even, rounded outwards.
func wantEven(t *testing.T, what string, wanted map[crier.PartitionID][]string, nodes []string, replicas int) {
	t.Helper()
	count := make(map[string]int)
	for p, holders := range wanted {
		if len(holders) != replicas || len(slices.Compact(slices.Sorted(slices.Values(holders)))) != replicas {
			t.Fatalf("%s: group %s is held by %v", what, p, holders)
		}
		for _, n := range holders {
			count[n]++
		}
	}
	mean := float64(len(wanted)*replicas) / float64(len(nodes))
	wantNear(t, what, count, nodes, mean)
	if len(count) > len(nodes) {
		t.Errorf("%s: %d nodes hold something, there are %d", what, len(count), len(nodes))
	}
}

func wantNear(t *testing.T, what string, count map[string]int, nodes []string, mean float64) {
	t.Helper()
	for _, n := range nodes {
		if k := float64(count[n]); k+1 <= 0.95*mean || k-1 >= 1.05*mean {
			t.Errorf("%s: node %s has %v, the mean is %.1f", what, n, k, mean)
		}
	}
}

// moved counts the replicas that are in the one and not in the other.
func moved(before, after map[crier.PartitionID][]string) (n int) {
	for p := range after {
		for _, node := range after[p] {
			if !slices.Contains(before[p], node) {
				n++
			}
		}
	}
	return n
}

// The figures of a large cluster: 100 nodes, 1,024 partitions, 3 replicas.
func TestSpreadIsEvenAndMovesLittle(t *testing.T) {
	t.Parallel()
	const groups, replicas, n = 1024, 3, 100
	all := nodes(n + 1)
	before := spread(nowhere(groups), all[:n], everybody, replicas)
	wantEven(t, "100 nodes", before, all[:n], replicas)
	most := func(of int) int { return groups*replicas/of + groups*replicas/50 }

	grown := spread(before, all, everybody, replicas)
	wantEven(t, "one more", grown, all, replicas)
	if k := moved(before, grown); k > most(n+1) {
		t.Errorf("a new node moves %d replicas, at most %d should", k, most(n+1))
	}
	for p := range grown {
		for _, node := range grown[p] {
			if node != all[n] && !slices.Contains(before[p], node) {
				t.Errorf("group %s moves to %s, which is not new", p, node)
			}
		}
	}
	left := slices.Concat(all[:17], all[18:n])
	shrunk := spread(before, left, everybody, replicas)
	wantEven(t, "one less", shrunk, left, replicas)
	if k := moved(before, shrunk); k > most(n) {
		t.Errorf("a lost node moves %d replicas, at most %d should", k, most(n))
	}
	if again := spread(shrunk, left, everybody, replicas); moved(shrunk, again) != 0 {
		t.Error("what is even does not stay")
	}

	can := grown
	leaders := evenLeaders(nil, can)
	wantLeaders(t, leaders, can, all)
	handed := 0
	leads := evenLeaders(leaders, shrunk)
	wantLeaders(t, leads, shrunk, left)
	for p, n := range leads {
		if n != leaders[p] && slices.Contains(shrunk[p], leaders[p]) {
			handed++
		}
	}
	t.Logf("moved: %d for a new node, %d for a lost one, of %d; %d leaders of living nodes handed over", moved(before, grown), moved(before, shrunk), groups*replicas, handed)
}

func wantLeaders(t *testing.T, leaders map[crier.PartitionID]string, can map[crier.PartitionID][]string, nodes []string) {
	t.Helper()
	count := make(map[string]int)
	for p := range can {
		if !slices.Contains(can[p], leaders[p]) {
			t.Errorf("group %s is to be led by %q, which can't", p, leaders[p])
		}
		count[leaders[p]]++
	}
	wantNear(t, "leaders", count, nodes, float64(len(can))/float64(len(nodes)))
}

// From 1 to 12 nodes and back, with as few moves as there can be, whatever state it begins in.
func TestSpreadFromAnywhere(t *testing.T) {
	t.Parallel()
	all := nodes(12)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n, replicas, groups := 1+random.IntN(len(all)), 1+random.IntN(5), 1+random.IntN(70)
		held := make(map[crier.PartitionID][]string)
		for p := range groups {
			some := slices.Clone(all)
			random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			held[crier.PartitionID(p)] = some[:random.IntN(6)]
		}
		wanted := spread(held, all[:n], everybody, replicas)
		wantEven(t, fmt.Sprintf("%d groups on %d nodes", groups, n), wanted, all[:n], min(replicas, n))
		if again := spread(wanted, all[:n], everybody, replicas); moved(wanted, again) != 0 {
			t.Error("what is even does not stay")
		}
		wantLeaders(t, evenLeaders(nil, wanted), wanted, all[:n])
	}
}

// A node that is away for a while keeps what it holds, and gets nothing.
func TestSpreadWaitsForANodeThatIsAway(t *testing.T) {
	t.Parallel()
	all := nodes(4)
	before := spread(nowhere(64), all, everybody, 3)
	away := func(n string) bool { return n != all[1] }
	if k := moved(before, spread(before, all, away, 3)); k != 0 {
		t.Errorf("%d replicas move", k)
	}
	for p, holders := range spread(nowhere(64), all, away, 3) {
		if slices.Contains(holders, all[1]) {
			t.Errorf("group %s goes to the node that is away", p)
		}
	}
	if got := spread(nowhere(8), all[:2], everybody, 3); len(got[3]) != 2 {
		t.Errorf("two nodes hold %v", got[3])
	}
}

func BenchmarkSpread(b *testing.B) {
	all := nodes(100)
	before := spread(nowhere(1024), all, everybody, 3)
	for b.Loop() {
		spread(before, all[1:], everybody, 3)
	}
}
