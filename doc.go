// Package crier is the vocabulary of Crier, a self-hosted push-messaging
// service: apps, accounts, conditions, messages, campaigns, and the coded
// errors by which everything that goes wrong is told to a caller.
//
// The package holds values and rules only. It does no I/O, starts no goroutine
// and imports nothing but the standard library; the packages actors, cluster,
// http and persistence meet in it and do not import one another.
package crier
