// Package crash kills the real process in the middle of writes and pushes,
// and checks that what was acknowledged is there.
package crash
