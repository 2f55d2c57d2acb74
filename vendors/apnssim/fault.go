package apnssim

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Fault is a way to fail on purpose. Its zero value is none.
type Fault struct {
	Token string  // for tokens that begin so; "": all
	Share float64 // of the requests that fit, evenly spread; 0: all
	Times int     // how many requests; 0: all

	Latency    time.Duration // before the answer; alone it is no failure
	Reason     string        // the answer is this reason of Reasons
	RetryAfter time.Duration // with Reason: the header
	Since      time.Time     // with a reason of 410: its timestamp; zero: a minute ago
	Silent     bool          // there is no answer
	Reset      bool          // RST_STREAM
	Cut        bool          // the TCP connection closes
	GoAway     bool          // GOAWAY that leaves the stream out, with Reason as debug data
}

// Check returns an error for a reason that is not documented.
func (f *Fault) Check() error {
	if _, ok := statuses[f.Reason]; f.Reason != "" && !ok {
		return fmt.Errorf("%q is not a reason of APNs", f.Reason)
	}
	return nil
}

// Prefix is a beginning of device tokens that fail each in its own way.
type Prefix struct{ Token, Reason string }

// Prefixes returns the tokens that fail unless Options.NoPrefixes: those that phones cause, with words one can remember;
// and after fa, a number for every other reason.
func Prefixes() []Prefix { return append([]Prefix(nil), prefixes...) }

var prefixes = []Prefix{
	{"dead", "Unregistered"},
	{"deaf", "ExpiredToken"},
	{"badd", "BadDeviceToken"},
	{"0ff0", "DeviceTokenNotForTopic"},
	{"f100d", "TooManyRequests"},
	{"fa01", "BadCollapseId"},
	{"fa02", "BadExpirationDate"},
	{"fa03", "BadMessageId"},
	{"fa04", "BadPriority"},
	{"fa05", "BadTopic"},
	{"fa06", "DuplicateHeaders"},
	{"fa07", "IdleTimeout"},
	{"fa08", "InvalidPushType"},
	{"fa09", "MissingDeviceToken"},
	{"fa10", "MissingTopic"},
	{"fa11", "PayloadEmpty"},
	{"fa12", "TopicDisallowed"},
	{"fa13", "BadCertificate"},
	{"fa14", "BadCertificateEnvironment"},
	{"fa15", "BadEnvironmentKeyIdInToken"},
	{"fa16", "ExpiredProviderToken"},
	{"fa17", "Forbidden"},
	{"fa18", "InvalidProviderToken"},
	{"fa19", "MissingProviderToken"},
	{"fa20", "UnrelatedKeyIdInToken"},
	{"fa21", "BadPath"},
	{"fa22", "MethodNotAllowed"},
	{"fa23", "PayloadTooLarge"},
	{"fa24", "TooManyProviderTokenUpdates"},
	{"fa25", "InternalServerError"},
	{"fa26", "ServiceUnavailable"},
	{"fa27", "Shutdown"},
}

// faults are the faults in force and how often each was met.
type faults struct {
	mu  sync.Mutex
	all []Fault
	met []float64 // requests that fitted, times the share
	hit []int
}

func (f *faults) set(all []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append([]Fault(nil), all...)
	f.met, f.hit = make([]float64, len(all)), make([]int, len(all))
}

// of returns the fault of the next request for a token, ok if there is one.
func (f *faults) of(token string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.all {
		if strings.HasPrefix(token, strings.ToLower(f.all[i].Token)) && f.takeLocked(i) {
			return f.all[i], true
		}
	}
	return Fault{}, false
}

// takeLocked counts a request and reports whether it is one that fails: with a
// share of 0.25 every fourth.
func (f *faults) takeLocked(i int) bool {
	fault := &f.all[i]
	if fault.Times > 0 && f.hit[i] >= fault.Times {
		return false
	}
	if fault.Share > 0 {
		f.met[i] += fault.Share
		if f.met[i] < 1 {
			return false
		}
		f.met[i]--
	}
	f.hit[i]++
	return true
}

// faultOf returns what is to go wrong with a request.
func (s *Server) faultOf(r *request) Fault {
	if f, ok := s.faults.of(r.token()); ok {
		return f
	}
	if !s.options.NoPrefixes {
		for _, p := range prefixes {
			if strings.HasPrefix(r.token(), p.Token) {
				return Fault{Reason: p.Reason}
			}
		}
	}
	return Fault{}
}
