package cluster

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/crier-im/crier"
)

// systemVoters is how many nodes vote in the system group at most.
const systemVoters = 5

// spread returns the nodes that are to hold each group, by group: replicas of them, or all nodes where there are fewer. What stands well
// stays: only what is missing, what is too much, and what makes one node hold two replicas more than another moves. So no node holds more than one
// replica more than another, and a node more or less moves only its share. What moves, goes by rendezvous hashing: each node draws
// a number for each group, and the highest wins.
//
// held has every group with the nodes that hold it. nodes are those that may keep what they hold; takes tells which of them
// are there to take more. All nodes that know the same come to the same result.
func spread(held map[crier.PartitionID][]string, nodes []string, takes func(string) bool, replicas int) map[crier.PartitionID][]string {
	s := &spreading{wanted: make(map[crier.PartitionID][]string, len(held)), load: make(map[string]int, len(nodes)), groups: slices.Sorted(maps.Keys(held))}
	for _, n := range slices.Sorted(slices.Values(nodes)) {
		s.load[n] = 0
		if takes(n) {
			s.takers = append(s.takers, n)
		}
	}
	for _, p := range s.groups {
		for _, n := range held[p] {
			if _, ok := s.load[n]; ok {
				s.wanted[p] = append(s.wanted[p], n)
				s.load[n]++
			}
		}
	}
	replicas = min(replicas, len(nodes))
	for _, p := range s.groups {
		for len(s.wanted[p]) > replicas {
			s.drop(p, s.fullest(p))
		}
	}
	for _, p := range s.groups {
		for len(s.wanted[p]) < replicas {
			n := s.emptiest(p)
			if n == "" {
				break // nobody is there to take it
			}
			s.give(p, n)
		}
	}
	s.even()
	for _, p := range s.groups {
		slices.Sort(s.wanted[p])
	}
	return s.wanted
}

// spreading is a spread under way.
type spreading struct {
	groups []crier.PartitionID // sorted
	wanted map[crier.PartitionID][]string
	load   map[string]int // replicas, by node
	takers []string       // sorted
}

func (s *spreading) give(p crier.PartitionID, n string) {
	s.wanted[p] = append(s.wanted[p], n)
	s.load[n]++
}

func (s *spreading) drop(p crier.PartitionID, n string) {
	s.wanted[p] = slices.DeleteFunc(slices.Clone(s.wanted[p]), func(x string) bool { return x == n })
	s.load[n]--
}

// fullest returns the holder of a group that is to lose it.
func (s *spreading) fullest(p crier.PartitionID) string {
	return slices.MaxFunc(s.wanted[p], func(a, b string) int {
		return cmp.Or(cmp.Compare(s.load[a], s.load[b]), compareDraws(b, a, p))
	})
}

// emptiest returns the node that is to hold a group too, "" where there is none.
func (s *spreading) emptiest(p crier.PartitionID) string {
	best := ""
	for _, n := range s.takers {
		if slices.Contains(s.wanted[p], n) {
			continue
		}
		if best == "" || cmp.Or(cmp.Compare(s.load[n], s.load[best]), compareDraws(best, n, p)) < 0 {
			best = n
		}
	}
	return best
}

// even moves replicas from nodes with more to nodes with less, until none has two more than another.
func (s *spreading) even() {
	byLoad := func(a, b string) int { return cmp.Compare(s.load[a], s.load[b]) }
	for len(s.takers) > 0 {
		from, to := slices.MaxFunc(s.takers, byLoad), slices.MinFunc(s.takers, byLoad)
		if s.load[from]-s.load[to] < 2 {
			return
		}
		var best crier.PartitionID
		found := false
		for _, p := range s.groups { // there is one: from holds more groups than to
			if slices.Contains(s.wanted[p], from) && !slices.Contains(s.wanted[p], to) && (!found || draw(to, p) > draw(to, best)) {
				best, found = p, true
			}
		}
		s.drop(best, from)
		s.give(best, to)
	}
}

// evenLeaders returns who is to lead each group: no node leads two groups more than another where that can be. leads has who leads a group
// now, can who may lead it. Few groups change hands: a node with more than its share hands one over to a node that has less, if need be by way
// of others.
func evenLeaders(leads map[crier.PartitionID]string, can map[crier.PartitionID][]string) map[crier.PartitionID]string {
	wanted, load := make(map[crier.PartitionID]string, len(can)), make(map[string]int)
	groups := slices.Sorted(maps.Keys(can))
	for _, p := range groups {
		for _, n := range can[p] {
			load[n] += 0
		}
		if slices.Contains(can[p], leads[p]) {
			wanted[p] = leads[p]
			load[leads[p]]++
		}
	}
	for _, p := range groups {
		if wanted[p] == "" && len(can[p]) > 0 {
			n := slices.MinFunc(can[p], func(a, b string) int {
				return cmp.Or(cmp.Compare(load[a], load[b]), compareDraws(b, a, p))
			})
			wanted[p] = n
			load[n]++
		}
	}
	for {
		path := lighter(groups, wanted, can, load)
		if path == nil {
			return wanted
		}
		for _, hand := range path {
			load[wanted[hand.group]]--
			wanted[hand.group] = hand.to
			load[hand.to]++
		}
	}
}

// handing is a group that another node is to lead.
type handing struct {
	group crier.PartitionID
	to    string
}

// lighter returns the shortest way by which a node can lead one group less, at the end of which a node that leads two less at least leads one more; nil if
// there is none.
func lighter(groups []crier.PartitionID, wanted map[crier.PartitionID]string, can map[crier.PartitionID][]string, load map[string]int) []handing {
	led := make(map[string][]crier.PartitionID)
	for _, p := range groups {
		led[wanted[p]] = append(led[wanted[p]], p)
	}
	nodes := slices.SortedFunc(maps.Keys(load), func(a, b string) int { return cmp.Or(cmp.Compare(load[b], load[a]), cmp.Compare(a, b)) })
	for _, from := range nodes {
		type visit struct {
			before string
			group  crier.PartitionID
		}
		seen := map[string]visit{from: {}}
		for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
			n := queue[0]
			if load[from]-load[n] >= 2 {
				var path []handing
				for ; n != from; n = seen[n].before {
					path = append(path, handing{seen[n].group, n})
				}
				return path
			}
			for _, p := range led[n] {
				for _, next := range can[p] {
					if _, ok := seen[next]; !ok {
						seen[next] = visit{n, p}
						queue = append(queue, next)
					}
				}
			}
		}
	}
	return nil
}

// compareDraws compares the numbers of two nodes for a group.
func compareDraws(a, b string, p crier.PartitionID) int {
	return cmp.Or(cmp.Compare(draw(a, p), draw(b, p)), cmp.Compare(b, a))
}

// draw is a node's number for a group.
func draw(node string, p crier.PartitionID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint16([]byte(node), uint16(p))) // never fails
	x := h.Sum64()
	// fnv mixes its last bytes badly; this is the finaliser of splitmix64.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
