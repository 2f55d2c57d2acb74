//go:build race

package cluster_test

// underRace: protoactor sets gRPC's global logger whenever a node starts, which the connections of other nodes in the process read:
// a race of the libraries that several nodes in one process always have.
const underRace = true
