package apns

import (
	"sync"
	"time"

	"github.com/sideshow/apns2/token"
)

const (
	// tokenAge is how long a provider token is used. APNs refuses it after an hour.
	tokenAge = 50 * time.Minute
	// renewalGap is how often, at most, a refusal makes a new one: APNs answers 429 to a token that
	// changes more often than every 20 minutes, so a wrong clock must not make one for each push.
	renewalGap = 20 * time.Minute
)

// bearer is the provider token that all sends of a credential share. Safe for concurrent use.
//
// token.Token renews itself too, by the system's clock only, hides an error, and does not tell which of
// two callers that were refused comes second.
type bearer struct {
	now func() time.Time

	mu      sync.Mutex
	token   token.Token
	made    time.Time
	renewed time.Time // the last time that a refusal made a new one
}

// get returns the current token, a new one where it is too old.
func (b *bearer) get() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if age := now.Sub(b.made); b.token.Bearer != "" && age >= 0 && age < tokenAge {
		return b.token.Bearer, nil
	}
	return b.makeLocked(now)
}

// renew replaces a token that APNs called expired. Whoever was refused with the
// same one gets the same new one; ok is false where a refusal made one of late already.
func (b *bearer) renew(refused string) (ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.token.Bearer != refused {
		return true
	}
	if since := now.Sub(b.renewed); since >= 0 && since < renewalGap {
		return false
	}
	_, err := b.makeLocked(now)
	b.renewed = now
	return err == nil
}

func (b *bearer) makeLocked(now time.Time) (string, error) {
	if _, err := b.token.Generate(); err != nil {
		return "", err
	}
	b.made = now
	return b.token.Bearer, nil
}
