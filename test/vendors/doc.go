// Package vendors runs the real process against a simulator of APNs that fails in each way that a vendor
// can: what must be sent, sent again, given up and told.
package vendors
