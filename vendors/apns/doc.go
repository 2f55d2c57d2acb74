// Package apns sends notifications to Apple devices through APNs, with a
// token's key (.p8) or a certificate (.p12).
//
// github.com/sideshow/apns2 makes the requests. What it leaves out stands here:
// connections whose number is bounded, a provider token that many senders renew
// once, "apns-expiration: 0", Retry-After, the milliseconds of a 410, and the
// reason that APNs gives only in a GOAWAY frame.
package apns
