package actors

import (
	"math/rand/v2"
	"time"

	"github.com/crier-im/crier"
)

// lane is what a notifier knows of notifications that fail together: those of one credential, and of one push service
// (Vendors.Lane). A lane that is out of order rests, and does not keep others from their pass.
type lane struct {
	resting bool               // all the time of this pass
	failed  int                // refusals in a row in this pass that say nothing of the device
	class   crier.OutcomeClass // of the last of them
	retry   bool               // this pass has left something to try again
	took    bool               // and the vendor has taken something
	asked   time.Duration      // how long the vendor asks to wait
	wait    time.Duration      // the last rest
	until   time.Time          // its end; zero: nothing is to be tried again
}

// begin begins a pass at now.
func (l *lane) begin(now time.Time) {
	l.resting = now.Before(l.until)
	l.failed, l.retry, l.took, l.asked = 0, false, false, 0
}

// rests reports whether nothing more of the lane is to be tried in this pass.
func (l *lane) rests() bool { return l.resting || l.tired() }

// tired reports whether it has come to rest in this pass.
func (l *lane) tired() bool { return l.failed >= notifyChunk }

// add counts one notification of a pass.
func (l *lane) add(s sent) {
	l.retry = l.retry || s.retry
	l.asked = max(l.asked, s.RetryAfter)
	switch {
	case s.retry && (s.Class == crier.OutcomeUnavailable || s.Class == crier.OutcomeConfiguration):
		l.failed++
		l.class = s.Class
	default:
		l.failed = 0
		l.took = l.took || s.Class == crier.OutcomeAccepted
	}
}

// end ends a pass at now; all: it has come to everybody. The rest is twice the last one, unless the vendor has taken something, and
// as long as the vendor asks.
func (l *lane) end(now time.Time, all bool) {
	switch {
	case l.resting:
		return
	case !l.retry && all:
		l.until = time.Time{}
		return
	}
	most := lastRetry
	if l.class == crier.OutcomeConfiguration {
		most = lastMend
	}
	if l.wait = min(2*l.wait, most); l.took || l.wait == 0 {
		l.wait = firstRetry
	}
	l.until = now.Add(max(l.wait/2+rand.N(l.wait), min(l.asked, askedMost)))
}
