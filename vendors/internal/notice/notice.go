// Package notice reads what a notification to any vendor has: its words in the
// device's language, cut to size, the vendors' own fields of OfflinePushInfo, and the
// name under which a repeat replaces it.
package notice

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/crier-im/crier"
)

const (
	// keyBytes of a digest make 32 characters of base64url: the longest Topic of Web Push (RFC 8030, 5.4).
	keyBytes = 24
	// MostTTL is the longest time that FCM and the push services of browsers keep a notification: four weeks.
	MostTTL = 28 * 24 * time.Hour
	// mostRetryAfter bounds what a vendor may ask to wait: an endpoint of Web Push is anyone's server.
	mostRetryAfter = time.Hour
)

// Notice is what one device is to show, and how.
type Notice struct {
	crier.Notification
	Google Google
}

// Google is the fields of AndroidInfo that are FCM's, and the Sound, which is everyone's.
type Google struct {
	Image     string `json:"GoogleImage"`
	Priority  string `json:"GooglePriority"` // "normal", or else "high"
	ChannelID string `json:"GoogleChannelID"`
	Sound     string `json:"Sound"`
}

// Normal reports whether the sender asked for a push that may wait until the device wakes.
func (g *Google) Normal() bool { return strings.EqualFold(g.Priority, "normal") }

// offline is what this package reads of OfflinePushInfo.
type offline struct {
	MultiLanguageContent []words
	AndroidInfo          Google
}

type words struct{ Language, Title, Desc string }

// Of composes the notice of a push. Parts of OfflinePushInfo that can't be read count as absent: the REST API has
// checked the kinds of the fields that it knows. Names match exactly, as encoding/json would not have it.
func Of(p *crier.DevicePush) Notice {
	n := Notice{Notification: p.Message.Notification(p.Language)}
	var o struct {
		MultiLanguageContent jsontext.Value
		AndroidInfo          jsontext.Value
	}
	if len(p.Message.Offline.Raw) == 0 || json.Unmarshal(p.Message.Offline.Raw, &o) != nil {
		return n
	}
	var read offline
	_ = json.Unmarshal(o.MultiLanguageContent, &read.MultiLanguageContent) // absent, or not of this form
	_ = json.Unmarshal(o.AndroidInfo, &read.AndroidInfo)
	n.Google = read.AndroidInfo
	if w := pick(read.MultiLanguageContent, p.Device.Language); w != nil {
		if w.Title != "" {
			n.Title = w.Title
		}
		if w.Desc != "" {
			n.Text = w.Desc
		}
	}
	if n.Google.Sound != "" {
		n.Sound = n.Google.Sound
	}
	return n
}

// pick finds the words for a device's language by the lookup of RFC 4647, 3.4: the language itself, else with
// subtags taken from its end. nil: none fits.
func pick(all []words, language string) *words {
	language = strings.ReplaceAll(language, "_", "-")
	for language != "" {
		for i := range all {
			if strings.EqualFold(strings.ReplaceAll(all[i].Language, "_", "-"), language) {
				return &all[i]
			}
		}
		language = language[:max(strings.LastIndexByte(language, '-'), 0)]
	}
	return nil
}

// Key is the name of a task's notification on a device: 32 characters of
// base64url, the same for a repeat.
func Key(task crier.TaskID) string {
	sum := sha256.Sum256([]byte(task))
	return base64.RawURLEncoding.EncodeToString(sum[:keyBytes])
}

// TTL is how long a vendor may keep a notification that expires at the given
// time, in whole seconds: 0 for the zero time and for what has passed.
func TTL(expires, now time.Time) time.Duration {
	if expires.IsZero() || !expires.After(now) {
		return 0
	}
	return min(expires.Sub(now), MostTTL).Truncate(time.Second)
}

// RetryAfter reads the header of that name, in seconds or as a date; 0: it is absent or makes no sense.
// More than an hour counts as an hour.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, mostRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), mostRetryAfter)
}
