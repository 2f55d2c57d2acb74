package contract

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
)

// operator is about what the operator's API must keep to for the rest: changes of an app at
// the same time all stand, and durations are seconds.
func operator(t *testing.T, s *suite) {
	a := s.newTenant(t)
	limits := []string{
		"push_interval", "pushes_per_day", "kept_pushes", "msg_random_window", "calls_per_second", "push_body_bytes", "body_bytes", "accounts_per_call",
		"add_tag_accounts", "imports_per_call", "tags_per_call", "tags_per_account", "sessions_per_user", "in_flight_messages",
	}
	for round := 1; round <= 5; round++ {
		var wg sync.WaitGroup
		for _, name := range limits {
			wg.Go(func() { a.limit(t, name, round) })
		}
		wg.Wait()
		got, _ := s.operate(t, http.MethodGet, "/v1/apps/"+a.id.String(), "")["limits"].(map[string]any)
		for _, name := range limits {
			if got[name] != float64(round) {
				t.Errorf("round %d: %s is %v", round, name, got[name])
			}
		}
	}
	for value, seconds := range map[string]float64{`1.5`: 1.5, `"1.5s"`: 1.5, `"168h"`: 604800, `0.001`: 0.001, `0`: 0} {
		a.patch(t, `{"limits":{"push_interval":`+value+`}}`)
		got := s.operate(t, http.MethodGet, "/v1/apps/"+a.id.String(), "")
		equal(t, reply(got["limits"].(map[string]any)), "push_interval", strconv.FormatFloat(seconds, 'f', -1, 64))
	}
	escapedNames(t, s.newTenant(t))
}
