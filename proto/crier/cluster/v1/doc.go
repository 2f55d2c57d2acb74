// Package clusterv1 has what nodes gossip, and how messages for several partitions of a node travel. All but this file is generated.
package clusterv1
