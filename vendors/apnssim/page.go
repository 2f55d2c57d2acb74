package apnssim

import (
	_ "embed" // the page
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

const (
	cardsMost   = 60 // devices on the page, those with the latest news
	bannersMost = 4  // notifications of a device
)

// pages answers on the admin address.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.onPage)
	mux.HandleFunc("GET /notifications", s.onNotifications)
	mux.HandleFunc("GET /ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		cert, _ := s.ca.PEM()
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(cert)
	})
	return mux
}

// onNotifications answers with what is shown, of one device with ?token=.
func (s *Server) onNotifications(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.shown.all(strings.ToLower(r.URL.Query().Get("token"))))
}

// card is one device on the page.
type card struct {
	Token, Topic string
	Badge        int
	Banners      []banner // latest first
	More, Silent int
}

// banner is one notification on the page.
type banner struct {
	Title, Subtitle, Body, Image, Ext, Sound, Level string
	At                                              time.Time
	Replaced                                        int
}

func (s *Server) onPage(w http.ResponseWriter, _ *http.Request) {
	all := s.Notifications()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = page.Execute(w, map[string]any{
		"Endpoint": s.URL(), "Sandbox": s.options.Sandbox, "Shown": len(all), "Requests": s.Requests(), "Cards": cards(all), "Prefixes": prefixes,
	})
}

// cards sorts notifications, oldest first, into devices, those with the latest news first.
func cards(all []Notification) []*card {
	byToken := make(map[string]*card)
	var order []*card
	for i := len(all) - 1; i >= 0; i-- {
		n := &all[i]
		c := byToken[n.Token]
		if c == nil {
			if len(order) == cardsMost {
				continue
			}
			c = &card{Token: n.Token, Topic: n.Topic, Badge: -1}
			byToken[n.Token] = c
			order = append(order, c)
		}
		c.add(n)
	}
	return order
}

// add puts a notification under those that are newer.
func (c *card) add(n *Notification) {
	b, badge := bannerOf(n)
	if c.Badge < 0 && badge != nil {
		c.Badge = *badge
	}
	switch {
	case b.Title == "" && b.Body == "":
		c.Silent++
	case len(c.Banners) == bannersMost:
		c.More++
	default:
		c.Banners = append(c.Banners, b)
	}
}

func bannerOf(n *Notification) (banner, *int) {
	var p struct {
		Aps struct {
			Alert, Badge, Sound json.RawMessage
			Level               string `json:"interruption-level"`
		}
		Ext, Image any
	}
	_ = json.Unmarshal(n.Payload, &p) // fields of other types stay empty
	b := banner{At: n.Received, Replaced: n.Replaced, Level: p.Aps.Level}
	var alert struct{ Title, Subtitle, Body string }
	if json.Unmarshal(p.Aps.Alert, &alert.Body) != nil { // a text, else an object
		_ = json.Unmarshal(p.Aps.Alert, &alert)
	}
	b.Title, b.Subtitle, b.Body = alert.Title, alert.Subtitle, alert.Body
	_ = json.Unmarshal(p.Aps.Sound, &b.Sound)
	b.Ext, _ = p.Ext.(string)
	b.Image, _ = p.Image.(string)
	var badge int
	if json.Unmarshal(p.Aps.Badge, &badge) != nil {
		return b, nil
	}
	return b, &badge
}
