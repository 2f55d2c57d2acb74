package apns

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
	"golang.org/x/net/http2"

	"github.com/crier-im/crier"
)

// MeasureRaw returns how many notifications a second apns2's own client sends over its own HTTP/2 transport: o.Concurrency
// goroutines push one payload to each token in turn, and nothing else. Each notification has a name of its own, as a Sender's has. It
// is the limit that benchmarks of notifications compare with. The credential is a token's key. It blocks until all are accepted; a
// notification that is not ends it with an error.
func MeasureRaw(ctx context.Context, c crier.Credential, o Options, tokens []string, body []byte) (perSecond float64, err error) {
	id, err := parseKey(c)
	if err != nil {
		return 0, err
	}
	client := apns2.NewTokenClient(&token.Token{AuthKey: id.key, KeyID: id.KeyID, TeamID: id.TeamID})
	client.Host = o.Endpoint
	if t, ok := client.HTTPClient.Transport.(*http2.Transport); ok { //nolint:staticcheck // apns2's own
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs} //nolint:staticcheck // apns2's transport is of this type
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	names := make([]string, len(tokens)) // a request with those of the one before takes less, in the headers' compression
	for i := range names {
		names[i] = uuid.NewString()
	}
	expires := time.Now().Add(time.Hour)
	var next atomic.Int64
	var wg sync.WaitGroup
	started := time.Now()
	for range o.Concurrency {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(tokens)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				r, err := client.PushWithContext(ctx, &apns2.Notification{
					ApnsID: names[i], CollapseID: names[i], DeviceToken: tokens[i], Topic: c.Target, Expiration: expires,
					Priority: apns2.PriorityHigh, PushType: apns2.PushTypeAlert, Payload: body,
				})
				switch {
				case err != nil:
					cancel(fmt.Errorf("push: %w", err))
				case r.StatusCode != http.StatusOK:
					cancel(fmt.Errorf("push: status %d, %s", r.StatusCode, r.Reason))
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return float64(len(tokens)) / time.Since(started).Seconds(), nil
}
