package vendors_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apnssim"
)

const (
	// outage is how long the vendor is away.
	outage = time.Minute
	// chunk is how many accounts a partition notifies before the log has what became of them.
	chunk = 64
)

// slowly makes a broadcast of the audience take some seconds, so that something can happen in its middle.
var slowly = struct {
	how   apnssim.Options
	flags []string
}{apnssim.Options{Latency: 20 * time.Millisecond}, []string{"--vendors-concurrency", "20"}}

// halfway waits until a part of the audience has been notified, and not all of it.
func (s *stage) halfway() {
	s.t.Helper()
	eventually(s.t, "a part of the audience is notified", func() bool { return s.log.count() >= audience/4 })
}

func TestKillNineInABroadcast(t *testing.T) {
	t.Parallel()
	s := setUp(t, slowly.how, slowly.flags...)
	all := phones("aa", audience)
	s.register(all)
	task := s.push()
	s.halfway()
	s.kill()
	before := s.log.count()
	if before >= audience {
		t.Fatalf("%d were notified before the kill: the test has tested nothing", before)
	}
	s.start()
	if v := s.finished(task, audience); v.Accepted != audience {
		t.Errorf("funnel: %+v", v)
	}
	repeats := s.allTaken(all)
	t.Logf("%d requests before the kill, %d repeated", before, repeats)
	if repeats > partitions*chunk {
		t.Errorf("%d notifications were repeated, want no more than a chunk of %d in each of %d partitions", repeats, chunk, partitions)
	}
	replaced := 0
	for _, n := range s.sim.Notifications() {
		replaced += n.Replaced
	}
	if replaced != repeats {
		t.Errorf("%d notifications replaced an earlier one, of %d repeats", replaced, repeats)
	}
}

func TestVendorIsAwayInABroadcast(t *testing.T) {
	t.Parallel()
	s := setUp(t, slowly.how, slowly.flags...)
	all := phones("bb", audience)
	s.register(all)
	task := s.push()
	s.halfway()
	if err := s.sim.Close(); err != nil {
		t.Fatal(err)
	}
	before := s.log.count()
	if before >= audience {
		t.Fatalf("%d were notified before: the test has tested nothing", before)
	}
	time.Sleep(outage)
	failed := s.metric("crier_vendor_outcomes_total", `class="unavailable"`)
	s.startSim(t)
	if v := s.finished(task, audience); v.Accepted != audience {
		t.Errorf("funnel: %+v", v)
	}
	if repeats := s.allTaken(all); repeats > partitions*chunk {
		t.Errorf("%d notifications were repeated", repeats)
	}
	// In each pass of a partition the lane rests after a chunk that failed as a whole, for 0.25 s at least, then for 0.5 s, 1 s and so on
	// up to 15 s: these are ten passes in a minute, and what was under way in the first.
	if most := float64(partitions * chunk * 11); failed == 0 || failed > most {
		t.Errorf("%v attempts failed in %v, want some and no more than %v", failed, outage, most)
	}
	tried := slices.IndexFunc(all, func(p phone) bool { return len(s.explain(task, p.user).Attempts) > 1 })
	if tried < 0 {
		t.Fatal("nobody was tried twice")
	}
	attempts := s.explain(task, all[tried].user).Attempts
	first, last := attempts[0], attempts[len(attempts)-1]
	if first.Outcome != string(crier.OutcomeUnavailable) || first.Reason == "" || last.Outcome != string(crier.OutcomeAccepted) || last.Tries < 2 {
		t.Errorf("explained as %+v", attempts)
	}
	t.Logf("%d requests before, %v attempts failed in %v; one account: %+v", before, failed, outage, attempts)
}

func TestSlowVendor(t *testing.T) {
	t.Parallel()
	s := setUp(t, apnssim.Options{Latency: time.Second}, "--vendors-concurrency", "500")
	all := phones("cc", audience)
	s.register(all)
	task := s.push()
	if v := s.finished(task, audience); v.Accepted != audience {
		t.Errorf("funnel: %+v", v)
	}
	if repeats := s.allTaken(all); repeats != 0 {
		t.Errorf("%d notifications were repeated: a slow answer is no failure", repeats)
	}
	if failed := s.metric("crier_vendor_outcomes_total", `class="unavailable"`); failed != 0 {
		t.Errorf("%v attempts failed", failed)
	}
}

// A vendor may break off any request, and any connection, without a fault of the notification.
func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]apnssim.Fault{
		"goaway": {GoAway: true, Share: 0.01}, "goaway with a reason": {GoAway: true, Reason: "Shutdown", Share: 0.01},
		"reset": {Reset: true, Share: 0.05}, "cut": {Cut: true, Share: 0.005}, "busy": {Reason: "ServiceUnavailable", Share: 0.05},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setUp(t, apnssim.Options{})
			s.sim.SetFault(fault)
			all := phones("dd", audience)
			s.register(all)
			if v := s.finished(s.push(), audience); v.Accepted != audience {
				t.Errorf("funnel: %+v", v)
			}
			broken := 0
			for _, rs := range s.log.byToken() {
				for _, r := range rs {
					if r.Status != http.StatusOK {
						broken++
					}
				}
			}
			if broken == 0 {
				t.Error("nothing was broken: the test has tested nothing")
			}
			t.Logf("%d requests failed, %d were repeated without need, over %d connections", broken, s.allTaken(all), s.sim.Connections())
		})
	}
}
