// Package faults runs the real process over broken and full disks: what it must say, refuse,
// keep and lose nothing of.
package faults
