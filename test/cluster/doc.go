// Package cluster runs three real processes as a cluster, kills, stops or restarts each of them in turn while accounts are
// changed and pushes sent, and checks that what was acknowledged is there, that every push reaches everybody once, and that
// accounts are linearizable.
package cluster
