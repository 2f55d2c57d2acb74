package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// everyone is why a push to all is for somebody, in the words of the server too.
const everyone = "everyone"

// scene is one push and who should get it.
type scene struct {
	title string
	text  string // of the message
	task  crier.TaskID
	kept  bool
	why   func(*actor) reason
}

// reason says whether a push is for a person, in words of the story, and for whom it is for in those of the server's explanation.
type reason struct {
	matches bool
	because string
	parts   []string
}

// push sends one scene's message and waits until its campaign is done, and the phones of who is away show it.
func (s *story) push(ctx context.Context, sc *scene, p client.Push) error {
	p.Text, sc.kept = sc.text, p.LifeTime > 0
	task, err := s.cfg.Client.Push(ctx, p)
	if err != nil {
		return fmt.Errorf("%s: %w", sc.title, err)
	}
	sc.task = task
	s.scenes = append(s.scenes, sc)
	var matched uint64
	err = s.wait(ctx, sc.title, func(ctx context.Context) (bool, error) {
		reports, err := s.cfg.Client.Report(ctx, task)
		if err != nil {
			return false, err
		}
		matched = reports[0].Total
		return reports[0].Status == crier.StatusDone, nil
	})
	if err != nil {
		return err
	}
	s.say(false, "task %s: matched %d accounts", task, matched)
	return s.ring(ctx, []*scene{sc}, asleep, comesBack, staysAway)
}

// ring waits until the phones of those with one of the roles show the messages that they should. One that does not come
// is for the judge.
func (s *story) ring(ctx context.Context, scenes []*scene, roles ...role) error {
	if s.phones == nil {
		return nil
	}
	type banner struct{ token, text string }
	var people []*actor
	var due []banner
	for _, a := range s.those(roles...) {
		before := len(due)
		for _, sc := range scenes {
			if s.fate(a, sc).banner {
				due = append(due, banner{a.phone.token, sc.text})
			}
		}
		if len(due) > before {
			people = append(people, a)
		}
	}
	if len(due) == 0 {
		return nil
	}
	_ = s.wait(ctx, "the phones", func(ctx context.Context) (bool, error) {
		screens, err := s.phones.shown(ctx)
		return err == nil && !slices.ContainsFunc(due, func(b banner) bool {
			return screens[b.token] == nil || screens[b.token].banners[b.text] == 0
		}), err
	})
	s.say(false, "phones light up: %s", names(people))
	return ctx.Err()
}

// christmas pushes to all. Other accounts of the app get it too: the demo is for a
// server of its own.
func (s *story) christmas(ctx context.Context) error {
	s.say(true, "1. Christmas: a game tells every player of its event, and keeps the message for 7 days")
	sc := &scene{title: "Christmas, to all", text: "Merry Christmas! Double gems until New Year.", why: func(*actor) reason {
		return reason{true, everyone, []string{everyone}}
	}}
	return s.push(ctx, sc, client.Push{LifeTime: 7 * 24 * time.Hour, Offline: &client.OfflinePush{Title: "Christmas event"}})
}

func (s *story) stocks(ctx context.Context) error {
	a, b := "stockA-"+s.run, "stockB-"+s.run
	s.say(true, "2. Stocks: a product for whoever follows stock A or stock B; eli has just unfollowed")
	eli := s.find("eli")
	if err := s.cfg.Client.RemoveTags(ctx, map[crier.UserID][]string{eli.user: {a}}); err != nil {
		return fmt.Errorf("eli unfollows: %w", err)
	}
	eli.tags = nil
	sc := &scene{title: "Stocks, by tags", text: "A plan for your stocks.", why: func(p *actor) reason {
		var parts, follows []string
		for _, t := range p.tags {
			parts = append(parts, fmt.Sprintf("tag %q", t))
			follows = append(follows, strings.TrimSuffix(t, "-"+s.run))
		}
		switch {
		case len(follows) > 0:
			return reason{true, "follows " + strings.Join(follows, " and "), parts}
		case p == eli:
			return reason{because: "unfollowed"}
		}
		return reason{because: "follows neither"}
	}}
	return s.push(ctx, sc, client.Push{LifeTime: time.Hour, Condition: crier.ConditionSpec{TagsOr: []string{a, b}}})
}

func (s *story) platinum(ctx context.Context) error {
	s.say(true, "3. Platinum in Shenzhen: an offer for platinum members in one city, online only; fay has just moved there")
	fay := s.find("fay")
	if err := s.cfg.Client.SetAttrs(ctx, map[crier.UserID]map[string]string{fay.user: {"city": "Shenzhen"}}); err != nil {
		return fmt.Errorf("fay moves: %w", err)
	}
	fay.attrs["city"] = "Shenzhen"
	sc := &scene{title: "Platinum in Shenzhen, by attributes", text: "Tonight in Shenzhen, for you.", why: func(p *actor) reason {
		because := "platinum in Shenzhen"
		switch {
		case p.attrs == nil:
			return reason{because: "has no attributes"}
		case p.attrs["level"] != "platinum":
			return reason{because: "is " + p.attrs["level"]}
		case p.attrs["city"] != "Shenzhen":
			return reason{because: "is in " + p.attrs["city"]}
		case p == fay:
			because = "platinum, moved to Shenzhen"
		}
		return reason{true, because, []string{`attribute level is "platinum"`, `attribute city is "Shenzhen"`}}
	}}
	return s.push(ctx, sc, client.Push{Condition: crier.ConditionSpec{AttrsAnd: map[string]string{"level": "platinum", "city": "Shenzhen"}}})
}

// fallBack waits until vendors are told of who is connected and acknowledges nothing.
func (s *story) fallBack(ctx context.Context) error {
	people := s.those(silent)
	if len(people) == 0 || s.fallback == 0 {
		return nil
	}
	s.say(true, "4. The app of %s has acknowledged nothing for %v: it may be dead, so the vendor is told after all", people[0].name, s.fallback)
	return s.ring(ctx, s.scenes, silent)
}

// comeBack lets some who were away log in: their mailbox comes, in order.
func (s *story) comeBack(ctx context.Context) error {
	people := s.those(comesBack)
	number := 4
	if s.phones != nil {
		number = 5
	}
	s.say(true, "%d. %s come back and find what was kept for them", number, names(people))
	if away := s.those(staysAway, loggedOut); len(away) > 0 {
		s.say(false, "who does not: %s", names(away))
	}
	for _, a := range s.those(asleep) {
		s.say(false, "%s opens the app", a.name)
		a.listen.Foreground()
		close(a.awake)
	}
	s.back = true
	for _, a := range people {
		a.disconnect() // it has registered its phone and gone, if it ever came
		if err := s.connect(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}
