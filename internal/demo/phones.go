package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/vendorsim"
)

// phone is what a person can be notified on.
type phone struct {
	vendor   crier.Vendor
	platform crier.Platform
	token    string
	gone     string // FCM's reason for a phone that is no more; "": it is there
	unread   int    // that the app tells of when it goes to the background
}

func iPhone() *phone  { return &phone{vendor: crier.APNs, platform: crier.IPhone, unread: 3} }
func android() *phone { return &phone{vendor: crier.FCM, platform: crier.Android} }

// goneAndroid is a phone of which the simulator says so, by the beginning of its token.
func goneAndroid() *phone {
	return &phone{vendor: crier.FCM, platform: crier.Android, gone: "UNREGISTERED"}
}

// name gives the phone a token of its own.
func (p *phone) name(owner string) {
	sum := sha256.Sum256([]byte(owner))
	p.token = "1" + hex.EncodeToString(sum[:])[1:] // with a 1 begins no token that the simulators let fail
	if p.vendor == crier.FCM {
		p.token = owner + ":" + p.token
	}
	if p.gone != "" {
		p.token = p.gone + ":" + p.token
	}
}

func (p *phone) target() string {
	if p.vendor == crier.APNs {
		return BundleID
	}
	return vendorsim.Project
}

// device is what the operator's API tells of a phone.
type device struct {
	Vendor    crier.Vendor   `json:"vendor"`
	Token     string         `json:"token"`
	Target    string         `json:"target,omitempty"`
	Platform  crier.Platform `json:"platform"`
	BadgeBase int            `json:"badge_base,omitempty"`
}

func (s *story) devicesPath(a *actor) string {
	return "/v1/apps/" + s.cfg.Client.App().String() + "/users/" + url.PathEscape(string(a.user)) + "/devices"
}

// devices returns where vendors can reach a person.
func (s *story) devices(ctx context.Context, a *actor) ([]device, error) {
	var answer struct{ Devices []device }
	err := s.cfg.Operator(ctx, http.MethodGet, s.devicesPath(a), nil, &answer)
	return answer.Devices, err
}

// phones reads what the simulators have received.
type phones struct{ page, fcm string }

// screen is what one phone shows: its banners by their text, and the number on the app's icon, nil for none.
type screen struct {
	banners map[string]int
	badge   *int
}

// shown returns the screens by token. Phones that got nothing are not there.
func (p *phones) shown(ctx context.Context) (map[string]*screen, error) {
	var apple []struct {
		Token   string
		Payload struct {
			Aps struct {
				Alert json.RawMessage
				Badge *int
			}
		}
	}
	if err := get(ctx, p.page+"/notifications", &apple); err != nil {
		return nil, err
	}
	var google []struct{ Token, Body, Tag string }
	if err := get(ctx, p.fcm+"/messages", &google); err != nil {
		return nil, err
	}
	screens := make(map[string]*screen)
	on := func(token string) *screen {
		if screens[token] == nil {
			screens[token] = &screen{banners: make(map[string]int)}
		}
		return screens[token]
	}
	for _, n := range apple {
		var alert struct{ Body string }
		if json.Unmarshal(n.Payload.Aps.Alert, &alert.Body) != nil { // a text, else an object
			_ = json.Unmarshal(n.Payload.Aps.Alert, &alert)
		}
		sc := on(n.Token)
		sc.banners[alert.Body]++
		if n.Payload.Aps.Badge != nil {
			sc.badge = n.Payload.Aps.Badge
		}
	}
	replaced := make(map[string]bool) // a phone shows one of each tag
	for _, m := range google {
		if key := m.Token + " " + m.Tag; m.Tag == "" || !replaced[key] {
			replaced[key] = true
			on(m.Token).banners[m.Body]++
		}
	}
	return screens, nil
}

func get(ctx context.Context, url string, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}
