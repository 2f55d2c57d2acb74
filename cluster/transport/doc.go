// Package transport carries the messages of every raft group between nodes: one
// listener a node, and one connection for each direction of a pair of nodes, however many
// groups they share. Its Mux gives each group a raft.Transport.
package transport
