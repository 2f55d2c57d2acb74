package apnssim

import (
	"container/list"
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Notification is what a device got.
type Notification struct {
	Received   time.Time       `json:"received"`
	Token      string          `json:"token"`
	Topic      string          `json:"topic"`
	PushType   string          `json:"push_type"`
	Priority   int             `json:"priority"`
	Expiration *int64          `json:"expiration"` // unix seconds; null: not given
	CollapseID string          `json:"collapse_id,omitempty"`
	ID         string          `json:"id"`
	UniqueID   string          `json:"unique_id,omitempty"`
	Replaced   int             `json:"replaced,omitempty"` // earlier ones with its collapse id that it took the place of
	Payload    json.RawMessage `json:"payload"`
}

// store is what the devices show, the latest most of them. Its zero value needs init.
type store struct {
	mu       sync.Mutex
	most     int
	order    *list.List // of *Notification, oldest first
	collapse map[collapseKey]*list.Element
	devices  map[string]*device
}

type collapseKey struct{ token, id string }

// device is what is known of a token that has notifications.
type device struct {
	topic  string // the app that it belongs to: the first that pushed to it
	kept   int
	window time.Time // the second that is counted
	count  int
}

func (s *store) init(most int) {
	s.most, s.order = most, list.New()
	s.collapse, s.devices = make(map[collapseKey]*list.Element), make(map[string]*device)
}

// show adds a notification, in the place of one with its collapse id. It is false for a token of another app.
func (s *store) show(n Notification) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[n.Token]
	if d == nil {
		d = &device{topic: n.Topic}
		s.devices[n.Token] = d
	}
	if d.topic == "" {
		d.topic = n.Topic
	}
	if !covers(d.topic, n.Topic) && !covers(n.Topic, d.topic) {
		return false
	}
	d.kept++
	key := collapseKey{n.Token, n.CollapseID}
	if old, ok := s.collapse[key]; ok {
		n.Replaced = old.Value.(*Notification).Replaced + 1
		s.removeLocked(old)
	}
	element := s.order.PushBack(&n)
	if n.CollapseID != "" {
		s.collapse[key] = element
	}
	for s.order.Len() > s.most {
		s.removeLocked(s.order.Front())
	}
	return true
}

func (s *store) removeLocked(e *list.Element) {
	n := e.Value.(*Notification)
	s.order.Remove(e)
	if key := (collapseKey{n.Token, n.CollapseID}); s.collapse[key] == e {
		delete(s.collapse, key)
	}
	if d := s.devices[n.Token]; d != nil {
		if d.kept--; d.kept <= 0 {
			delete(s.devices, n.Token)
		}
	}
}

// allow counts a push to a device and reports whether it is within most a second.
func (s *store) allow(token string, most int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[token]
	if d == nil {
		d = &device{}
		s.devices[token] = d
	}
	if second := now.Truncate(time.Second); !second.Equal(d.window) {
		d.window, d.count = second, 0
	}
	d.count++
	return d.count <= most
}

// all returns what a device shows, or every one for the token "".
func (s *store) all(token string) []Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Notification, 0, s.order.Len())
	for e := s.order.Front(); e != nil; e = e.Next() {
		if n := e.Value.(*Notification); token == "" || n.Token == token {
			all = append(all, *n)
		}
	}
	return all
}

// record is a line of the log: a request and its answer.
type record struct {
	Time         time.Time     `json:"time"`
	Token        string        `json:"token"`
	Status       int           `json:"status,omitempty"`
	Reason       string        `json:"reason,omitempty"`
	Fault        string        `json:"fault,omitempty"` // where there was no answer
	Notification *Notification `json:"notification,omitempty"`
}

// journal writes the records and counts.
type journal struct {
	count, conns atomic.Int64

	mu sync.Mutex
	w  io.Writer
}

func (j *journal) add(r record) {
	j.count.Add(1)
	if j.w == nil {
		return
	}
	if r.Notification != nil && !json.Valid(r.Notification.Payload) {
		n := *r.Notification
		n.Payload, _ = json.Marshal(string(n.Payload)) // so that the line is JSON
		r.Notification = &n
	}
	line, err := json.Marshal(r)
	if err != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = j.w.Write(append(line, '\n'))
}
