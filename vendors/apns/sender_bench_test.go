package apns_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/apns"
	"github.com/crier-im/crier/vendors/apnssim"
)

// atOnce is how many notifications are under way in the benchmarks.
const atOnce = 1000

// BenchmarkSend and BenchmarkRaw send to a simulator in this process, whose work is a part of both.
func BenchmarkSend(b *testing.B) {
	b.ReportAllocs()
	w := newWorld(b, apnssim.Options{NoPrefixes: true})
	s := w.sender(b, apns.Options{})
	m := message("One notification.", "")
	var next atomic.Int64
	var wg sync.WaitGroup
	expires := time.Now().Add(time.Hour)
	b.ResetTimer()
	for range atOnce {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				o := s.Send(b.Context(), &crier.DevicePush{
					App: 1, Task: "1_1_1", Device: &crier.Device{Vendor: crier.APNs, Token: fmt.Sprintf("%064x", i), Target: bundle}, Message: m, Expires: expires,
				})
				if o.Class != crier.OutcomeAccepted {
					b.Errorf("%+v", o)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkRaw(b *testing.B) {
	b.ReportAllocs()
	w := newWorld(b, apnssim.Options{NoPrefixes: true})
	tokens := make([]string, b.N)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("%064x", i)
	}
	b.ResetTimer()
	o := apns.Options{Endpoint: w.URL(), RootCAs: w.CA().Pool(), Concurrency: atOnce}
	if _, err := apns.MeasureRaw(b.Context(), w.credential, o, tokens, []byte(`{"aps":{"alert":"One notification."}}`)); err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(w.Connections()), "connections")
}
