package apnssim

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// decide checks a request and returns the answer; a notification that is taken is shown.
func (s *Server) decide(c *conn, r *request, f Fault) reply {
	now := s.now()
	answer := reply{status: http.StatusOK, id: r.id(), reason: f.Reason, retryAfter: f.RetryAfter, timestamp: f.Since}
	topic := r.header["apns-topic"]
	if answer.reason == "" {
		topic, answer.reason = s.check(&c.auth, r, now)
	}
	n := notification(r, topic, now)
	n.ID = answer.id
	if s.options.Sandbox {
		answer.uniqueID = uuid.NewString()
		n.UniqueID = answer.uniqueID
	}
	if answer.reason == "" && !s.shown.show(n) {
		answer.reason = "DeviceTokenNotForTopic"
	}
	if answer.reason != "" {
		answer.status = statuses[answer.reason]
	}
	if answer.status != http.StatusGone {
		answer.timestamp = time.Time{}
	} else if answer.timestamp.IsZero() {
		answer.timestamp = now.Add(-time.Minute)
	}
	s.journal.add(record{Time: now, Token: n.Token, Status: answer.status, Reason: answer.reason, Notification: &n})
	return answer
}

// check returns the topic of a request, and the reason why it is refused.
func (s *Server) check(auth *connAuth, r *request, now time.Time) (topic, reason string) {
	if reason = r.checkRoute(); reason != "" {
		return "", reason
	}
	if given, ok := r.header["apns-topic"]; ok && !validTopic(given) {
		return "", "BadTopic"
	}
	if topic, reason = auth.check(r); reason != "" {
		return topic, reason
	}
	if len(s.options.Topics) > 0 && !slices.ContainsFunc(s.options.Topics, func(t string) bool { return covers(t, topic) }) {
		return topic, "TopicDisallowed"
	}
	if reason = r.checkHeaders(); reason == "" {
		reason = r.checkBody()
	}
	if reason == "" && s.options.PerDevice > 0 && !s.shown.allow(r.token(), s.options.PerDevice, now) {
		reason = "TooManyRequests"
	}
	return topic, reason
}

func notification(r *request, topic string, now time.Time) Notification {
	n := Notification{
		Received: now, Token: r.token(), Topic: topic, PushType: r.pushType(), Priority: 10,
		CollapseID: r.header["apns-collapse-id"], Payload: r.body,
	}
	if p, err := strconv.Atoi(r.header["apns-priority"]); err == nil {
		n.Priority = p
	}
	if e, err := strconv.ParseInt(r.header["apns-expiration"], 10, 64); err == nil {
		n.Expiration = &e
	}
	return n
}
