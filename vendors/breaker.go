package vendors

import (
	"crypto/sha256"
	"time"

	"github.com/crier-im/crier"
)

const (
	// streak is how many devices in a row must be refused for the operator's fault before sending pauses.
	streak = 20
	// pauseFirst and pauseMost bound a pause; each is twice the one before.
	pauseFirst = 30 * time.Second
	pauseMost  = 5 * time.Minute
	// probeGap is how long others wait while one push tries whether it works again.
	probeGap = time.Second
	// doubt is after how many devices in a row what a vendor says of a device (ofDevice) is no longer believed of a
	// credential that has worked.
	doubt = 5
	// failedMost bounds the devices that a breaker remembers, and lanesMost the push services that a sender has breakers for.
	failedMost = 100
	lanesMost  = 100
)

// breaker stops sending where a credential does not work: the vendor need not be asked, and what is not sent is sent later. The zero value lets pushes pass. It is made with the first refusal and dropped with
// the first success. Guarded by its sender's mu.
type breaker struct {
	failed  map[[sha256.Size]byte]struct{} // the devices that were refused, each once: one alone must not pause all
	last    crier.Outcome
	pause   time.Duration // the length of the last pause; 0: there was none
	until   time.Time     // its end
	probing *pass         // after the pause: the one push that tries; nil: none does
}

// pass lets one push through.
type pass struct{ probe *breaker } // where it is the one that tries; else nil

// end gives the place of the one that tries to another.
func (p *pass) end() {
	if p.probe != nil && p.probe.probing == p {
		p.probe.probing = nil
	}
}

// admit returns a pass, or nil and how long to wait.
func (b *breaker) admit(now time.Time) (*pass, time.Duration) {
	switch {
	case b.pause == 0:
		return new(pass), 0
	case now.Before(b.until):
		return nil, b.until.Sub(now)
	case b.probing != nil:
		return nil, probeGap
	}
	b.probing = &pass{b}
	return b.probing, 0
}

// fail counts a refusal, and reports whether a pause begins with it. While there is a pause, and after it, only the push that
// tries counts: others were sent before.
func (b *breaker) fail(p *pass, d *crier.Device, o crier.Outcome, now time.Time) bool {
	p.end()
	b.last = o
	device := sha256.Sum256([]byte(d.Token))
	_, known := b.failed[device]
	if !known && len(b.failed) < failedMost {
		if b.failed == nil {
			b.failed = make(map[[sha256.Size]byte]struct{})
		}
		b.failed[device] = struct{}{}
	}
	switch {
	case b.pause == 0 && len(b.failed) >= streak:
		b.pause = pauseFirst
	case b.pause > 0 && p.probe == b && !known:
		b.pause = min(2*b.pause, pauseMost)
	default:
		return false
	}
	b.until = now.Add(b.pause)
	return true
}

// devices returns how many devices were refused, up to failedMost.
func (b *breaker) devices() int { return len(b.failed) }
