//go:build race

package app_test

// underRace: see the constant of the same name in package cluster.
const underRace = true
