// Package architecture guards the shape of the tree: who may import whom.
package architecture
